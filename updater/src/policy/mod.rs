//! What a node does next, and each rule that holds it where it is.
//!
//! In: signed documents that were verified, the settings, what runs and what is staged, what an
//! operator asked for, and the time. Out: a [`Decision`]: an action, and the [`Hold`]s in words.
//! Pure: no I/O, no clock, no randomness.
//!
//! How rules and actions meet:
//! - *Staging* waits for the node's wave and a delay of its own after it, so that a release is
//!   not fetched by a whole fleet at once. It does not wait for a maintenance window: nothing
//!   stops working while bytes are written to the other slot.
//! - *Restarting* waits for the wave and for a window.
//! - A pin, the group's or an operator's, has no waves: nobody wrote down since when it holds.
//! - *Pauses* grow after stagings that failed, and after drains that came to nothing.
//! - *A restart* has its steps: drain the node, where its group asks for that; read what is staged
//!   once more; arm. They are in [`towards_restart`], where a question whether this node may restart
//!   would come first.
//! - A *floor* of the channel is taken before what lies beyond it, and a *blocked* release never,
//!   whoever wants it. Waves and the maximum version ask for the end of the way, all else for the
//!   next release on it.
//! - An order of an operator passes waves, windows, the mode and a silent API server. It passes neither a pause nor
//!   the maximum version, which say that a release is not wanted; nor a refusal, which has a
//!   call of its own; and nothing passes a signature.
//!
//! **Invariant:** without documents that are verified and not expired, the action is
//! [`Action::Nothing`]; so it is for a refused release, and while this boot is judged, because
//! the other slot is then the way back.

use contract::channel::group::{self, DrainPolicy};
use contract::channel::route::{Mark, NoRoute};
use contract::channel::waves;
use contract::node::settings::{Settings, UpdateMode};
use contract::{ChannelDocument, ReleaseVersion};
use jiff::{SignedDuration, Timestamp};
use semver::Version;

use crate::planted::{Planted, is_planted};

mod facts;
mod hold;
mod pauses;
mod poll;
mod skew;
mod source;
mod times;

pub use facts::{
    Action, ApiServer, BootState, Decision, Documents, DrainState, FailedDrain, FailedStaging,
    Failure, Lacking, OfferFacts, Order, OtherSlot, PolicyInput, Refusal, UnmetDocument,
};
pub use hold::Hold;
pub use pauses::{drain_pause, staging_pause};
pub use poll::{Outage, poll_delay};
pub use source::{Source, guide, source};
pub use times::VerdictTimes;

/// What a drain waits for that has just begun.
pub(crate) const FIRST_ANSWER: &str = "the first answer of the API server";

/// What a hold keeps the node from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Keeps {
    /// Nothing; it is worth knowing.
    Nothing,
    /// Restarting into a staged release.
    Restart,
    /// Staging as well.
    Everything,
}

/// Holds, and the strongest of them.
#[derive(Debug)]
struct Collected {
    holds: Vec<Hold>,
    keeps: Keeps,
}

impl Collected {
    fn add(&mut self, keeps: Keeps, hold: Hold) {
        self.keeps = self.keeps.max(keeps);
        self.holds.push(hold);
    }

    fn nothing(self, way: Vec<ReleaseVersion>) -> Decision {
        Decision { action: Action::Nothing, target: None, way, holds: self.holds }
    }
}

/// Weighs all rules.
pub fn decide(input: &PolicyInput<'_>) -> Decision {
    let mut found = Collected { holds: Vec::new(), keeps: Keeps::Nothing };
    if input.boot == BootState::Pending {
        found.add(Keeps::Everything, Hold::Judging);
    }
    let Some(settings) = input.settings else {
        let cause = input.lack.map(str::to_owned);
        found.add(Keeps::Everything, Hold::NoSettings { cause });
        return found.nothing(Vec::new());
    };
    if let Some(version) = input.pin {
        found.add(Keeps::Nothing, Hold::Pinned { version: version.clone() });
    }
    let Some((documents, wanted)) = known(input, settings, &mut found) else {
        return found.nothing(Vec::new());
    };
    let Some((way, offer)) = next(input, documents, &wanted, &mut found) else {
        return found.nothing(Vec::new());
    };
    if offer.root_hash == input.running {
        found.add(Keeps::Everything, Hold::UpToDate { version: offer.version });
        return found.nothing(way);
    }
    weigh_wanted(documents, &wanted, &mut found);
    weigh_release(input, documents, &offer, &mut found);
    weigh_cluster(input, &offer, &mut found);
    weigh_time(input, settings, documents, &wanted, &mut found);
    weigh_mode(input, settings, &offer, &mut found);

    let action = match input.other {
        OtherSlot::Staged(root_hash) | OtherSlot::Confirmed(root_hash)
            if root_hash == offer.root_hash =>
        {
            if found.keeps > Keeps::Nothing || input.order == Order::Stage {
                found.holds.push(Hold::Staged { version: offer.version.clone() });
                Action::Nothing
            } else {
                towards_restart(input, settings, documents, &offer, &mut found)
            }
        }
        _ if found.keeps == Keeps::Everything => Action::Nothing,
        // The fallback is not given away by a boot that may die as those before it did.
        _ if input.boot == BootState::Unproven && input.order == Order::None => {
            found.holds.push(Hold::Unproven);
            Action::Nothing
        }
        _ => match pauses::after_staging(input.failed_staging, input.order, input.now) {
            Some(hold) => {
                found.holds.push(hold);
                Action::Nothing
            }
            None => Action::Stage,
        },
    };
    Decision { action, target: Some(offer), way, holds: found.holds }
}

