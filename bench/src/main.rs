//! Measures builds, sizes, boots and updates beside a peer of the same run, and writes the
//! tables of docs/benchmarks.md. `bench [SECTION]…`; without arguments all of [`SECTIONS`].
//!
//! **Invariant:** nothing here passes or fails by the clock.

mod apply;
mod boots;
mod builds;
mod bytes;
mod casync;
mod document;
mod isolated;
mod joins;
mod measure;
mod mkosi;
mod offered;
mod rauc;
mod releases;
mod sizes;
mod stock;
mod updater;
mod updates;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use vm_tests::workspace;

/// In the order in which they run.
const SECTIONS: [&str; 8] =
    ["builds", "sizes", "boots", "apply", "bytes", "updates", "updater", "joins"];

fn main() -> Result<()> {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(folder) = isolated::folder() {
        return measure_isolated(&wanted, &folder);
    }
    if wanted.is_empty() {
        wanted = SECTIONS.map(str::to_owned).to_vec();
    }
    let folder = workspace().join("target/bench");
    fs::create_dir_all(&folder)?;
    let folder = fs::canonicalize(folder)?;
    for section in &wanted {
        eprintln!("bench: {section}");
        let table = match section.as_str() {
            "builds" => builds::table(&folder)?,
            "sizes" => sizes::table(&releases::node(&folder)?)?,
            "boots" => boots::table(&folder)?,
            "apply" => apply::table(&folder)?,
            "bytes" => bytes::table(&folder)?,
            "updates" => updates::table(&folder)?,
            "updater" => updater::table(&folder)?,
            "joins" => joins::table(&folder)?,
            other => bail!("there is no section {other}: choose among {SECTIONS:?}"),
        };
        document::put(section, &(measured()? + "\n" + &table))?;
    }
    Ok(())
}

/// The part of a section that runs in the process without a network.
fn measure_isolated(wanted: &[String], folder: &Path) -> Result<()> {
    for section in wanted {
        let table = match section.as_str() {
            "boots" => boots::measure(folder)?,
            "updates" => updates::measure(folder)?,
            "updater" => updater::measure(folder)?,
            "joins" => joins::measure(folder)?,
            other => bail!("{other} boots no machine"),
        };
        isolated::leave(section, folder, &table)?;
    }
    Ok(())
}

/// When, on what, and of which commit a section was measured.
fn measured() -> Result<String> {
    let said = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(workspace())
            .output()
            .with_context(|| format!("cannot run {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cores = std::thread::available_parallelism()?;
    // The tables of the sections before are not what was measured.
    let changed = said("git", &["status", "--porcelain", "--", ".", ":!docs/benchmarks.md"])?;
    let commit = said("git", &["rev-parse", "--short", "HEAD"])?;
    let dirty = if changed.is_empty() { "" } else { " with changes" };
    Ok(format!(
        "*{date}, commit {commit}{dirty}, {cores} cores ({model}), load {load} at the end.*\n",
        date = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?,
        model = processor()?,
        load = fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or("unknown"),
    ))
}

fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    Ok(model
        .map_or_else(|| "unknown".into(), |name| name.trim_start_matches(['\t', ':', ' ']).into()))
}
