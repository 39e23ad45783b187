//! A blessed release that does not boot any more. One of which a block rots is found on the other
//! slot, staged afresh and blessed again; one that panics at each start, once kubelet runs, is gone
//! back to a single time, and refused.

use anyhow::{Result, ensure};
use contract::Slot;
use contract::node::api::{Boot, CauseKind, Status};
use vm_tests::machine::{Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, isolation, settings, workspace};

const NAME: &str = "every_boot_is_counted";
const GOOD: &str = "0.1.1";
const DYING: &str = "0.1.2";
/// What the kernel says first.
const STARTED: &str = "Linux version";
/// The superblock of the root file system: the first block that a start reads.
const SUPERBLOCK: u64 = 1024;

#[test]
#[ignore = "takes ten minutes: run `make soak`"]
fn every_boot_is_counted() {
    let prepare = || {
        Site::prepare(NAME, |channel| {
            channel.publish(&image::newer(1)?)?;
            let manifest = workspace().join("manifests/images/bad/dies-once-blessed.toml");
            let out = artefacts().join(format!("{NAME}-release"));
            channel.publish(&image::build_as(&manifest, &out, Some(DYING))?)?;
            std::fs::remove_dir_all(out)?;
            channel.point(settings::CHANNEL, GOOD, &[])
        })
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let mut document = site.settings()?;
    document["mode"] = "automatic".into();
    document["channel"]["pollInterval"] = "1m".into();
    let mut machine = site.start(&image::test_image()?, &document, Hardware::default())?;
    site.access.runs(&machine, GOOD, 3 * BOOT_SECONDS)?;
    rotten_slot_is_healed(&site, &mut machine)?;
    release_that_dies_is_refused(&site, &mut machine)
}

fn rotten_slot_is_healed(site: &Site, machine: &mut Machine) -> Result<()> {
    let root = machine.partition_start("root-b")?;
    let starts = starts(machine);
    machine.spoil(root + SUPERBLOCK)?;
    machine.reset()?;
    let healed =
        |status: &Status| status.running.generation == 3 && status.running.boot == Boot::Blessed;
    let status = site.access.wait_for(machine, "healed", 6 * BOOT_SECONDS, healed)?;
    println!("{:.0} s: healed", machine.seconds());
    ensure!(status.running.slot == Slot::B, "it runs {:?}", status.running);
    ensure!(status.refused.is_empty(), "refused: {:?}", status.refused);
    fell_back(&status, GOOD)?;
    // Three of the rotten slot, one of the other, and one of what was staged afresh.
    let made = self::starts(machine) - starts;
    ensure!(made == 5, "{made} starts\n{}", machine.tail());
    Ok(())
}

fn release_that_dies_is_refused(site: &Site, machine: &mut Machine) -> Result<()> {
    site.channel.point(settings::CHANNEL, DYING, &[])?;
    site.access.ask(&["check"])?;
    // Its tries are all there once that boot has stood.
    let stood = |status: &Status| {
        let running = &status.running;
        running.version == DYING.parse().ok()
            && running.boot == Boot::Blessed
            && running.tries_left == Some(3)
    };
    site.access.wait_for(machine, "updated", 3 * BOOT_SECONDS, stood)?;
    let starts = starts(machine);
    machine.reset()?;
    let refused = |status: &Status| !status.refused.is_empty();
    let status = site.access.wait_for(machine, "refused", 10 * BOOT_SECONDS, refused)?;
    println!("{:.0} s: refused: {}", machine.seconds(), status.refused[0].cause);
    ensure!(status.refused[0].version == DYING.parse().ok(), "refused: {:?}", status.refused);
    ensure!(status.refused[0].kind == CauseKind::Lapsed, "refused: {:?}", status.refused);
    ensure!(status.running.version == GOOD.parse().ok(), "it runs {:?}", status.running);
    fell_back(&status, DYING)?;
    // Three, back, the three that it got, and back for good.
    let made = self::starts(machine) - starts;
    ensure!(made == 8, "{made} starts\n{}", machine.tail());
    Ok(())
}

fn fell_back(status: &Status, version: &str) -> Result<()> {
    let fallback = status.fallback.as_ref();
    let is_it = fallback.is_some_and(|fallback| {
        fallback.version == version.parse().ok() && fallback.kind == CauseKind::Lapsed
    });
    ensure!(is_it, "fallback: {fallback:?}");
    Ok(())
}

fn starts(machine: &Machine) -> usize {
    machine.serial().matches(STARTED).count()
}
