//! Where a node ends: on the release that the signed documents want, or with a reason.
//!
//! In: the world when all is well again, and the daemon's board. Out: whether the node is where it
//! should be. **Invariant:** a reason counts only when it is true: a refusal of a good release needs
//! something that happened to it.

use contract::ReleaseVersion;
use contract::node::api::Phase;

use super::daemon::Daemon;
use super::ledger::is_blessed;
use super::release::Behaviour;
use super::world::World;
use crate::conductor::Snapshot;
use crate::policy::Hold;

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
    let number = number_of(&wanted);
    if board.holds.iter().any(|hold| is_true(hold, world, number)) {
        return Ok(());
    }
    Err(format!("{wanted} is wanted; {shown}"))
}

fn number_of(version: &ReleaseVersion) -> Option<usize> {
    version.to_string().split('.').next()?.parse().ok()
}

/// Whether a hold is a reason, and a true one.
fn is_true(hold: &Hold, world: &World, number: Option<usize>) -> bool {
    match hold {
        Hold::Refused { .. } => number.is_some_and(|number| is_refused_rightly(world, number)),
        Hold::StageFailed { .. } => number
            .and_then(|number| world.script.behaviours.get(&number))
            .is_some_and(|behaviour| behaviour.is_never_staged()),
        Hold::Manual { .. } => mode(world) == "manual",
        Hold::RestartsByHand { .. } => mode(world) != "automatic",
        Hold::ChannelPaused { .. } => world.channel.paused.is_some(),
        Hold::NoOffer { version } => world.channel.offers.as_ref() != Some(version),
        _ => false,
    }
}

/// The mode of the settings that the running slot has.
fn mode(world: &World) -> String {
    let slot = world.ledger().booted;
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
    is_bad || was_unlucky || ledger.excused.contains_key(&number)
}
