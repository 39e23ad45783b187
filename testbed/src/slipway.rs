//! The `slipway` binary, as its users run it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::workspace;

/// The keys that images and channels are signed with, in the repository.
pub const DEVELOPMENT_KEYS: &str = "keys/dev";

/// The binary beside this test's, run in the repository.
///
/// # Errors
/// When it was not built.
pub fn slipway() -> Result<Command> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().map(|folder| folder.join("slipway")).find(|file| file.is_file());
    let Some(program) = found else {
        bail!("there is no `slipway` beside {}: run `cargo build -p builder`", own.display());
    };
    let mut command = Command::new(program);
    command.current_dir(workspace());
    Ok(command)
}
