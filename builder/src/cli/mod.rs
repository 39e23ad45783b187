//! The command line: what is asked for, run, and said about it.
//!
//! Standard output carries results (text, or JSON with `--format json`); progress and
//! errors go to standard error. Exit codes are those of [`ExitStatus`].

mod access;
mod arguments;
mod build;
mod channel;
mod channel_arguments;
mod describe;
mod diff;
mod environment;
mod group;
#[cfg(test)]
mod help_tests;
mod inspect;
mod keys;
mod lock;
mod node;
mod outcome;
mod publish;
mod show;
mod verify;

use std::path::Path;

use clap::{CommandFactory, Parser};

use crate::progress::{Progress, Verbosity};

use arguments::{Arguments, Command, Format};
pub use outcome::ExitStatus;
use outcome::{Answer, Failed};

/// Parses the process's arguments, runs the command, and prints.
pub async fn run() -> ExitStatus {
    let arguments = Arguments::parse();
    let format = arguments.format;
    let verbosity = match (arguments.quiet, arguments.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    let progress = Progress::new(verbosity);
    let done = tokio::select! {
        // First, so that the signals are caught before anything is made.
        biased;
        signal = interrupted() => Err(signal),
        done = dispatch(arguments.command, format, &progress) => done,
    };
    match done {
        Ok(answer) => print(&answer, format),
        Err(failed) => {
            eprintln!("slipway: {}", failed.message);
            failed.status
        }
    }
}

/// Waits for Ctrl-C or a polite kill. Futures that are dropped then remove what they made.
async fn interrupted() -> Failed {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |what: &str| Failed { message: what.into(), status: ExitStatus::Interrupted };
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            failed("interrupted; nothing was changed")
        }
        _ => std::future::pending().await,
    }
}

async fn dispatch(command: Command, format: Format, progress: &Progress) -> Result<Answer, Failed> {
    match command {
        Command::Lock(arguments) => lock::lock(&arguments, progress).await,
        Command::Fetch(arguments) => lock::fetch(&arguments, progress).await,
        Command::Build(arguments) => build::build(arguments, progress).await,
        Command::Report { release } => build::report(&release),
        Command::Inspect { path } => inspect::inspect(&path),
        Command::Verify(arguments) => verify::verify(&arguments),
        Command::Diff { old, new } => diff::diff(&old, &new),
        Command::Channel { command } => channel::channel(command).await,
        Command::Publish(arguments) => publish::publish(arguments, progress).await,
        Command::Group { command } => group::group(command).await,
        Command::Keys { command } => keys::keys(command, progress).await,
        Command::Node(arguments) => node::node(arguments, format, progress).await,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "slipway", &mut text);
            Ok(Answer::plain(&String::from_utf8_lossy(&text)))
        }
        Command::Man { folder } => man(&folder),
    }
}

fn man(folder: &Path) -> Result<Answer, Failed> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder))
        .map_err(Failed::other)?;
    Ok(Answer::plain(&format!("man pages written to {}\n", folder.display())))
}

fn print(answer: &Answer, format: Format) -> ExitStatus {
    use std::io::Write;
    let text = match format {
        Format::Text => answer.text.clone(),
        Format::Json if answer.json.is_null() => String::new(),
        Format::Json => format!("{:#}\n", answer.json),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitStatus::Success,
        // The reader has seen enough, as in `slipway report | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitStatus::Success,
        Err(error) => {
            eprintln!("slipway: cannot write the result: {error}");
            ExitStatus::Failure
        }
    }
}
