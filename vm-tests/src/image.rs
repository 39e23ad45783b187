//! The image that scenarios boot, built by the `slipway` binary as a user would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Result, ensure};
use testbed::slipway::{DEVELOPMENT_KEYS, slipway};
use testbed::times::{self, Phase};

use crate::{artefacts, lock, workspace};

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
    let manifest = workspace().join(format!("manifests/images/{name}.toml"));
    build_as(&manifest, &artefacts().join(format!("release-{name}")), None)
}

/// The test image once more, as version `0.1.PATCH`: newer than the test image, with another
/// root hash, and good. Where the test image was built before the tests ([`VARIABLE`]), each
/// version is built once after it.
///
/// # Errors
/// When it cannot be built.
pub fn newer(patch: u32) -> Result<PathBuf> {
    let manifest = workspace().join("manifests/images/test.toml");
    let version = format!("0.1.{patch}");
    let out = artefacts().join(format!("release-test-{version}"));
    if let Some(first) = std::env::var_os(VARIABLE)
        && written(&out).is_ok_and(|at| written(Path::new(&first)).is_ok_and(|first| at > first))
    {
        return Ok(out);
    }
    build_as(&manifest, &out, Some(&version))?;
    // It comes to a node through a channel only, so nobody boots this disk.
    fs::remove_file(out.join("disk.raw"))?;
    Ok(out)
}

/// When a release folder was written.
fn written(release: &Path) -> Result<SystemTime> {
    Ok(fs::metadata(release.join("release.json"))?.modified()?)
}

/// Builds a manifest of this repository into the folder `out`, as a version of its own.
///
/// # Errors
/// When the build fails.
pub fn build_as(manifest: &Path, out: &Path, version: Option<&str>) -> Result<PathBuf> {
    build_with(manifest, out, version, Path::new(DEVELOPMENT_KEYS))
}

/// As [`build_as`], signed by the keys of the folder `keys`.
///
/// # Errors
/// When the build fails.
pub fn build_with(
    manifest: &Path,
    out: &Path,
    version: Option<&str>,
    keys: &Path,
) -> Result<PathBuf> {
    let _alone = lock("build")?;
    let mut command = slipway()?;
    command.arg("build").arg(manifest).arg("--out").arg(out).arg("--keys").arg(keys);
    if let Some(version) = version {
        command.args(["--version", version]);
    }
    // The summary is the caller's to print.
    let status = times::during(Phase::Building, || command.stdout(Stdio::null()).status())?;
    ensure!(status.success(), "`slipway build` failed; its own message is above");
    Ok(out.to_owned())
}

/// A copy of `manifests/`, in which `from` is `to` in one file: for what an extending manifest cannot
/// change. Gives the copy.
///
/// # Errors
/// When `from` is not there once.
pub fn changed_manifests(name: &str, file: &str, from: &str, to: &str) -> Result<PathBuf> {
    let copy = artefacts().join(format!("manifests-{name}"));
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    let status =
        Command::new("cp").arg("-r").args([&workspace().join("manifests"), &copy]).status()?;
    ensure!(status.success(), "cannot copy the manifests: check that the disk is not full");
    let changed = copy.join(file);
    let text = fs::read_to_string(&changed)?;
    ensure!(text.matches(from).count() == 1, "{file} has not one `{from}`");
    fs::write(&changed, text.replace(from, to))?;
    Ok(copy)
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
