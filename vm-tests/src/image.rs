//! The image that scenarios boot, built by the `slipway` binary as a user would.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{artefacts, workspace};

/// Variable with the release folder, when it is built already.
pub const VARIABLE: &str = "SLIPWAY_TEST_IMAGE";

/// Release folder of `manifests/images/test.toml`.
///
/// # Errors
/// When it cannot be built.
pub fn test_image() -> Result<PathBuf> {
    match std::env::var_os(VARIABLE) {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => build("test"),
    }
}

/// Builds `manifests/images/NAME.toml` and gives the release folder.
///
/// # Errors
/// When the build fails.
pub fn build(name: &str) -> Result<PathBuf> {
    fs::create_dir_all(artefacts())?;
    let alone = File::create(artefacts().join("one-build-at-a-time"))?;
    alone.lock().context("cannot wait for another build")?;
    let out = artefacts().join(format!("release-{name}"));
    let mut command = slipway()?;
    command.arg("build").arg(workspace().join(format!("manifests/images/{name}.toml")));
    command.arg("--out").arg(&out).args(["--keys", "keys/dev"]);
    // The summary is the caller's to print.
    let status = command.stdout(Stdio::null()).status()?;
    ensure!(status.success(), "`slipway build` failed; its own message is above");
    Ok(out)
}

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

/// A private copy of the release's disk image, to be damaged.
///
/// # Errors
/// When it cannot be copied.
pub fn disk_copy(release: &Path, name: &str) -> Result<PathBuf> {
    let copy = artefacts().join(format!("{name}.raw"));
    let status = Command::new("cp")
        .args(["--sparse=always", "--reflink=auto"])
        .args([&release.join("disk.raw"), &copy])
        .status()?;
    ensure!(status.success(), "cannot copy the disk image: check that the disk is not full");
    Ok(copy)
}
