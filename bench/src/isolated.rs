//! The part of a section that boots machines: in a process without a network, alone.
//!
//! In: name and working folder of a section, whose images are built already. Out: its table,
//! which that process leaves in a file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use testbed::loopback::namespace;
use vm_tests::isolation;

/// Set in the process without a network: the working folder.
const FOLDER: &str = "SLIPWAY_BENCH_ISOLATED";

/// The working folder, in the process without a network.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Starts this program again for `section`, and gives the table that it leaves.
///
/// # Errors
/// When it fails, after it has said why.
pub fn table(section: &str, folder: &Path) -> Result<String> {
    let _alone = isolation::alone()?;
    let status = namespace()
        .arg(std::env::current_exe()?)
        .arg(section)
        .env(FOLDER, folder)
        .status()
        .context("cannot run `unshare`: apt install util-linux")?;
    ensure!(status.success(), "`{section}` failed; its own message is above");
    Ok(fs::read_to_string(file(section, folder))?)
}

/// Leaves the table for the process that waits.
///
/// # Errors
/// When it cannot be written.
pub fn leave(section: &str, folder: &Path, table: &str) -> Result<()> {
    Ok(fs::write(file(section, folder), table)?)
}

fn file(section: &str, folder: &Path) -> PathBuf {
    folder.join(format!("{section}.md"))
}
