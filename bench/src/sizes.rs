//! How large the image is, and where the bytes are.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::document::{head, row};

const MEGABYTE: f64 = 1e6;

/// Size of the compressed disk image of Talos, the smallest comparable system, in MB.
const TALOS: f64 = 93.0;

/// Sizes of the release in `release`, then the parts' bytes.
///
/// # Errors
/// When a file of the release, zstd or objdump is missing.
pub fn table(release: &Path) -> Result<String> {
    let length = |name: &str| -> Result<f64> { Ok(fs::metadata(release.join(name))?.len() as f64) };
    let mut text = head(&["file", "MB", "times Talos' 93 MB"]);
    for level in ["-19", "-3"] {
        let bytes = compressed(&release.join("disk.raw"), level)?;
        let ratio = format!("{:.2}", bytes / MEGABYTE / TALOS);
        text += &row(&[format!("disk.raw, zstd {level}"), megabytes(bytes), ratio]);
    }
    let uki = release.join("slipway-a.efi");
    for (name, bytes) in [
        ("root.erofs, uncompressed", length("root.erofs")?),
        ("UKI (kernel, initrd, command line, stub, signature)", length("slipway-a.efi")?),
        ("initrd in it, zstd", section(&uki, ".initrd")?),
        ("kernel in it", section(&uki, ".linux")?),
    ] {
        text += &row(&[name.to_owned(), megabytes(bytes), String::new()]);
    }
    let report: Value = serde_json::from_slice(&fs::read(release.join("report.json"))?)?;
    text += "\n";
    text += &head(&["part", "root: files", "root: MB", "initrd: files", "initrd: MB"]);
    for (part, [root, initrd]) in parts(&report)? {
        let cells = |sum: &Sum| [sum.files.to_string(), megabytes(sum.bytes as f64)];
        text += &row(&[vec![part], cells(&root).to_vec(), cells(&initrd).to_vec()].concat());
    }
    Ok(text)
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1}", bytes / MEGABYTE)
}

/// Regular files of a part.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    files: u64,
    bytes: u64,
}

/// Parts in the order of their bytes in root and initrd, the largest first.
fn parts(report: &Value) -> Result<Vec<(String, [Sum; 2])>> {
    let mut sums: BTreeMap<String, [Sum; 2]> = BTreeMap::new();
    for (index, tree) in ["root", "initrd"].iter().enumerate() {
        let entries = report[tree].as_array().with_context(|| format!("report without {tree}"))?;
        for entry in entries.iter().filter(|entry| entry["bytes"].is_u64()) {
            let part = entry["part"].as_str().context("entry without part")?;
            let sum = &mut sums.entry(part.to_owned()).or_default()[index];
            sum.files += 1;
            sum.bytes += entry["bytes"].as_u64().unwrap_or_default();
        }
    }
    let mut sorted: Vec<_> = sums.into_iter().filter(|(_, [a, b])| a.bytes + b.bytes > 0).collect();
    sorted.sort_by_key(|(_, [root, initrd])| std::cmp::Reverse(root.bytes + initrd.bytes));
    Ok(sorted)
}

/// Length of `file` after zstd at `level`.
fn compressed(file: &Path, level: &str) -> Result<f64> {
    let mut zstd = Command::new("zstd")
        .args(["--quiet", "--stdout", "--threads=0", level])
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run zstd: apt install zstd")?;
    let mut output = zstd.stdout.take().context("zstd has no output")?;
    let bytes = io::copy(&mut output, &mut io::sink())?;
    ensure!(zstd.wait()?.success(), "zstd failed on {}", file.display());
    Ok(bytes as f64)
}

/// Length of a section of a PE file, as objdump sees it.
fn section(file: &Path, name: &str) -> Result<f64> {
    let listing = Command::new("objdump")
        .arg("--section-headers")
        .arg(file)
        .output()
        .context("cannot run objdump: apt install binutils")?;
    let text = String::from_utf8_lossy(&listing.stdout);
    let found = text.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == name).then(|| u64::from_str_radix(words.next()?, 16).ok())?
    });
    Ok(found.with_context(|| format!("{} has no {name}", file.display()))? as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_with_the_largest_first() -> Result<()> {
        let report = serde_json::json!({
            "root": [
                { "part": "small", "bytes": 1 },
                { "part": "large", "bytes": 5 },
                { "part": "links-only", "target": "x" },
            ],
            "initrd": [{ "part": "large", "bytes": 2 }],
        });
        let one = |files, bytes| Sum { files, bytes };
        assert_eq!(
            parts(&report)?,
            vec![
                ("large".to_owned(), [one(1, 5), one(1, 2)]),
                ("small".to_owned(), [one(1, 1), Sum::default()]),
            ]
        );
        Ok(())
    }
}
