//! The image that scenarios boot, built by the `slipway` binary as a user would.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail, ensure};

use crate::{artefacts, workspace};

/// Variable with the release folder, when it is built already.
pub const VARIABLE: &str = "SLIPWAY_TEST_IMAGE";

/// Exit code of `slipway` when a locked input is no longer to be had.
const GONE: i32 = 4;

/// Release folder of `manifests/images/test.toml`.
///
/// # Errors
/// When it cannot be built.
pub fn test_image() -> Result<PathBuf> {
    match std::env::var_os(VARIABLE) {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => build("test", None),
    }
}

/// Builds `manifests/images/NAME.toml` and gives the release folder. When Debian has
/// dropped a locked package, locks afresh into `target/` and says so.
///
/// # Errors
/// When the build fails for any other reason.
pub fn build(name: &str, version: Option<&str>) -> Result<PathBuf> {
    fs::create_dir_all(artefacts())?;
    let alone = File::create(artefacts().join("one-build-at-a-time"))?;
    alone.lock().context("cannot wait for another build")?;
    let manifest = workspace().join(format!("manifests/images/{name}.toml"));
    let suffix = version.map_or_else(String::new, |version| format!("-{version}"));
    let out = artefacts().join(format!("release-{name}{suffix}"));
    let fresh_lock = artefacts().join(format!("{name}.lock"));
    let build = |lock: Option<&Path>| -> Result<ExitStatus> {
        let mut command = slipway()?;
        command.arg("build").arg(&manifest).arg("--out").arg(&out);
        command.args(["--keys", "keys/dev"]);
        if let Some(version) = version {
            command.args(["--version", version]);
        }
        if let Some(lock) = lock {
            command.arg("--lock").arg(lock);
        }
        // The summary is the caller's to print.
        Ok(command.stdout(std::process::Stdio::null()).status()?)
    };
    let status = build(None)?;
    if status.code() != Some(GONE) {
        ensure!(status.success(), "`slipway build` failed; its own message is above");
        return Ok(out);
    }
    eprintln!(
        "\n*** A locked Debian package is no longer on the mirror.\n\
         *** This run locks afresh, into {}. The committed lock is out of date:\n\
         *** run `slipway lock manifests/images/node.toml` and commit the difference.\n",
        fresh_lock.display()
    );
    let locked = slipway()?.arg("lock").arg(&manifest).arg("--out").arg(&fresh_lock).status()?;
    ensure!(locked.success(), "`slipway lock` failed; its own message is above");
    let status = build(Some(&fresh_lock))?;
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
