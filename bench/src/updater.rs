//! What slipwayd costs a node: the size of its program, and its memory at rest, while it
//! follows a channel and nobody asks it anything.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use contract::node::api::Boot;
use serde_json::Value;
use vm_tests::machine::{Hardware, Machine, PROBE_PORT};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, settings};

use crate::document::{head, row};
use crate::isolated;
use crate::measure::Spread;
use crate::releases;

const NAME: &str = "bench-updater";
const MANIFEST: &str = "manifests/images/test.toml";
const VERSION: &str = "0.1.0";
/// The program, in the image.
const PROGRAM: &str = "/usr/bin/slipwayd";

const UNIT: &str = "slipwayd.service";

/// How long the node is left alone before each sample.
const REST: Duration = Duration::from_secs(20);
const SAMPLES: usize = 3;

const MEGABYTE: f64 = 1e6;

/// Largest program, in MB.
const PROGRAM_GOAL: f64 = 8.0;
/// Most resident memory at rest, in MB.
const MEMORY_GOAL: f64 = 20.0;

/// Builds and publishes the test image, which has a probe that reads `/proc`; measures in a
/// process without a network, and gives the table.
///
/// # Errors
/// When the image cannot be built or the node does not come up.
pub fn table(folder: &Path) -> Result<String> {
    let release = releases::build(folder, MANIFEST, VERSION, None)?;
    let channel = Site::make_channel(NAME)?;
    channel.publish(&release)?;
    channel.point(settings::CHANNEL, VERSION, &[])?;
    isolated::table("updater", folder)
}

/// Boots the image in `folder`, and gives the table.
///
/// # Errors
/// When the node does not come up, or the probe cannot read its figures.
pub fn measure(folder: &Path) -> Result<String> {
    let release = releases::place(folder, MANIFEST, VERSION);
    let site = Site::open(NAME)?;
    let mut machine = site.start(&release, &site.settings()?, Hardware::default())?;
    let blessed = |status: &contract::node::api::Status| status.running.boot == Boot::Blessed;
    site.access.wait_for(&machine, "up", BOOT_SECONDS, blessed)?;
    site.access.ask(&["check"])?;
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        sleep(REST);
        samples.push(sample(&mut machine, UNIT)?);
    }
    machine.cut_power()?;
    lines(program_bytes(&release)?, &samples)
}

/// Memory at one moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Resident, with the program's own pages.
    pub resident: f64,
    /// Of it, what no file backs.
    pub anonymous: f64,
    /// What the kernel charges to the service, with files that it keeps in memory.
    pub charged: f64,
}

/// Of a service, by the probe of the test image.
///
/// # Errors
/// When the probe cannot read its figures.
pub fn sample(machine: &mut Machine, name: &str) -> Result<Memory> {
    let mut read = |path: &str| -> Result<String> {
        let body = machine.get(PROBE_PORT, path, BOOT_SECONDS)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    let unit = read(&format!("/unit?name={name}"))?;
    let process: u32 = property(&unit, "MainPID=")?.parse()?;
    let status = read(&format!("/read?path=/proc/{process}/status"))?;
    memory(&unit, &status)
}

/// Reads what systemd and the kernel say of a service.
///
/// # Errors
/// When one of the figures is not there.
pub fn memory(unit: &str, status: &str) -> Result<Memory> {
    let kibibytes = |name: &str| -> Result<f64> {
        let text = property(status, name)?;
        let number = text.trim().strip_suffix(" kB").with_context(|| format!("{name} {text}"))?;
        Ok(number.parse::<f64>()? * 1024.0)
    };
    Ok(Memory {
        resident: kibibytes("VmRSS:")?,
        anonymous: kibibytes("RssAnon:")?,
        charged: property(unit, "MemoryCurrent=")?.parse()?,
    })
}

fn property<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.with_context(|| format!("no {name} in {text}"))
}

/// Size of the program in the release, in bytes.
fn program_bytes(release: &Path) -> Result<f64> {
    let report: Value = serde_json::from_slice(&fs::read(release.join("report.json"))?)?;
    let entries = report["root"].as_array().context("a report without root")?;
    let entry = entries.iter().find(|entry| entry["path"] == PROGRAM);
    let bytes = entry.and_then(|entry| entry["bytes"].as_f64());
    bytes.with_context(|| format!("the report does not list {PROGRAM}"))
}

fn lines(program: f64, samples: &[Memory]) -> Result<String> {
    let mut text = head(&["`slipwayd`, MB", "measured", "goal, at most"]);
    let mut add = |name: &str, figure: String, goal: Option<f64>| {
        let goal = goal.map_or_else(String::new, |goal| goal.to_string());
        text += &row(&[name.to_owned(), figure, goal]);
    };
    add("program", format!("{:.2}", program / MEGABYTE), Some(PROGRAM_GOAL));
    let spread = |of: fn(&Memory) -> f64| -> Result<String> {
        Ok(Spread::of(samples.iter().map(|memory| of(memory) / MEGABYTE))?.to_string())
    };
    add("resident at rest", spread(|memory| memory.resident)?, Some(MEMORY_GOAL));
    add("of it, not backed by the program's file", spread(|memory| memory.anonymous)?, None);
    add("charged to the service, with files in memory", spread(|memory| memory.charged)?, None);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_systemd_and_the_kernel() -> Result<()> {
        let unit = "MainPID=7\nMemoryCurrent=3000000\n";
        let status = "Name:\tslipwayd\nVmRSS:\t    2000 kB\nRssAnon:\t    1000 kB\n";
        let expected = Memory { resident: 2_048_000.0, anonymous: 1_024_000.0, charged: 3e6 };
        assert_eq!(memory(unit, status)?, expected);
        assert!(memory("MemoryCurrent=[not set]\n", status).is_err());
        Ok(())
    }
}
