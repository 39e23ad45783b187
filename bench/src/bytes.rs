//! Bytes that an update moves, by way, for changes of different sizes; beside casync and RAUC
//! with the same images.
//!
//! Every change leads to the demo image as it is; it comes from one with an older kubelet,
//! containerd or kernel, or from nothing but another version. The other slot is empty, so only
//! the running one has blocks to give.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use vm_tests::workspace;

use crate::casync::{self, Chunked};
use crate::document::{head, row};
use crate::measure::run;
use crate::offered::{Offered, Way};
use crate::rauc::{self, Indexed};
use crate::releases;

const NEW: &str = "manifests/images/demo.toml";
const NEW_VERSION: &str = "1.1.0";
const OLD_VERSION: &str = "1.0.0";

const MEGABYTE: f64 = 1e6;

/// What an update changes, and the release that it comes from.
type Change = (&'static str, fn(&Path) -> Result<PathBuf>);

const CHANGES: [Change; 4] = [
    ("kubelet", |folder| older(folder, "manifests/images/demo-1.37.1.toml")),
    ("containerd", |folder| older(folder, "manifests/images/demo-containerd-2.4.1.toml")),
    ("kernel", older_kernel),
    ("built again", |folder| older(folder, NEW)),
];

/// Measures, and gives the table.
///
/// # Errors
/// When a release cannot be built, published or staged. What has no peer, or no older part, is
/// said in the table.
pub fn table(folder: &Path) -> Result<String> {
    let folder = folder.join("bytes");
    fs::create_dir_all(&folder)?;
    let new = releases::build(&folder, NEW, NEW_VERSION, None)?;
    let offered = Offered::new(&folder, &new)?;
    let peers = Peers::new(&folder, &images(&new, 'b'))?;
    let mut text = head(&["change", "*full*, MB", "*blocks*, MB", "casync, MB", "RAUC, MB"]);
    let mut lacking = peers.lacking.clone();
    for (what, older) in CHANGES {
        eprintln!("bench: bytes, {what}");
        let old = match older(&folder) {
            Ok(old) => old,
            Err(error) => {
                eprintln!("bench: {error:#}");
                lacking += &format!("\nNot in this run: {what}, for want of the older part.\n");
                continue;
            }
        };
        let full = stage(&folder, &offered, Way::Full, &old)?;
        let blocks = stage(&folder, &offered, Way::Blocks, &old)?;
        let [casync, rauc] = peers.bytes_after(&folder, &images(&old, 'a'))?;
        text += &row(&[
            format!("{what}: {}", difference(&old, &new)?),
            times(Some(full), blocks),
            format!("{:.2}", blocks as f64 / MEGABYTE),
            times(casync, blocks),
            times(rauc, blocks),
        ]);
    }
    Ok(text + &lacking)
}

/// Stages with `old` running, into an empty slot; gives the bytes that nginx sent.
fn stage(folder: &Path, offered: &Offered, way: Way, old: &Path) -> Result<u64> {
    let slot = folder.join("slot");
    if slot.exists() {
        fs::remove_dir_all(&slot)?;
    }
    fs::create_dir_all(&slot)?;
    releases::boot(old, &slot)?;
    Ok(offered.stage(way, &slot)?.sent)
}

/// The images that a node writes, or has written: the root, and the UKI of a slot.
fn images(release: &Path, slot: char) -> [PathBuf; 2] {
    ["root.erofs".to_owned(), format!("slipway-{slot}.efi")].map(|name| release.join(name))
}

/// The new release in the peers' own forms, as far as they are there.
#[derive(Debug)]
struct Peers {
    casync: Option<Chunked>,
    rauc: Option<Indexed>,
    /// What the table says of those that are not.
    lacking: String,
}

impl Peers {
    fn new(folder: &Path, new: &[PathBuf]) -> Result<Self> {
        let mut peers = Self { casync: None, rauc: None, lacking: String::new() };
        match casync::is_there() {
            Ok(()) => peers.casync = Some(Chunked::new(&folder.join("casync-new"), new)?),
            Err(error) => peers.lacking += &format!("\nNo casync in this run: {error:#}.\n"),
        }
        match rauc::is_there() {
            Ok(()) => peers.rauc = Some(Indexed::new(&folder.join("rauc-new"), new)?),
            Err(error) => peers.lacking += &format!("\nNo RAUC in this run: {error:#}.\n"),
        }
        Ok(peers)
    }

    /// Bytes that casync and RAUC move for a node with `old`.
    fn bytes_after(&self, folder: &Path, old: &[PathBuf]) -> Result<[Option<u64>; 2]> {
        let chunked = |new: &Chunked| -> Result<u64> {
            Ok(new.bytes_after(&Chunked::new(&folder.join("casync-old"), old)?))
        };
        let indexed = |new: &Indexed| -> Result<u64> {
            new.bytes_after(&Indexed::new(&folder.join("rauc-old"), old)?)
        };
        Ok([
            self.casync.as_ref().map(chunked).transpose()?,
            self.rauc.as_ref().map(indexed).transpose()?,
        ])
    }
}

/// Megabytes, and how many times those of *blocks*.
fn times(bytes: Option<u64>, blocks: u64) -> String {
    let Some(bytes) = bytes else { return "–".to_owned() };
    format!("{:.2} ({:.1}×)", bytes as f64 / MEGABYTE, bytes as f64 / blocks as f64)
}

/// The components of both that differ, in words.
fn difference(old: &Path, new: &Path) -> Result<String> {
    let (old, new) = (releases::document(old)?, releases::document(new)?);
    let mut words = Vec::new();
    for component in &new.components {
        let before = old.components.iter().find(|known| known.name == component.name);
        let before = before.map(|known| &known.version);
        if let Some(before) = before.filter(|before| **before != component.version) {
            words.push(format!("{} {before} → {}", component.name, component.version));
        }
    }
    words.push(format!("release {} → {}", old.version, new.version));
    Ok(words.join(", "))
}

fn older(folder: &Path, manifest: &str) -> Result<PathBuf> {
    releases::build(folder, manifest, OLD_VERSION, None)
}

/// The new image with the kernel of the suites without security updates: that of Debian's last
/// point release.
fn older_kernel(folder: &Path) -> Result<PathBuf> {
    let node = fs::read_to_string(workspace().join("manifests/images/node.toml"))?;
    let manifest = folder.join("older-kernel.toml");
    fs::write(&manifest, without_security(&node)?)?;
    let point = folder.join("point-release.lock");
    let mut lock = releases::program("slipway")?;
    lock.args(["lock", "--quiet", "--out"]).arg(&point).arg(&manifest);
    run(&lock, &folder.join("lock.log"))?;
    let locked = fs::read_to_string(workspace().join("manifests/images/node.lock"))?;
    let mixed = with_kernel_of(&locked, &fs::read_to_string(&point)?);
    ensure!(mixed != locked, "the mirror has no kernel but the locked one");
    let lock = folder.join("older-kernel.lock");
    fs::write(&lock, mixed)?;
    let release = folder.join("older-kernel");
    fs::create_dir_all(&release)?;
    releases::build(&release, NEW, OLD_VERSION, Some(&lock))
}

/// A manifest that extends the node's and leaves out the security suite.
fn without_security(node: &str) -> Result<String> {
    let table = node.split("\n\n").find(|part| part.starts_with("[debian]"));
    let table = table.context("node.toml has no table [debian]")?;
    let suite = ", \"trixie-security\"";
    ensure!(table.contains(suite), "node.toml has no suite with security updates");
    Ok(format!(
        "# The node image without security updates: for the benchmark.\n\n\
         extends = {:?}\n\n{}\n",
        fs::canonicalize(workspace())?.join("manifests/images/node.toml"),
        table.replace(suite, "")
    ))
}

/// `lock` with the kernel's packages of `other`.
fn with_kernel_of(lock: &str, other: &str) -> String {
    let is_kernel = |part: &&str| {
        part.starts_with("[[debian.package]]") && part.contains("\nname = \"linux-image-")
    };
    let mut kernels = Some(other.split("\n\n").filter(is_kernel));
    let mut parts = Vec::new();
    for part in lock.split("\n\n") {
        if !is_kernel(&part) {
            parts.push(part);
        } else if let Some(kernels) = kernels.take() {
            parts.extend(kernels);
        }
    }
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernel_of_the_other_lock_is_taken() {
        let package = |name: &str, version: &str| {
            format!("[[debian.package]]\nname = \"{name}\"\nversion = \"{version}\"")
        };
        let lock = |version: &str| {
            let names = ["kmod", "linux-image-x", "linux-image-cloud", "udev"];
            let packages = names.map(|name| package(name, version)).join("\n\n");
            format!("format = 1\n\n{packages}\n")
        };
        let mixed = with_kernel_of(&lock("2"), &lock("1"));
        let changed = ["linux-image-x", "linux-image-cloud"];
        let expected = changed
            .iter()
            .fold(lock("2"), |text, name| text.replace(&package(name, "2"), &package(name, "1")));
        assert_eq!(mixed, expected);
    }

    #[test]
    fn the_point_release_is_what_comes_without_security() -> Result<()> {
        let node = "x\n\n[debian]\nsuites = [\"trixie\", \"trixie-security\"]\n\n[boot]\n";
        let manifest = without_security(node)?;
        assert!(manifest.ends_with("[debian]\nsuites = [\"trixie\"]\n"), "{manifest}");
        assert!(without_security("x\n\n[debian]\nsuites = []\n\n").is_err());
        Ok(())
    }
}
