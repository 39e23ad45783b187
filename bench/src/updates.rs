//! An update until the new release is blessed, and a bad one until the old release runs again,
//! by phase: in the VM, against a channel behind nginx.
//!
//! The phases are read off the serial console, to which the demo image forwards its journal, by
//! the host's clock and to a tenth of a second. Each release is newer than the one before.

use std::path::Path;

use anyhow::{Result, ensure};
use contract::node::api::Boot;
use serde_json::json;
use vm_tests::machine::{Hardware, Machine, POD_PORT};
use vm_tests::site::Site;
use vm_tests::{BLESSED, BOOT_SECONDS, HEALTHY, settings};

use crate::document::{head, row};
use crate::isolated;
use crate::measure::Spread;
use crate::releases;

const NAME: &str = "bench-updates";
/// What the node runs at first, and what it updates to: versions and manifests.
const FIRST: (&str, &str) = ("1.0.0", "manifests/images/demo-1.37.1.toml");
/// Measured rounds: an update, and a bad release after it.
const ROUNDS: [[(&str, &str); 2]; 2] = [
    [("1.1.0", "manifests/images/demo.toml"), ("1.2.0", BAD)],
    [("1.3.0", "manifests/images/demo-1.37.1.toml"), ("1.4.0", BAD)],
];
/// Its kubelet does not start.
const BAD: &str = "manifests/images/demo-bad.toml";

/// Settling time of a verdict.
const SETTLE: &str = "10s";
/// Deadline of a verdict, which a good boot must not reach.
const DEADLINE: &str = "90s";

/// What the console says, in order. slipwayd: every byte was read back. systemd: it restarts.
const STAGED: &str = "release is staged";
const RESTARTING: &str = "Stopping slipwayd.service";
/// slipwayd: the verdict.
const BAD_VERDICT: &str = "is bad: ";
/// slipwayd, on the old slot.
const CAME_BACK: &str = "came back from release";
/// The kernel: its last line, and its first.
const OFF: &str = "reboot: Restarting system";
const KERNEL: &str = "Linux version";
/// systemd, first in the initrd and then in the root.
const SYSTEM: &str = "running in system mode";

/// Builds and publishes the releases, measures in a process without a network, and gives the
/// table.
///
/// # Errors
/// When a release cannot be built, or the node does not do what it should.
pub fn table(folder: &Path) -> Result<String> {
    let channel = Site::make_channel(NAME)?;
    for (version, manifest) in releases_in_order() {
        channel.publish(&releases::build(folder, manifest, version, None)?)?;
    }
    channel.point(settings::CHANNEL, FIRST.0, &[])?;
    isolated::table("updates", folder)
}

fn releases_in_order() -> impl Iterator<Item = (&'static str, &'static str)> {
    [FIRST].into_iter().chain(ROUNDS.into_iter().flatten())
}

/// Boots the first release in `folder`, updates it in rounds, and gives the table.
///
/// # Errors
/// When the node does not do what it should, with the console's tail.
pub fn measure(folder: &Path) -> Result<String> {
    let site = Site::open(NAME)?;
    let mut document = site.settings()?;
    document["health"] = json!({ "settle": SETTLE, "deadline": DEADLINE });
    let hardware = Hardware { settings: Some(settings::text(&document)?), ..Hardware::default() };
    let first = releases::place(folder, FIRST.1, FIRST.0);
    eprintln!("bench: updates, first boot");
    let mut machine = Machine::start_with(NAME, &first.join("disk.raw"), hardware)?;
    machine.wait_for(BLESSED, BOOT_SECONDS)?;
    let (mut updates, mut fallbacks) = (Vec::new(), Vec::new());
    for (round, [good, bad]) in ROUNDS.iter().enumerate() {
        eprintln!("bench: updates, round {} of {}", round + 1, ROUNDS.len());
        updates.push(update(&site, &mut machine, good.0)?);
        fallbacks.push(fall_back(&site, &mut machine, bad.0)?);
    }
    lines(&updates, &fallbacks)
}

/// Seconds of each phase; those that one of the two kinds does not have are `None`.
#[derive(Debug, Clone, Copy, Default)]
struct Phases {
    staging: Option<f64>,
    shutdown: f64,
    firmware: f64,
    kernel_and_initrd: f64,
    userspace: f64,
    settling: Option<f64>,
    pod: Option<f64>,
}

impl Phases {
    fn total(&self) -> f64 {
        let fixed = self.shutdown + self.firmware + self.kernel_and_initrd + self.userspace;
        let others = [self.staging, self.settling, self.pod];
        fixed + others.into_iter().flatten().sum::<f64>()
    }
}

/// Measures one stretch after the other on the console.
struct Watch<'a> {
    machine: &'a mut Machine,
    last: f64,
}

