//! Back to the release before by hand, and to one that an operator pins; a reader may look and not
//! touch, and strangers not even look. In the long form also two updates in a row, and back to an
//! older release that the group pins.

use anyhow::{Context, Result, bail, ensure};
use contract::Slot;
use contract::node::api::{CauseKind, EventKind, History, Status};
use testbed::node::NodeAccess;
use vm_tests::machine::{Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, isolation, settings};

const NAME: &str = "operators_move_a_node";

#[test]
#[ignore = "five updates: run `make soak`"]
fn operators_move_a_node() {
    let prepare = || Site::prepare_versions(NAME, 2, "0.1.0");
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let machine = site.start(&image::test_image()?, &site.settings()?, Hardware::default())?;
    site.access.wait_for(&machine, "up", BOOT_SECONDS, |_| true)?;
    only_operators_may_touch(NAME, &site.access)?;

    // Two updates in a row.
    site.channel.point(settings::CHANNEL, "0.1.1", &[])?;
    site.access.update();
    runs(&site, &machine, "0.1.1", Slot::B)?;
    site.channel.point(settings::CHANNEL, "0.1.2", &[])?;
    site.access.update();
    runs(&site, &machine, "0.1.2", Slot::A)?;

    // Back to an older release, as the operators of the group signed it.
    site.channel.group(settings::GROUP, "release: 0.1.0")?;
    site.access.update();
    let status = runs(&site, &machine, "0.1.0", Slot::B)?;
    ensure!(status.refused.is_empty(), "going back is no failure: {:?}", status.refused);

    // By hand, into what the other slot has; what was left is not taken again by itself.
    site.access.ask(&["rollback"])?;
    let status = runs(&site, &machine, "0.1.2", Slot::A)?;
    let [refused] = &status.refused[..] else { bail!("refused: {:?}", status.refused) };
    ensure!(refused.kind == CauseKind::RolledBack, "refused: {refused:?}");
    ensure!(refused.version == "0.1.0".parse().ok(), "refused: {refused:?}");

    // One node elsewhere than its group.
    site.access.ask(&["pin", "0.1.1"])?;
    site.access.update();
    let status = runs(&site, &machine, "0.1.1", Slot::B)?;
    ensure!(pin(&status).as_deref() == Some("0.1.1"), "follows {:?}", status.follows);
    site.access.ask(&["unpin"])?;
    let status = site.access.status()?;
    ensure!(pin(&status).as_deref() == Some("0.1.0"), "follows {:?}", status.follows);
    site.access.ask(&["clear", "0.1.0"])?;
    ensure!(site.access.status()?.refused.is_empty(), "0.1.0 is not forgotten");

    history_has(&site, 4)
}

/// On a node that came from 0.1.0 to 0.1.1: leaves it on 0.1.2.
pub fn shows(site: &Site, machine: &Machine) -> Result<()> {
    site.access.ask(&["rollback"])?;
    let status = runs(site, machine, "0.1.0", Slot::A)?;
    let [refused] = &status.refused[..] else { bail!("refused: {:?}", status.refused) };
    ensure!(refused.cause == "an operator rolled it back", "refused: {refused:?}");
    ensure!(refused.version == "0.1.1".parse().ok(), "refused: {refused:?}");

    site.access.ask(&["pin", "0.1.2"])?;
    site.access.update();
    let status = runs(site, machine, "0.1.2", Slot::B)?;
    ensure!(pin(&status).as_deref() == Some("0.1.2"), "follows {:?}", status.follows);
    site.access.ask(&["unpin"])?;
    site.channel.group(settings::GROUP, "release: 0.1.0")?;
    site.access.ask(&["check"])?;
    let status = site.access.status()?;
    ensure!(pin(&status).as_deref() == Some("0.1.0"), "follows {:?}", status.follows);
    site.access.ask(&["clear", "0.1.1"])?;
    ensure!(site.access.status()?.refused.is_empty(), "0.1.1 is not forgotten");
    history_has(site, 3)
}

fn pin(status: &Status) -> Option<String> {
    status.follows.pin.as_ref().map(|pin| pin.version.to_string())
}

/// So many releases were found good, and one was left by hand.
fn history_has(site: &Site, blessed: usize) -> Result<()> {
    let history: History = serde_json::from_value(site.access.ask(&["history"])?)?;
    let count = |kind| history.events.iter().filter(|event| event.kind == kind).count();
    ensure!(count(EventKind::Blessed) >= blessed, "history: {:#?}", history.events);
    ensure!(count(EventKind::RolledBack) == 1, "history: {:#?}", history.events);
    Ok(())
}

/// Waits until the node runs `version` for good, and checks the slot.
fn runs(site: &Site, machine: &Machine, version: &str, slot: Slot) -> Result<Status> {
    let status = site.access.runs(machine, version, 2 * BOOT_SECONDS)?;
    println!("{:.0} s: {version} in slot {slot}", machine.seconds());
    ensure!(status.running.slot == slot, "{version} runs in {:?}", status.running);
    // The cut starts of before are told on.
    let told = status.fallback.as_ref().is_none_or(|it| it.kind == CauseKind::Lapsed);
    ensure!(told, "fallback: {:?}", status.fallback);
    Ok(status)
}

/// On a node that is up. The files of a stranger are named after `test`.
pub fn only_operators_may_touch(test: &str, access: &NodeAccess) -> Result<()> {
    access.ask_as("reader", &["status"])?;
    let forbidden: [&[&str]; 5] =
        [&["update"], &["check"], &["rollback"], &["pin", "0.1.1"], &["clear"]];
    for order in forbidden {
        let refusal = access.ask_as("reader", order).err().context("a reader gave an order")?;
        ensure!(format!("{refusal:#}").contains("operator"), "{order:?}: {refusal:#}");
    }
    let stranger = access.stranger(&artefacts().join(format!("{test}-strangers")))?;
    for who in ["operator", "reader"] {
        let refusal = stranger.ask_as(who, &["status"]).err().context("a stranger is told")?;
        let refusal = format!("{refusal:#}");
        println!("{refusal}");
        ensure!(!refusal.contains("peer certificate"), "the stranger did not ask: {refusal}");
    }
    Ok(())
}