/// The next step from a staged release to the restart into it.
fn towards_restart(
    input: &PolicyInput<'_>,
    settings: &Settings,
    documents: &Documents<'_>,
    offer: &OfferFacts,
    found: &mut Collected,
) -> Action {
    if let OtherSlot::Confirmed(_) = input.other {
        return Action::Arm;
    }
    match drain_terms(input, settings, documents) {
        Some(terms) => drain(input, terms, offer, found),
        None => Action::Confirm,
    }
}

/// What the group asks for, if the node is to be drained. One that has not joined has no pods to
/// evict. A boot that is still judged has no other release to go back to, and the update may be
/// what heals it.
fn drain_terms(
    input: &PolicyInput<'_>,
    settings: &Settings,
    documents: &Documents<'_>,
) -> Option<group::Drain> {
    let has_pods = settings.kubernetes.is_some() && input.has_joined;
    let terms = documents.group.and_then(|group| group.spec.drain);
    let is_good = matches!(input.boot, BootState::Blessed | BootState::Unproven);
    terms.filter(|_| has_pods && is_good)
}

/// The node is drained, goes on with that, or begins with it.
fn drain(
    input: &PolicyInput<'_>,
    terms: group::Drain,
    offer: &OfferFacts,
    found: &mut Collected,
) -> Action {
    let (waiting, ends) = match input.drain {
        DrainState::Done { root_hash } if *root_hash == offer.root_hash => return Action::Confirm,
        DrainState::UnderWay { root_hash, terms: began, waiting, ends }
            if *root_hash == offer.root_hash && *began == terms =>
        {
            (waiting.as_str(), *ends)
        }
        DrainState::Idle | DrainState::UnderWay { .. } | DrainState::Done { .. } => {
            let version = &offer.version;
            let pause = pauses::after_drain(input.failed_drain, version, input.order, input.now);
            if let Some(hold) = pause {
                found.holds.push(hold);
                return Action::Nothing;
            }
            let ends = input.now.checked_add(terms.deadline.unsigned_abs()).ok();
            (FIRST_ANSWER, ends)
        }
    };
    let then = match terms.then {
        DrainPolicy::Wait => "takes pods again, and tries later",
        DrainPolicy::Restart => "restarts all the same",
    };
    let sentence = format!(
        "Pods leave the node before release {} starts. It waits for {waiting}; after the deadline \
         it {then}.",
        offer.version
    );
    found.holds.push(Hold::Drain { sentence, ends });
    Action::Drain(terms)
}

/// The documents and the wanted version, as far as both are known and still count.
fn known<'a>(
    input: &PolicyInput<'a>,
    settings: &Settings,
    found: &mut Collected,
) -> Option<(&'a Documents<'a>, ReleaseVersion)> {
    let Some(channel) = &settings.channel else {
        found.add(Keeps::Everything, Hold::NoChannel);
        return None;
    };
    if let Some(failure) = input.failure {
        let Failure { sentence, next, .. } = failure.clone();
        // What was read before stays good until it expires, but only a good clock tells when.
        match failure.is_clock {
            true => found.add(Keeps::Everything, Hold::Clock { sentence, next }),
            false => found.add(Keeps::Nothing, Hold::CheckFailed { sentence, next }),
        }
    }
    let Some(documents) = input.documents else {
        if input.failure.is_none() {
            found.add(Keeps::Everything, Hold::NotChecked);
        }
        return None;
    };
    if documents.expires < input.now {
        found.add(Keeps::Everything, Hold::Expired { since: documents.expires });
        return None;
    }
    if let Some(mark) = documents.marks.block_of(input.running_version) {
        found.add(Keeps::Nothing, Hold::RunsBlocked { mark: mark.clone() });
    }
    if input.pin.is_none() && needs_later(input, documents, found) {
        return None;
    }
    match source(input.pin, documents.group, channel) {
        Err(hold) => {
            found.add(Keeps::Everything, hold);
            None
        }
        Ok(source) => match source.version(documents.channel) {
            Some(version) => Some((documents, version)),
            None => {
                found.add(Keeps::Everything, Hold::NotChecked);
                None
            }
        },
    }
}

