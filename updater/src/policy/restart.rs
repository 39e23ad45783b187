//! From a release that is whole in the other slot to the restart into it: drain the node, read
//! once more, arm; or go back to it, where it is one that lapsed.
//!
//! In: what the other slot holds, the group's terms, drains so far. Out: the next step.
//! **Invariant:** a restart is prepared in the same way whatever it is for; only what is refused here
//! is left at once.

use contract::channel::group::{self, DrainPolicy};
use contract::node::settings::Settings;

use super::collected::Collected;
use super::facts::{Action, BootState, Documents, DrainState, OfferFacts, OtherSlot, PolicyInput};
use super::hold::Hold;
use super::pauses;

/// What a drain waits for that has just begun.
pub(crate) const FIRST_ANSWER: &str = "the first answer of the API server";

/// Whether the node goes back to the lapsed release of the other slot without asking its channel:
/// because what runs is refused here, or because there is no channel that could say when.
pub(super) fn is_back_at_once(input: &PolicyInput<'_>) -> bool {
    let Some(lapse) = input.lapse.filter(|_| input.other == OtherSlot::Lapsed) else {
        return false;
    };
    let is_pinned_here = input.pin.release() == Some(input.running_version);
    let is_blocked = input
        .documents
        .zip(lapse.version.as_ref())
        .is_some_and(|(documents, version)| documents.marks.block_of(version).is_some());
    let is_refused = input.refusals.iter().any(|refusal| refusal.root_hash == input.running);
    let has_channel = input.settings.is_some_and(|settings| settings.channel.is_some());
    !is_pinned_here && !is_blocked && (is_refused || !has_channel)
}

/// The next step from a release that is whole in the other slot to the restart into it.
pub(super) fn towards_restart(
    input: &PolicyInput<'_>,
    settings: &Settings,
    documents: &Documents<'_>,
    offer: &OfferFacts,
    found: &mut Collected,
) -> Action {
    let ready = match input.other {
        OtherSlot::Confirmed(_) => return Action::Arm,
        OtherSlot::Lapsed => Action::GoBack,
        OtherSlot::Staged(_) | OtherSlot::Unknown => Action::Confirm,
    };
    match drain_terms(input, settings, documents) {
        Some(terms) => drain(input, terms, offer, found).unwrap_or(ready),
        None => ready,
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

/// Begins to drain the node, or goes on with that; none once it is drained.
fn drain(
    input: &PolicyInput<'_>,
    terms: group::Drain,
    offer: &OfferFacts,
    found: &mut Collected,
) -> Option<Action> {
    let (waiting, ends) = match input.drain {
        DrainState::Done { root_hash } if *root_hash == offer.root_hash => return None,
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
                return Some(Action::Nothing);
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
    Some(Action::Drain(terms))
}
