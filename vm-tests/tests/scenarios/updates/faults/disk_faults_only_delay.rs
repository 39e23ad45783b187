//! A full EFI system partition, a full state partition, and a disk that fails to write or to
//! read a sector of the other slot: the node says what failed and where, nothing that runs is
//! touched, and the update goes through once the fault is gone, even when a block of it changed
//! meanwhile.

use anyhow::{Context, Result, ensure};
use contract::node::api::{Boot, Phase, Status};
use vm_tests::machine::{Access, BadSector, Hardware, Machine, PROBE_PORT};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, isolation, settings};

const NAME: &str = "disk_faults_only_delay";
/// Free space of the ESP, in which no UKI fits.
const TOO_LITTLE: u64 = 8 << 20;
/// A place in the other slot's root, away from its ends.
const BAD_PLACE: u64 = 40 << 20;
/// The release that is offered.
const VERSION: &str = "0.1.2";
/// What the journal says when a staged release has changed.
const STAGED_AGAIN: &str = "is staged again";

#[test]
#[ignore = "four boots: run `make soak`"]
fn disk_faults_only_delay() {
    isolation::prepared(NAME, || super::prepare(NAME), scenario);
}

fn scenario() -> Result<()> {
    let (site, mut machine) = super::start(NAME)?;
    site.channel.point(settings::CHANNEL, VERSION, &[])?;
    disks_fill_up(&site, &mut machine)?;
    let offset = machine.partition_start("root-b")? + BAD_PLACE;
    let mut folder = machine.cut_power()?;
    for (access, words) in [
        (Access::Write, "cannot write the root, at byte"),
        (Access::Read, "cannot read back the root, at byte"),
    ] {
        let bad_sectors = vec![BadSector { offset, access }];
        let machine = Machine::power_on(&folder, Hardware { bad_sectors, ..Hardware::default() })?;
        fails(&site, &machine, words).with_context(|| format!("{access:?}"))?;
        folder = machine.cut_power()?;
    }
    let mut machine = Machine::power_on(&folder, Hardware::default())?;
    is_blessed(&site, &machine, "0.1.0")?;
    changes_once_staged(&site, &mut machine, VERSION)
}

/// On a node of generation 1 that has staged nothing, and is offered a release.
pub fn disks_fill_up(site: &Site, machine: &mut Machine) -> Result<()> {
    full(site, machine, "/efi", TOO_LITTLE, "EFI system partition")?;
    full(site, machine, "/var/lib/slipway", 0, "state partition")
}

/// There is no fault, but what was staged changes before it is armed: it is staged again. Leaves the
/// node on `version`, which is offered.
pub fn changes_once_staged(site: &Site, machine: &mut Machine, version: &str) -> Result<()> {
    let offset = machine.partition_start("root-b")? + BAD_PLACE;
    site.access.ask(&["stage", "--wait"])?;
    machine.spoil(offset)?;
    site.access.update();
    machine.wait_for(STAGED_AGAIN, BOOT_SECONDS)?;
    is_blessed(site, machine, version)?;
    let fallback = site.access.status()?.fallback;
    let has_failed = fallback.is_some_and(|fallback| fallback.version == version.parse().ok());
    ensure!(!has_failed, "it was started as it was");
    Ok(())
}

/// Fills the file system of `path`, sees that the node says so with `words`, and makes room again.
fn full(site: &Site, machine: &mut Machine, path: &str, leave: u64, words: &str) -> Result<()> {
    let ukis = machine.ask("/list?path=/efi/EFI/Linux")?;
    machine.get(PROBE_PORT, &format!("/fill?path={path}&leave={leave}"), BOOT_SECONDS)?;
    fails(site, machine, words).with_context(|| format!("{path} is full"))?;
    ensure!(machine.ask("/list?path=/efi/EFI/Linux")? == ukis, "the ESP has changed");
    machine.get(PROBE_PORT, &format!("/unfill?path={path}"), BOOT_SECONDS)?;
    Ok(())
}

/// Asks for the release to be staged, and sees that it cannot be, for a reason with `words` in it.
fn fails(site: &Site, machine: &Machine, words: &str) -> Result<()> {
    let before = site.access.wait_for(machine, "up", BOOT_SECONDS, |_| true)?;
    let (what, next) = match site.access.ask(&["stage"]) {
        Err(refusal) => (format!("{refusal:#}"), String::new()),
        Ok(_) => {
            let failed = |status: &Status| status.phase == Phase::Idle && status.problem.is_some();
            let status = site.access.wait_for(machine, "failed", BOOT_SECONDS, failed)?;
            let problem = status.problem.context("no problem")?;
            (problem.message, problem.next)
        }
    };
    println!("{what}; {next}");
    ensure!(what.contains(words), "the reason does not say `{words}`: {what}");
    let status = site.access.status()?;
    ensure!(status.running.generation == 1, "it runs {:?}", status.running);
    ensure!(status.running.boot == Boot::Blessed, "it runs {:?}", status.running);
    ensure!(status.refused == before.refused, "the release is held guilty: {:?}", status.refused);
    Ok(())
}

fn is_blessed(site: &Site, machine: &Machine, version: &str) -> Result<()> {
    site.access.runs(machine, version, 2 * BOOT_SECONDS)?;
    Ok(())
}
