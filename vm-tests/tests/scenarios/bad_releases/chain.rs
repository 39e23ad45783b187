//! One machine that is offered one bad release after the other, and a good one at the end.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use contract::node::api::{Boot, Reached, Rule, Status};
use vm_tests::machine::{Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, settings, workspace};

/// What the kernel says first.
const STARTED: &str = "Linux version";
/// What the firmware says before it starts the loader.
const FIRMWARE: &str = "BdsDxe: starting";
/// Version of the test image.
const OLD: &str = "0.1.0";
/// Version that the good release at the end has.
const GOOD: u32 = 99;
/// Deadline of a verdict: long enough for a slow host to start everything that a bad release
/// still starts, so that the cause is the right one.
const DEADLINE: &str = "90s";
/// Seconds until the node is back: three starts of a release that only the last judge ends, five
/// minutes behind the deadline of each.
const LONGEST_FALLBACK: u64 = 6 * BOOT_SECONDS;
/// Of the good one, which a slow host must not decide.
const LATE_DEADLINE: &str = "10m";

/// A bad release and what the node must find out about it.
#[derive(Clone, Copy)]
pub struct BadRelease {
    /// Name in messages, and of its manifest.
    pub name: &'static str,
    /// Builds it, as the version given, into the folder given.
    pub build: fn(&BadRelease, &str, PathBuf) -> Result<PathBuf>,
    /// Done to the machine while its firmware starts the release, given the offset of the
    /// new slot's root on the disk.
    pub while_it_starts: Option<fn(&Machine, u64) -> Result<()>>,
    /// How far it gets.
    pub reached: Reached,
    /// A word of the cause that the node must give.
    pub cause: &'static str,
    /// How often the loader starts it.
    pub starts: usize,
}

impl BadRelease {
    /// Builds `manifests/images/bad/NAME.toml`.
    pub fn build_manifest(&self, version: &str, out: PathBuf) -> Result<PathBuf> {
        let manifest = workspace().join(format!("manifests/images/bad/{}.toml", self.name));
        image::build_as(&manifest, &out, Some(version))
    }
}

/// Builds and publishes all of them, and a good one.
pub fn prepare(test: &str, releases: &[BadRelease]) -> Result<()> {
    Site::prepare(test, |channel| {
        for (release, version) in releases.iter().zip(versions()) {
            let folder = artefacts().join(format!("{test}-release"));
            channel.publish(&(release.build)(release, &version, folder.clone())?)?;
            fs::remove_dir_all(folder)?;
        }
        channel.publish(&image::newer(GOOD)?)?;
        channel.point(settings::CHANNEL, OLD, &[])?;
        channel.group(settings::GROUP, &group(DEADLINE))
    })
}

/// The group's document, with a deadline of verdicts. There is no API server to wait for.
fn group(deadline: &str) -> String {
    let channel = settings::CHANNEL;
    format!("channel: {channel}\nsettle: 10s\ndeadline: {deadline}\napiServerGrace: 0s")
}

/// Offers each bad release in turn; gives what then may take a good one.
pub fn survive(test: &str, releases: &[BadRelease]) -> Result<(Site, Machine)> {
    let old = image::test_image()?;
    let site = Site::open(test)?;
    let hardware = Hardware { watchdog: true, ..Hardware::default() };
    let mut machine = site.start(&old, &site.settings()?, hardware)?;
    let running = |status: &Status| status.running.boot == Boot::Blessed;
    let first = site.access.wait_for(&machine, "up", BOOT_SECONDS, running)?;
    for (release, version) in releases.iter().zip(versions()) {
        falls_back(&site, &mut machine, release, &version, &first)
            .with_context(|| release.name.to_owned())?;
    }
    site.channel.group(settings::GROUP, &group(LATE_DEADLINE))?;
    Ok((site, machine))
}

/// Versions between the test image's and the good one's.
fn versions() -> impl Iterator<Item = String> {
    (1..GOOD).map(|patch| format!("0.1.{patch}"))
}

fn falls_back(
    site: &Site,
    machine: &mut Machine,
    release: &BadRelease,
    version: &str,
    first: &Status,
) -> Result<()> {
    let (begin, starts) = (machine.seconds(), starts(machine));
    site.channel.point(settings::CHANNEL, version, &[])?;
    let other_root = machine.partition_start("root-b")?;
    machine.listen_from_now()?;
    site.access.update();
    if let Some(change) = release.while_it_starts {
        machine.wait_for(FIRMWARE, BOOT_SECONDS)?;
        change(machine, other_root)?;
    }
    let tried = version.parse().ok();
    let back = |status: &Status| {
        let fallback = status.fallback.as_ref();
        fallback.is_some_and(|fallback| fallback.version == tried)
            && status.running.boot == Boot::Blessed
    };
    let status = site.access.wait_for(machine, "back", LONGEST_FALLBACK, back)?;
    let seconds = machine.seconds() - begin;
    ensure!(status.running.version == first.running.version, "it runs {:?}", status.running);
    ensure!(status.running.slot == first.running.slot, "it runs {:?}", status.running);
    let fallback = status.fallback.as_ref().context("no fallback")?;
    ensure!(fallback.reached == release.reached, "fallback: {fallback:?}");
    ensure!(fallback.cause.contains(release.cause), "fallback: {fallback:?}");
    // The last start is that of the old slot.
    let tries = self::starts(machine) - starts - 1;
    ensure!(tries == release.starts, "the loader started it {tries} times");
    println!("{}: {tries} starts, back in {seconds:.0} s: {}", release.name, fallback.cause);
    is_not_tried_again(site, machine, version)
}

fn is_not_tried_again(site: &Site, machine: &Machine, version: &str) -> Result<()> {
    let starts = starts(machine);
    site.access.ask(&["check"])?;
    let refused = |status: &Status| status.holds.iter().any(|hold| hold.rule == Rule::Refused);
    let status = site.access.wait_for(machine, "holding", 60, refused)?;
    let listed = status.refused.iter().any(|known| known.version == version.parse().ok());
    ensure!(listed, "refused: {:?}", status.refused);
    // Not even when an operator asks for an update.
    site.access.update();
    let status = site.access.wait_for(machine, "holding", 60, refused)?;
    ensure!(status.running.boot == Boot::Blessed && starts == self::starts(machine), "{status:?}");
    Ok(())
}

/// Version of the good release that is published beside the bad ones.
pub fn good() -> String {
    format!("0.1.{GOOD}")
}

/// The node takes the good one.
pub fn takes_the_good_one(site: &Site, machine: &Machine) -> Result<()> {
    site.channel.point(settings::CHANNEL, &good(), &[])?;
    site.access.update();
    site.access.runs(machine, &good(), 2 * BOOT_SECONDS)?;
    Ok(())
}

fn starts(machine: &Machine) -> usize {
    machine.serial().matches(STARTED).count()
}
