//! QEMU is killed at moments spread over whole updates, from the first byte to the blessing. Each time
//! the node boots a verified slot and goes on to the release by itself. One cut, while a release is
//! staged, [`super::follows`] makes; what a cut leaves behind at each single step, slipwayd's own
//! tests show.
//!
//! The moments follow from `SLIPWAY_POWER_SEED`, which the output names; a sweep that was stopped
//! goes on with `SLIPWAY_POWER_SKIP`, the number of cuts that it has made.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contract::Digest;
use contract::node::api::Status;
use testbed::times;
use vm_tests::machine::{Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, image, isolation, settings};

const NAME: &str = "power_cuts_only_delay";
const CUTS: u32 = 24;
const SEED: &str = "SLIPWAY_POWER_SEED";
const SKIP: &str = "SLIPWAY_POWER_SKIP";
/// Three releases in turn, so that the other slot never has the wanted one.
const VERSIONS: [&str; 3] = ["0.1.0", "0.1.1", "0.1.2"];

#[test]
#[ignore = "takes an hour: run `make soak`"]
fn power_cuts_only_delay() {
    let prepare = || {
        Site::prepare(NAME, |channel| {
            channel.publish(&image::newer(1)?)?;
            channel.publish(&image::newer(2)?)?;
            channel.group(settings::GROUP, "release: 0.1.0\nsettle: 5s")
        })
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let seed = number(SEED)?.unwrap_or(1);
    println!("power cuts, {SEED}={seed}");
    let site = Site::open(NAME)?;
    let mut document = site.settings()?;
    document["mode"] = "automatic".into();
    document["channel"]["pollInterval"] = "1m".into();
    let hardware = Hardware { durable: true, ..Hardware::default() };
    let machine = site.start(&image::test_image()?, &document, hardware.clone())?;
    runs(&site, &machine, VERSIONS[0])?;
    sweep(&site, machine, &hardware, seed)
}

/// Cuts spread over whole updates.
fn sweep(site: &Site, mut machine: Machine, hardware: &Hardware, seed: u32) -> Result<()> {
    let skip = number(SKIP)?.unwrap_or(0);
    ensure!(skip < CUTS, "{SKIP}={skip} leaves none of {CUTS} cuts");
    let begin = machine.seconds();
    wants(site, VERSIONS[1])?;
    runs(site, &machine, VERSIONS[1])?;
    let whole = machine.seconds() - begin;
    println!("an update without a cut takes {whole:.1} s");

    let mut versions = VERSIONS.iter().cycle().skip(2);
    for cut in skip..CUTS {
        let version = versions.next().context("no version")?;
        let after = whole * (f64::from(cut) + fraction(seed, cut)) / f64::from(CUTS);
        wants(site, version)?;
        times::pause(Duration::from_secs_f64(after));
        let before = site.access.status().map(|status| status.phase.to_string());
        let folder = machine.kill()?;
        machine = Machine::power_on(&folder, hardware.clone())?;
        let status = runs(site, &machine, version)?;
        println!(
            "cut {} of {CUTS} after {after:.1} s ({}): {version} blessed {:.0} s after power-on",
            cut + 1,
            before.unwrap_or_else(|_| "restarting".to_owned()),
            machine.seconds()
        );
        ensure!(status.refused.is_empty(), "refused: {:?}", status.refused);
    }
    Ok(())
}

/// Pins the group to a release and lets the node know.
fn wants(site: &Site, version: &str) -> Result<()> {
    site.channel.group(settings::GROUP, &format!("release: {version}\nsettle: 5s"))?;
    site.access.ask(&["check"])?;
    Ok(())
}

/// Waits until the node runs `version` for good.
fn runs(site: &Site, machine: &Machine, version: &str) -> Result<Status> {
    site.access.runs(machine, version, 3 * BOOT_SECONDS)
}

/// A number from 0 up to 1 that follows from seed and cut.
fn fraction(seed: u32, cut: u32) -> f64 {
    let text = Digest::of(format!("{seed} {cut}").as_bytes()).to_string();
    let number = u32::from_str_radix(text.get(..8).unwrap_or_default(), 16).unwrap_or_default();
    f64::from(number) / (f64::from(u32::MAX) + 1.0)
}

/// What the caller gave in a variable, if anything.
fn number(variable: &str) -> Result<Option<u32>> {
    let Some(text) = std::env::var_os(variable) else { return Ok(None) };
    let text = text.to_string_lossy();
    text.parse().map(Some).with_context(|| format!("{variable}={text} is no number"))
}