impl<'a> Watch<'a> {
    fn start(machine: &'a mut Machine) -> Self {
        let last = machine.seconds();
        Self { machine, last }
    }

    /// Seconds from the last mark until the console says `text`.
    fn until(&mut self, text: &str) -> Result<f64> {
        self.machine.wait_for(text, BOOT_SECONDS)?;
        Ok(self.lap())
    }

    /// Seconds from the last mark, which moves here.
    fn lap(&mut self) -> f64 {
        let now = self.machine.seconds();
        now - std::mem::replace(&mut self.last, now)
    }

    /// A restart, from its order until systemd of the root begins.
    fn restart(&mut self) -> Result<Phases> {
        Ok(Phases {
            shutdown: self.until(OFF)?,
            firmware: self.until(KERNEL)?,
            kernel_and_initrd: self.until(SYSTEM)? + self.until(SYSTEM)?,
            ..Phases::default()
        })
    }
}

/// From an operator's order until the new release is blessed.
fn update(site: &Site, machine: &mut Machine, version: &str) -> Result<Phases> {
    site.channel.point(settings::CHANNEL, version, &[])?;
    let mut watch = Watch::start(machine);
    site.access.update();
    let staging = watch.until(STAGED)? + watch.until(RESTARTING)?;
    let restart = watch.restart()?;
    let userspace = watch.until(HEALTHY)?;
    let settling = watch.until(BLESSED)?;
    is_running(site, machine, version)?;
    Ok(Phases { staging: Some(staging), userspace, settling: Some(settling), ..restart })
}

/// From the bad verdict until the old release runs again, with its pod.
fn fall_back(site: &Site, machine: &mut Machine, version: &str) -> Result<Phases> {
    let before = site.access.status()?.running.version.map(|version| version.to_string());
    site.channel.point(settings::CHANNEL, version, &[])?;
    site.access.update();
    machine.wait_for(RESTARTING, BOOT_SECONDS)?;
    machine.wait_for(BAD_VERDICT, BOOT_SECONDS)?;
    let mut watch = Watch::start(machine);
    let restart = watch.restart()?;
    let userspace = watch.until(CAME_BACK)?;
    watch.machine.get(POD_PORT, "/", BOOT_SECONDS)?;
    let pod = watch.lap();
    is_running(site, machine, &before.unwrap_or_default())?;
    Ok(Phases { userspace, pod: Some(pod), ..restart })
}

fn is_running(site: &Site, machine: &Machine, version: &str) -> Result<()> {
    let up = |status: &contract::node::api::Status| status.running.boot == Boot::Blessed;
    let status = site.access.wait_for(machine, "blessed", BOOT_SECONDS, up)?;
    ensure!(status.running.version == version.parse().ok(), "it runs {:?}", status.running);
    Ok(())
}

/// Takes one figure, where there is one.
type PhaseOf = fn(&Phases) -> Option<f64>;

fn lines(updates: &[Phases], fallbacks: &[Phases]) -> Result<String> {
    let mut text = head(&["phase, seconds", "update", "rollback"]);
    let phases: [(&str, PhaseOf); 8] = [
        ("download, write, verify, arm", |phases| phases.staging),
        ("shutdown", |phases| Some(phases.shutdown)),
        ("firmware and loader", |phases| Some(phases.firmware)),
        ("kernel and initrd", |phases| Some(phases.kernel_and_initrd)),
        ("userspace, until healthy; or until slipwayd says why it is back", |phases| {
            Some(phases.userspace)
        }),
        ("settling, until blessed", |phases| phases.settling),
        ("until the pod answers", |phases| phases.pod),
        ("**in all**", |phases| Some(phases.total())),
    ];
    for (name, of) in phases {
        let mut cells = vec![name.to_owned()];
        for rounds in [updates, fallbacks] {
            let figures: Vec<f64> = rounds.iter().filter_map(of).collect();
            cells.push(match figures[..] {
                [] => String::new(),
                _ => Spread::of(figures)?.to_string(),
            });
        }
        text += &row(&cells);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_one_kind_lacks_is_left_empty() -> Result<()> {
        let restart = Phases { shutdown: 1.0, firmware: 2.0, ..Phases::default() };
        let update = Phases { staging: Some(4.0), settling: Some(8.0), ..restart };
        let text = lines(&[update], &[Phases { pod: Some(16.0), ..restart }])?;
        assert!(text.contains("| settling, until blessed | 8.0 / **8.0** / 8.0 |  |"), "{text}");
        let all = "| **in all** | 15.0 / **15.0** / 15.0 | 19.0 / **19.0** / 19.0 |";
        assert!(text.contains(all), "{text}");
        Ok(())
    }
}
