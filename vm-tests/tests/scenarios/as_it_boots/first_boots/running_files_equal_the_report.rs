//! The files that a running node sees are those of the report, no more, no fewer, with the
//! same modes and bytes; none of them is a shell, and the updater is as small as it must be.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vm_tests::machine::Machine;

/// Most bytes that the updater may have.
const LARGEST_UPDATER: u64 = 8_500_000;
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "busybox", "ash", "zsh", "sulogin"];

pub fn shows(machine: &mut Machine, release: &Path) -> Result<()> {
    let report: Value = serde_json::from_slice(&std::fs::read(release.join("report.json"))?)?;
    let expected = by_path(&report["root"])?;
    let updater = expected.get("/usr/bin/slipwayd").context("there is no updater")?;
    let bytes = updater["bytes"].as_u64().context("the updater has no size")?;
    println!("the updater has {bytes} bytes");
    ensure!(bytes <= LARGEST_UPDATER, "the updater has {bytes} bytes, over {LARGEST_UPDATER}");
    let found = by_path(&machine.ask("/files")?)?;
    let mut compared = 0;
    for (path, entry) in &found {
        let told = expected.get(path).with_context(|| format!("{path} is not in the report"))?;
        if entry["covered"] == true {
            continue;
        }
        ensure!(entry["mode"] == told["mode"], "{path}: {entry} differs from {told}");
        if entry["kind"] == "file" {
            ensure!(entry["sha256"] == told["sha256"], "{path}: {entry} differs from {told}");
            compared += 1;
        }
        if entry["kind"] == "link" {
            ensure!(entry["target"] == told["target"], "{path}: {entry} differs from {told}");
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        ensure!(!SHELLS.contains(&name), "{path} is a shell");
    }
    for (path, entry) in &expected {
        // What lies below a mount cannot be seen from inside.
        let hidden = found.iter().any(|(mount, entry)| {
            entry["covered"] == true
                && path.starts_with(&format!("{}/", mount.trim_end_matches('/')))
        });
        ensure!(hidden || found.contains_key(path), "{path} is missing: {entry}");
    }
    ensure!(compared > 300, "only {compared} files were compared");
    println!("{compared} files compared");
    Ok(())
}

fn by_path(entries: &Value) -> Result<BTreeMap<String, Value>> {
    let entries = entries.as_array().context("not a list of entries")?;
    entries
        .iter()
        .map(|entry| {
            Ok((
                entry["path"].as_str().context("an entry without a path")?.to_owned(),
                entry.clone(),
            ))
        })
        .collect()
}
