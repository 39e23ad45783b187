//! Which release the node is to take next: the wanted one, and the way there.
//!
//! In: verified documents, the settings, an operator's pin. Out: versions and the offer of the next
//! one; or the rules that leave the node without one. **Invariant:** nothing of a document that
//! has expired counts, and no way leads over what is blocked.

use contract::channel::route::{Mark, NoRoute};
use contract::node::settings::Settings;
use contract::{ChannelDocument, ReleaseVersion};
use jiff::Timestamp;
use semver::Version;

use super::collected::{Collected, Keeps};
use super::facts::{Documents, FailedLook, OfferFacts, PolicyInput};
use super::hold::Hold;
use super::source::source;
use super::unmet::{Lacking, UnmetDocument};

/// The documents and the wanted version, as far as both are known and still count.
pub(super) fn known<'a>(
    input: &PolicyInput<'a>,
    settings: &Settings,
    found: &mut Collected,
) -> Option<(&'a Documents<'a>, ReleaseVersion)> {
    let Some(channel) = &settings.channel else {
        found.add(Keeps::Everything, Hold::NoChannel);
        return None;
    };
    if let Some(failure) = input.failure {
        let FailedLook { sentence, next, .. } = failure.clone();
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
    if input.pin.release().is_none() && needs_later(input, documents, found) {
        return None;
    }
    match source(input.pin.release(), documents.group, channel) {
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
pub(super) fn next(
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
pub(super) fn weigh_wanted(
    documents: &Documents<'_>,
    wanted: &ReleaseVersion,
    found: &mut Collected,
) {
    if let Some(group) = documents.group
        && let Some(maximum) = &group.spec.maximum_version
        && wanted > maximum
    {
        let (version, maximum) = (wanted.clone(), maximum.clone());
        let group = group.metadata.name.clone();
        found.add(Keeps::Everything, Hold::MaximumVersion { version, maximum, group });
    }
}

/// The channel, unless a pin stands over it.
pub(super) fn followed<'a>(
    input: &PolicyInput<'_>,
    documents: &Documents<'a>,
) -> Option<&'a ChannelDocument> {
    let pinned = documents.group.is_some_and(|group| group.spec.release.is_some());
    documents.channel.filter(|_| input.pin.release().is_none() && !pinned)
}

/// The rule that forbids an operator to go back to the release of the other slot: its channel blocks
/// it. Nothing else does, since what runs may be what is wrong.
pub fn forbids_rollback(
    documents: Option<&Documents<'_>>,
    version: &ReleaseVersion,
    now: Timestamp,
) -> Option<Hold> {
    let documents = documents.filter(|documents| documents.expires >= now)?;
    let mark = documents.marks.block_of(version)?.clone();
    Some(Hold::Blocked { mark })
}
