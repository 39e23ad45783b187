//! Where a node ends: on the release that the signed documents want, or with a reason.
//!
//! In: the world when all is well again, and the daemon's board. Out: whether the node is where it
//! should be. **Invariant:** a reason counts only when it is true: a refusal of a good release needs
//! something that happened to it.

use contract::node::api::Phase;
use contract::{ReleaseVersion, UkiName};

use super::daemon::Daemon;
use super::ledger::is_blessed;
use super::release::Behaviour;
use super::world::World;
use crate::conductor::Snapshot;
use crate::policy::{Hold, Lacking};

/// Boots of a good release that must be cut short before it is refused.
const TRIES: usize = 3;

/// The release that is wanted: an operator's pin, or what the channel offers.
fn wanted(board: &Snapshot, world: &World) -> Option<ReleaseVersion> {
    board.pin.clone().or_else(|| world.channel.offers.clone())
}

/// True when the node is where it should be.
pub fn is_reached(world: &World, daemon: &Daemon) -> bool {
    judge(world, daemon).is_ok()
}

/// What is missing.
pub fn why_not(world: &World, daemon: &Daemon) -> String {
    judge(world, daemon).err().unwrap_or_default()
}

fn judge(world: &World, daemon: &Daemon) -> Result<(), String> {
    let board = daemon.board.read();
    let holds: Vec<String> = board.holds.iter().map(ToString::to_string).collect();
    let problem = board.problem.as_ref().map(|problem| problem.message.clone());
    let shown = format!("phase {:?}, holds {holds:?}, problem {problem:?}", board.phase);
    let Some(wanted) = wanted(&board, world) else { return Err("nothing is wanted".to_owned()) };
    let running = board.booted.ok_or_else(|| "what runs is not known".to_owned())?;
    if !is_blessed(running) && board.phase != Phase::Staged {
        return Err(format!("{running} is not found good; {shown}"));
    }
    let name = world.node.ukis().into_iter().find(|name| same_installation(*name, running));
    if let Some(name) = name.filter(|name| is_blessed(*name) && *name != name.blessed()) {
        return Err(format!("{name} does not get its tries back; {shown}"));
    }
    if let Some(number) = world.unsaid() {
        return Err(format!("nothing says that release {number} did not stand"));
    }
    let up_to_date = |hold: &Hold| matches!(hold, Hold::UpToDate { version } if *version == wanted);
    if world.web.api_server.is_cordoned() {
        return Err(format!("the node is cordoned; {shown}"));
    }
    // A release that waits in the other slot, and is not wanted any more, is no harm.
    if matches!(board.phase, Phase::Idle | Phase::Staged) && board.holds.iter().any(up_to_date) {
        return Ok(());
    }
    if !matches!(board.phase, Phase::Idle | Phase::Staged) {
        return Err(shown);
    }
    let next = board.way.first().unwrap_or(&wanted);
    if board.holds.iter().any(|hold| is_true(hold, world, number_of(next))) {
        return Ok(());
    }
    Err(format!("{wanted} is wanted; {shown}"))
}

fn same_installation(one: UkiName, other: UkiName) -> bool {
    (one.generation, one.slot) == (other.generation, other.slot)
}

fn number_of(version: &ReleaseVersion) -> Option<usize> {
    version.to_string().split('.').next()?.parse().ok()
}

/// Whether a hold is a reason, and a true one.
fn is_true(hold: &Hold, world: &World, number: Option<usize>) -> bool {
    match hold {
        Hold::Refused { version, .. } => {
            number_of(version).is_some_and(|number| is_refused_rightly(world, number))
        }
        Hold::Blocked { mark } => is_blocked(world, &mark.release),
        Hold::FloorBlocked { floor, .. } => is_blocked(world, &floor.release),
        Hold::MinimumUpdater { version, .. }
        | Hold::Needs { document: Lacking::Release(version), .. } => number_of(version)
            .and_then(|number| world.script.behaviours.get(&number))
            .is_some_and(|behaviour| behaviour.needs_later()),
        Hold::StageFailed { .. } => number
            .and_then(|number| world.script.behaviours.get(&number))
            .is_some_and(|behaviour| behaviour.is_never_staged()),
        Hold::Manual { .. } => mode(world) == "manual",
        Hold::RestartsByHand { .. } => mode(world) != "automatic",
        Hold::ChannelPaused { .. } => world.channel.paused.is_some(),
        Hold::NoOffer { version } => !world.channel.published.contains(version),
        _ => false,
    }
}

fn is_blocked(world: &World, version: &ReleaseVersion) -> bool {
    number_of(version).is_some_and(|number| world.script.blocked.contains(&number))
}

/// The mode of the settings that the running slot has.
fn mode(world: &World) -> String {
    let slot = world.ledger().booted.slot;
    let document = world.node.document(&format!("settings-{slot}.json")).unwrap_or_default();
    let settings: serde_json::Value = serde_json::from_slice(&document).unwrap_or_default();
    settings["mode"].as_str().unwrap_or_default().to_owned()
}

/// A release is refused for what it is, or for what happened to it.
fn is_refused_rightly(world: &World, number: usize) -> bool {
    let is_bad = world.script.behaviours[&number] != Behaviour::Good;
    let ledger = world.ledger();
    let was_unlucky = ledger.trials.values().any(|trial| {
        trial.number == number && (trial.cut_short >= TRIES || world.script.has_bad_devices())
    });
    is_bad
        || was_unlucky
        || ledger.excused.contains_key(&number)
        || ledger.silenced.contains(&number)
}
