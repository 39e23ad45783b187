//! A node that may update itself finds a new release in its channel and writes it to the other slot
//! while its pod answers. Power is cut meanwhile; the node goes on by itself, restarts into the release
//! and blesses it, and the pod is back. It then runs what was signed, and says so to who asks for drift
//! and metrics, and on its screen. Three starts in a row that are cut off lead to the other slot, and
//! back without hands.

use std::fs;

use anyhow::{Result, ensure};
use contract::Slot;
use contract::node::api::{Boot, CauseKind, Drift, Outcome, Phase, Status};
use serde_json::Value;
use testbed::node::NodeAccess;
use vm_tests::machine::{Hardware, Machine, POD_PORT, PROBE_PORT};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts};

use super::NAME;

/// What the kernel says first.
const STARTED: &str = "Linux version";

/// On a node that does nothing by itself, whose `hardware` outlives a cut: leaves it on 0.1.1, and so
/// again.
pub fn shows(
    site: &Site,
    mut machine: Machine,
    hardware: &Hardware,
    settings: &Value,
) -> Result<Machine> {
    pod_answers(&mut machine)?;
    set_mode(site, settings, "automatic")?;
    let staging = |status: &Status| status.phase == Phase::Staging;
    site.access.wait_for(&machine, "staging", BOOT_SECONDS, staging)?;
    pod_answers(&mut machine)?;
    let status = site.access.status()?;
    ensure!(status.running.generation == 1, "the pod answered late: {status:#?}");
    println!("{:.0} s: the pod answers, phase {}; power goes", machine.seconds(), status.phase);
    let mut machine = Machine::power_on(&machine.kill()?, hardware.clone())?;

    let updated =
        |status: &Status| status.running.boot == Boot::Blessed && status.running.slot == Slot::B;
    let status = site.access.wait_for(&machine, "updated", 2 * BOOT_SECONDS, updated)?;
    println!(
        "{:.0} s: updated and blessed; {} bytes of blobs",
        machine.seconds(),
        site.nginx.bytes_sent("/blobs/")?
    );
    ensure!(status.running.version == "0.1.1".parse().ok(), "status: {status:#?}");
    ensure!(status.running.generation == 2, "status: {status:#?}");
    ensure!(status.refused.is_empty(), "refused: {:?}", status.refused);
    ensure!(status.phase == Phase::Idle, "status: {status:#?}");
    has_all_tries(&mut machine)?;
    pod_answers(&mut machine)?;
    is_what_was_signed(&site.access)?;
    screen_shows_it(&mut machine)?;
    cut_starts_lead_to_the_other_slot_and_back(site, &mut machine)?;
    set_mode(site, settings, "manual")?;
    Ok(machine)
}

fn set_mode(site: &Site, settings: &Value, mode: &str) -> Result<()> {
    let mut document = settings.clone();
    document["mode"] = mode.into();
    document["channel"]["pollInterval"] = "1m".into();
    let file = artefacts().join(format!("{NAME}-site/{mode}.json"));
    fs::write(&file, vm_tests::settings::text(&document)?)?;
    site.access.ask(&["settings", "set", &file.display().to_string()]).map(drop)
}

fn cut_starts_lead_to_the_other_slot_and_back(site: &Site, machine: &mut Machine) -> Result<()> {
    let starts = |machine: &Machine| machine.serial().matches(STARTED).count();
    let (begin, before) = (machine.seconds(), starts(machine));
    for _ in 0..3 {
        machine.listen_from_now()?;
        machine.reset()?;
        machine.wait_for(STARTED, BOOT_SECONDS)?;
    }
    machine.reset()?;
    let back = |status: &Status| {
        status.running.slot == Slot::B
            && status.running.tries_left == Some(3)
            && status.fallback.as_ref().is_some_and(|fallback| fallback.kind == CauseKind::Lapsed)
    };
    let status = site.access.wait_for(machine, "back", 3 * BOOT_SECONDS, back)?;
    println!("three starts were cut off: back after {:.0} s", machine.seconds() - begin);
    ensure!(status.running.generation == 2 && status.refused.is_empty(), "status: {status:#?}");
    // Those that were cut, one of the other slot, and the one that runs.
    let made = starts(machine) - before;
    ensure!(made == 5, "{made} starts\n{}", machine.tail());
    has_all_tries(machine)
}

/// Both releases are blessed, and their boots are counted.
fn has_all_tries(machine: &mut Machine) -> Result<()> {
    let ukis = machine.ask("/list?path=/efi/EFI/Linux")?;
    let all = ["slipway-000001-a+3-100.efi", "slipway-000002-b+3-100.efi"];
    ensure!(ukis == serde_json::json!(all), "UKIs: {ukis}");
    Ok(())
}

fn pod_answers(machine: &mut Machine) -> Result<()> {
    let answer = machine.get(POD_PORT, "/", BOOT_SECONDS)?;
    ensure!(answer == b"pod is up\n", "the pod says {:?}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// The cells of the first virtual terminal, as the kernel holds them.
fn screen_shows_it(machine: &mut Machine) -> Result<()> {
    let cells = machine.get(PROBE_PORT, "/read?path=/dev/vcs1", BOOT_SECONDS)?;
    let screen = String::from_utf8_lossy(&cells);
    let running = "test 0.1.1 in slot b, generation 2, blessed";
    for words in ["Slipway", running, "channel stable", "10.0.2.15"] {
        ensure!(screen.contains(words), "no `{words}` on the screen: {screen}");
    }
    ensure!(!screen.contains("login"), "somebody may log in: {screen}");
    Ok(())
}

/// Nothing differs from what was signed, the UKI that was fetched is compared too, and the metrics
/// name the release.
fn is_what_was_signed(access: &NodeAccess) -> Result<()> {
    let drift: Drift = serde_json::from_value(access.ask_as("reader", &["drift"])?)?;
    ensure!(drift.differing().count() == 0, "it differs: {:#?}", drift.items);
    let uki = drift.items.iter().find(|item| item.name == "slipway-000002-b+3-100.efi");
    ensure!(uki.is_some_and(|uki| uki.outcome == Outcome::Same), "drift: {:#?}", drift.items);
    let metrics = access.ask_as("reader", &["metrics"])?;
    let metrics = metrics["metrics"].as_str().unwrap_or_default();
    let has = |begin: &str, text: &str| {
        metrics.lines().any(|line| line.starts_with(begin) && line.contains(text))
    };
    ensure!(has("slipway_release_info{", "version=\"0.1.1\""), "metrics: {metrics}");
    ensure!(has("slipway_drifted 0", ""), "metrics: {metrics}");
    Ok(())
}
