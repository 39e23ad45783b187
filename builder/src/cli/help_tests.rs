//! What `--help` says of each command, as golden files: whoever changes an option sees what
//! people will read.

use clap::{Command, CommandFactory};

use super::arguments::Arguments;

/// Width of the text; a terminal's own would make another text of it.
const COLUMNS: usize = 100;

#[test]
fn help_of_every_command() {
    let mut slipway = Arguments::command().term_width(COLUMNS);
    slipway.build();
    insta::assert_snapshot!("slipway", slipway.render_long_help());
    for command in slipway.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let name = command.get_name().to_owned();
        let mut text = String::new();
        add_help(command, &mut text);
        insta::assert_snapshot!(name, text);
    }
}

/// The help of a command, and of those below it.
fn add_help(command: &mut Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    *text += &format!("$ {name} --help\n{}\n", command.render_long_help());
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        add_help(below, text);
    }
}
