//! The releases that sections measure, built by the release profile's `slipway`.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, copy};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use contract::ReleaseDocument;
use vm_tests::workspace;

use crate::measure::run;

/// Bytes in which a partition table counts.
const SECTOR: u64 = 512;

/// The node image.
///
/// # Errors
/// When it cannot be built.
pub fn node(folder: &Path) -> Result<PathBuf> {
    let release = folder.join("release");
    run(&slipway("manifests/images/node.toml", &release)?, &folder.join("slipway.log"))?;
    Ok(release)
}

/// Where [`build`] puts `manifest` as release `version`.
pub fn place(folder: &Path, manifest: &str, version: &str) -> PathBuf {
    let name = Path::new(manifest).file_stem().unwrap_or_default();
    folder.join(format!("release-{}-{version}", name.display()))
}

/// Builds `manifest` as release `version` in `folder`; `lock` when it is not the one beside the
/// manifest.
///
/// # Errors
/// When it cannot be built.
pub fn build(folder: &Path, manifest: &str, version: &str, lock: Option<&Path>) -> Result<PathBuf> {
    let release = place(folder, manifest, version);
    let mut command = slipway(manifest, &release)?;
    command.args(["--version", version]);
    if let Some(lock) = lock {
        command.arg("--lock").arg(lock);
    }
    run(&command, &folder.join("slipway.log"))?;
    Ok(release)
}

/// The release document of a release folder.
///
/// # Errors
/// When there is none.
pub fn document(release: &Path) -> Result<ReleaseDocument> {
    let bytes = fs::read(release.join("release.json"))
        .with_context(|| format!("{} is no release folder", release.display()))?;
    Ok(ReleaseDocument::from_json(&bytes)?)
}

/// What slot `a` of a node that runs `release` holds, as files in `folder`: `dev/root-a`,
/// `dev/verity-a` and `booted.efi`.
///
/// # Errors
/// When the release's disk has no such partition.
pub fn boot(release: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("dev"))?;
    for (name, from) in [("dev/root-a", "root.erofs"), ("booted.efi", "slipway-a.efi")] {
        std::os::unix::fs::symlink(release.join(from), folder.join(name))?;
    }
    let disk = release.join("disk.raw");
    let (start, bytes) = partition(&disk, "verity-a")?;
    let mut disk = File::open(disk)?;
    disk.seek(SeekFrom::Start(start))?;
    let copied = copy(&mut disk.take(bytes), &mut File::create(folder.join("dev/verity-a"))?)?;
    ensure!(copied == bytes, "the disk ends within its partition verity-a");
    Ok(())
}

/// Offset and length of a partition in bytes.
fn partition(disk: &Path, label: &str) -> Result<(u64, u64)> {
    let output = Command::new("sgdisk")
        .arg("--print")
        .arg(disk)
        .output()
        .context("cannot run sgdisk: apt install gdisk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    range(&text, label).with_context(|| format!("{} has no {label}", disk.display()))
}

/// Finds a partition in what `sgdisk --print` writes: number, first and last sector, size,
/// unit, type, label.
fn range(table: &str, label: &str) -> Option<(u64, u64)> {
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, first, last, .., name] = words[..] else { return None };
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        (name == label).then_some((first * SECTOR, (last + 1 - first) * SECTOR))
    })
}

/// A program of this workspace that `make bench` has built.
///
/// # Errors
/// When it was not.
pub fn program(name: &str) -> Result<Command> {
    let file = workspace().join("target/release").join(name);
    ensure!(file.is_file(), "there is no target/release/{name}: run `make bench`");
    Ok(Command::new(fs::canonicalize(file)?))
}

/// `slipway build` of the release profile.
///
/// # Errors
/// When `slipway` was not built.
pub fn slipway(manifest: &str, out: &Path) -> Result<Command> {
    let mut command = program("slipway")?;
    command.args(["build", manifest, "--keys", "keys/dev", "--quiet", "--out"]).arg(out);
    command.current_dir(fs::canonicalize(workspace())?);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_found_by_its_label() {
        let table = "Number  Start (sector)    End (sector)  Size       Code  Name\n   \
             2         2099200         4196351   1024.0 MiB  8304  root-a\n   \
             3         4196352         4229119   16.0 MiB    8318  verity-a\n";
        assert_eq!(range(table, "verity-a"), Some((4_196_352 * 512, 16 << 20)));
        assert_eq!(range(table, "verity-b"), None);
    }
}