/// Whether the group's or the channel's document is meant for a later slipwayd. An operator's pin
/// needs neither, and is the way out.
fn needs_later(input: &PolicyInput<'_>, documents: &Documents<'_>, found: &mut Collected) -> bool {
    let is_later = |needed: &&Version| *needed > input.updater;
    let group = documents.group.and_then(|group| {
        let needed = group.spec.minimum_updater.as_ref().filter(is_later)?;
        Some((Lacking::Group(group.metadata.name.clone()), needed))
    });
    let channel = followed(input, documents).and_then(|channel| {
        let needed = channel.minimum_updater.as_ref().filter(is_later)?;
        Some((Lacking::Channel(channel.channel.clone()), needed))
    });
    let read = group.into_iter().chain(channel).map(|(document, needed)| UnmetDocument {
        document,
        needed: Some(needed.clone()),
        cause: format!("it requires slipwayd {needed}"),
    });
    let unread = documents.unmet.iter().filter(|unmet| match unmet.document {
        Lacking::Group(_) | Lacking::Channel(_) => true,
        Lacking::Release(_) => false,
    });
    let later: Vec<UnmetDocument> = unread.cloned().chain(read).collect();
    let above = documents.marks.floors.iter().filter(|mark| mark.release > *input.running_version);
    let floor = above.min_by(|one, other| one.release.cmp(&other.release)).cloned();
    for unmet in &later {
        found.add(Keeps::Everything, needs(input, unmet, floor.clone()));
    }
    !later.is_empty()
}

fn needs(input: &PolicyInput<'_>, unmet: &UnmetDocument, floor: Option<Mark>) -> Hold {
    let UnmetDocument { document, needed, cause } = unmet.clone();
    Hold::Needs { document, needed, have: input.updater.clone(), cause, floor }
}

/// The way to the wanted release, and the offer of the first release on it.
fn next(
    input: &PolicyInput<'_>,
    documents: &Documents<'_>,
    wanted: &ReleaseVersion,
    found: &mut Collected,
) -> Option<(Vec<ReleaseVersion>, OfferFacts)> {
    let way = match documents.marks.route(input.running_version, wanted) {
        Ok(way) => way,
        Err(NoRoute::Blocked(mark)) => {
            found.add(Keeps::Everything, Hold::Blocked { mark });
            return None;
        }
        Err(NoRoute::FloorBlocked { floor, blocked }) => {
            let (version, floor, reason) = (wanted.clone(), floor, blocked.reason);
            found.add(Keeps::Everything, Hold::FloorBlocked { version, floor, reason });
            return None;
        }
    };
    let step = way.first()?.clone();
    let floors = documents.marks.floors_between(input.running_version, wanted);
    if let Some(floor) = floors.first() {
        let (version, floor) = (wanted.clone(), (*floor).clone());
        found.add(Keeps::Nothing, Hold::OverFloor { version, floor, steps: way.len() });
    }
    let unmet =
        documents.unmet.iter().find(|unmet| unmet.document == Lacking::Release(step.clone()));
    let hold = match (&documents.offer, unmet) {
        (Some(offer), _) if offer.version == step => return Some((way, offer.clone())),
        (_, Some(unmet)) => needs(input, unmet, None),
        // An offer of another version was read before the pin changed.
        (Some(_), None) => Hold::NotChecked,
        (None, None) => Hold::NoOffer { version: step },
    };
    found.add(Keeps::Everything, hold);
    None
}

/// Rules that say that the end of the way is not wanted here. An order passes none of them.
fn weigh_wanted(documents: &Documents<'_>, wanted: &ReleaseVersion, found: &mut Collected) {
    if let Some(group) = documents.group
        && let Some(maximum) = &group.spec.maximum_version
        && wanted > maximum
    {
        let (version, maximum) = (wanted.clone(), maximum.clone());
        let group = group.metadata.name.clone();
        found.add(Keeps::Everything, Hold::MaximumVersion { version, maximum, group });
    }
}

