//! When the node does by itself what it may do: waves, windows, and the mode of its settings.
//!
//! In: the channel's and the group's documents, the settings, an order, the time. Out: holds.
//! **Invariant:** each of them ends, by time or by an order.

use contract::ReleaseVersion;
use contract::channel::waves;
use contract::node::settings::{Settings, UpdateMode};
use jiff::{SignedDuration, Timestamp};

use super::collected::{Collected, Keeps};
use super::facts::{Documents, OfferFacts, Order, PolicyInput};
use super::hold::Hold;
use super::target::followed;

/// Waves and windows. An order passes both.
pub(super) fn weigh_time(
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
pub(super) fn start_delay(
    node: &str,
    version: &ReleaseVersion,
    longest: SignedDuration,
) -> SignedDuration {
    let share = waves::position(&format!("{node}/start"), version);
    SignedDuration::try_from_secs_f64(longest.as_secs_f64() * share).unwrap_or(longest)
}

/// What the node does without being told to.
pub(super) fn weigh_mode(
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
