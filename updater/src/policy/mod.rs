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
//!   once more; arm. They are in `restart`, where a question whether this node may restart would come
//!   first.
//! - *The way back* to a release that lapsed is a restart like any other, once this boot has stood,
//!   if that release is what the documents want; but no mode waits for an order, since it was given
//!   when that release was started first. Where what runs is refused, or no channel is there to
//!   say when, it comes at once.
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

use contract::RootHash;

use crate::planted::{Planted, is_planted};

mod collected;
mod facts;
mod hold;
mod pace;
mod pauses;
mod poll;
mod restart;
mod skew;
mod source;
mod target;
mod times;
mod unmet;
mod wording;

use collected::{Collected, Keeps};
pub use facts::{
    Action, ApiServer, BootState, Decision, Documents, DrainState, FailedDrain, FailedLook,
    FailedStaging, Lapse, OfferFacts, Order, OtherSlot, Pin, PolicyInput, RefusedRoot,
};
pub use hold::Hold;
pub use pauses::{drain_pause, staging_pause};
pub use poll::{Outage, poll_delay};
pub(crate) use restart::FIRST_ANSWER;
pub use source::{Source, guide, source};
pub use target::forbids_rollback;
pub use times::VerdictTimes;
pub use unmet::{Lacking, UnmetDocument};

/// Weighs all rules.
pub fn decide(input: &PolicyInput<'_>) -> Decision {
    let mut found = Collected::none();
    match input.boot {
        BootState::Pending => found.add(Keeps::Everything, Hold::Judging),
        BootState::Unknown => found.add(Keeps::Everything, Hold::NoJournal),
        BootState::Blessed | BootState::Unproven | BootState::PendingWithoutFallback => {}
    }
    if let Some(lapse) = input.lapse {
        found.add(Keeps::Nothing, Hold::Lapsed { version: lapse.version.clone() });
    }
    match input.pin {
        Pin::None => {}
        Pin::Release(version) => {
            found.add(Keeps::Nothing, Hold::Pinned { version: version.clone() });
        }
        Pin::Unreadable(cause) => {
            found.add(Keeps::Everything, Hold::PinUnreadable { cause: cause.clone() });
            return found.nothing(Vec::new());
        }
    }
    if restart::is_back_at_once(input) {
        return found.back();
    }
    let Some(settings) = input.settings else {
        let cause = input.lack.map(str::to_owned);
        found.add(Keeps::Everything, Hold::NoSettings { cause });
        return found.nothing(Vec::new());
    };
    let Some((documents, wanted)) = target::known(input, settings, &mut found) else {
        return found.nothing(Vec::new());
    };
    let Some((way, offer)) = target::next(input, documents, &wanted, &mut found) else {
        return found.nothing(Vec::new());
    };
    if offer.root_hash == input.running {
        found.add(Keeps::Everything, Hold::UpToDate { version: offer.version });
        return found.nothing(way);
    }
    target::weigh_wanted(documents, &wanted, &mut found);
    weigh_release(input, documents, &offer, &mut found);
    weigh_cluster(input, &offer, &mut found);
    pace::weigh_time(input, settings, documents, &wanted, &mut found);
    // The mode was asked when that release was started for the first time.
    if !is_way_back(input, offer.root_hash) {
        pace::weigh_mode(input, settings, &offer, &mut found);
    }

    let action = if is_in_other_slot(input, offer.root_hash) {
        if found.keeps > Keeps::Nothing || input.order == Order::Stage {
            found.holds.push(Hold::Staged { version: offer.version.clone() });
            Action::Nothing
        } else {
            restart::towards_restart(input, settings, documents, &offer, &mut found)
        }
    } else if found.keeps == Keeps::Everything {
        Action::Nothing
    } else if input.boot == BootState::Unproven && input.order == Order::None {
        // The fallback is not given away by a boot that may die as those before it did.
        found.holds.push(Hold::Unproven);
        Action::Nothing
    } else if let Some(hold) = pauses::after_staging(input.failed_staging, input.order, input.now) {
        found.holds.push(hold);
        Action::Nothing
    } else {
        Action::Stage
    };
    Decision { action, target: Some(offer), way, holds: found.holds }
}

/// Whether this release is the one that lapsed, in the place of which this one runs.
fn is_way_back(input: &PolicyInput<'_>, wanted: RootHash) -> bool {
    input.other == OtherSlot::Lapsed && is_in_other_slot(input, wanted)
}

/// Whether the other slot holds this release, whole.
fn is_in_other_slot(input: &PolicyInput<'_>, wanted: RootHash) -> bool {
    match input.other {
        OtherSlot::Staged(root_hash) | OtherSlot::Confirmed(root_hash) => root_hash == wanted,
        OtherSlot::Lapsed => input.lapse.and_then(|lapse| lapse.root_hash) == Some(wanted),
        OtherSlot::Unknown => false,
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
    if let Some(channel) = target::followed(input, documents)
        && let Some(reason) = &channel.paused
    {
        let (name, reason) = (channel.channel.clone(), reason.clone());
        found.add(Keeps::Everything, Hold::ChannelPaused { name, reason });
    }
    if offer.minimum_updater > *input.updater && !is_planted(Planted::UpdaterNotCompared) {
        let (needed, have) = (offer.minimum_updater.clone(), input.updater.clone());
        found.add(Keeps::Everything, Hold::MinimumUpdater { version: version(), needed, have });
    }
    // The UKI of a release that lapsed has its room.
    let has_room = is_way_back(input, offer.root_hash);
    match input.esp_room {
        _ if has_room => {}
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

#[cfg(test)]
mod sentences;
#[cfg(test)]
mod tests;