/// Rules that say that this release is not wanted here. An order passes none of them.
fn weigh_release(
    input: &PolicyInput<'_>,
    documents: &Documents<'_>,
    offer: &OfferFacts,
    found: &mut Collected,
) {
    let version = || offer.version.clone();
    if let Some(refusal) = input.refusals.iter().find(|known| known.root_hash == offer.root_hash)
        && !is_planted(Planted::RefusalsNotWeighed)
    {
        let cause = refusal.cause.clone();
        found.add(Keeps::Everything, Hold::Refused { version: version(), cause });
    }
    if let Some(group) = documents.group {
        let name = group.metadata.name.clone();
        if let Some(reason) = &group.spec.paused {
            found.add(Keeps::Everything, Hold::GroupPaused { name, reason: reason.clone() });
        }
    }
    if let Some(channel) = followed(input, documents)
        && let Some(reason) = &channel.paused
    {
        let (name, reason) = (channel.channel.clone(), reason.clone());
        found.add(Keeps::Everything, Hold::ChannelPaused { name, reason });
    }
    if offer.minimum_updater > *input.updater {
        let (needed, have) = (offer.minimum_updater.clone(), input.updater.clone());
        found.add(Keeps::Everything, Hold::MinimumUpdater { version: version(), needed, have });
    }
    match input.esp_room {
        Some(room) if room >= offer.esp_bytes => {}
        room => found.add(Keeps::Everything, Hold::EspRoom { needed: offer.esp_bytes, room }),
    }
}

/// Kubelet and API server must understand each other, as far as both say what they are. An order
/// passes a silent API server: the release may be what makes it heard again.
fn weigh_cluster(input: &PolicyInput<'_>, offer: &OfferFacts, found: &mut Collected) {
    match (input.api_server, &offer.kubelet) {
        (Some(ApiServer::Answers(server)), Some(kubelet))
            if !skew::is_supported(kubelet, server) =>
        {
            let (version, kubelet, server) =
                (offer.version.clone(), kubelet.clone(), server.clone());
            found.add(Keeps::Everything, Hold::VersionSkew { version, kubelet, server });
        }
        (Some(ApiServer::Silent(sentence)), _) if input.order == Order::None => {
            found.add(Keeps::Everything, Hold::ApiServerSilent { sentence: sentence.clone() });
        }
        (None | Some(_), _) => {}
    }
}

/// The channel, unless a pin stands over it.
fn followed<'a>(input: &PolicyInput<'_>, documents: &Documents<'a>) -> Option<&'a ChannelDocument> {
    let pinned = documents.group.is_some_and(|group| group.spec.release.is_some());
    documents.channel.filter(|_| input.pin.is_none() && !pinned)
}

/// Waves and windows. An order passes both.
fn weigh_time(
    input: &PolicyInput<'_>,
    settings: &Settings,
    documents: &Documents<'_>,
    wanted: &ReleaseVersion,
    found: &mut Collected,
) {
    if input.order == Order::None
        && let Some(channel) = followed(input, documents)
    {
        let own = documents.group.and_then(|group| group.spec.waves.as_ref());
        let position = waves::position(input.node, wanted);
        let longest = settings.channel.as_ref().map_or(SignedDuration::ZERO, |it| it.jitter);
        let opens = own.unwrap_or(&channel.waves).opens(position, channel.since);
        let delay = start_delay(input.node, wanted, longest);
        let opens = opens.checked_add(delay).unwrap_or(Timestamp::MAX);
        if input.now < opens {
            let version = wanted.clone();
            found.add(Keeps::Everything, Hold::Wave { version, position, opens });
        }
    }
    let windows = documents.group.map_or(&[][..], |group| &group.spec.windows);
    // A window of an unknown time zone is closed: it must not open at a time of chance.
    let open = windows.iter().any(|window| window.is_open(input.now).unwrap_or(false));
    if input.order != Order::Apply && !windows.is_empty() && !open {
        let starts =
            windows.iter().filter_map(|window| window.next_start(input.now).ok().flatten());
        found.add(Keeps::Restart, Hold::Window { opens: starts.min() });
    }
}

/// The node's own part of the delay after its wave: the same each time it is asked.
fn start_delay(node: &str, version: &ReleaseVersion, longest: SignedDuration) -> SignedDuration {
    let share = waves::position(&format!("{node}/start"), version);
    SignedDuration::try_from_secs_f64(longest.as_secs_f64() * share).unwrap_or(longest)
}

/// What the node does without being told to.
fn weigh_mode(
    input: &PolicyInput<'_>,
    settings: &Settings,
    offer: &OfferFacts,
    found: &mut Collected,
) {
    let version = || offer.version.clone();
    match (settings.mode, input.order) {
        (UpdateMode::Automatic, _) | (_, Order::Apply) => {}
        (UpdateMode::StagedOnly, _) | (UpdateMode::Manual, Order::Stage) => {
            found.add(Keeps::Restart, Hold::RestartsByHand { version: version() });
        }
        (UpdateMode::Manual, Order::None) => {
            found.add(Keeps::Everything, Hold::Manual { version: version() });
        }
    }
}

#[cfg(test)]
mod sentences;
#[cfg(test)]
mod tests;
