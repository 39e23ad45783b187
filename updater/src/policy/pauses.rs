//! How long a node waits after something came to nothing.
//!
//! In: how often it failed in a row, and how long ago. Out: a pause, or the hold for what is left of
//! one. **Invariant:** pauses grow up to a bound, and none is endless.

use std::time::Duration;

use contract::ReleaseVersion;
use jiff::Timestamp;

use super::{FailedDrain, FailedStaging, Hold, Order, Outage, poll_delay};

/// Longest pause after stagings that failed.
const LONGEST_STAGING: Duration = Duration::from_mins(10);
/// Pause after the first drain that came to nothing; it doubles with each further one.
const FIRST_DRAIN: Duration = Duration::from_mins(5);
const LONGEST_DRAIN: Duration = Duration::from_hours(1);

/// Pause after so many stagings that failed.
pub fn staging_pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => {
            let outage = Outage { failures, ..Outage::default() };
            poll_delay(LONGEST_STAGING, Duration::ZERO, outage, 0.0)
        }
    }
}

/// Pause after so many drains that came to nothing.
pub fn drain_pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => FIRST_DRAIN.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_DRAIN),
    }
}

/// What holds a node that stages again later. An order does not wait for that.
pub(super) fn after_staging(
    failed: Option<&FailedStaging>,
    order: Order,
    now: Timestamp,
) -> Option<Hold> {
    let FailedStaging { sentence, failures, ago } = failed.filter(|_| order == Order::None)?;
    let left = rest(staging_pause(*failures), *ago)?;
    Some(Hold::StageFailed { sentence: sentence.clone(), next: now.checked_add(left).ok() })
}

/// What holds a node that drains itself again later. Neither an order nor another release waits for
/// that.
pub(super) fn after_drain(
    failed: Option<&FailedDrain>,
    wanted: &ReleaseVersion,
    order: Order,
    now: Timestamp,
) -> Option<Hold> {
    let FailedDrain { version, waiting, failures, ago } =
        failed.filter(|failed| order != Order::Apply && failed.version == *wanted)?;
    let left = rest(drain_pause(*failures), *ago)?;
    let sentence = format!(
        "Release {version} did not start, because not all pods left the node in time: {waiting}. \
         It is tried again later, or with `slipway node update`."
    );
    Some(Hold::Drain { sentence, ends: now.checked_add(left).ok() })
}

fn rest(pause: Duration, ago: Duration) -> Option<Duration> {
    pause.checked_sub(ago).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let seconds = |pause: fn(u32) -> Duration| {
            [0, 1, 2, 3, 4, 5, 6, 7, u32::MAX].map(|failures| pause(failures).as_secs())
        };
        assert_eq!(seconds(staging_pause), [0, 15, 30, 60, 120, 240, 480, 600, 600]);
        assert_eq!(seconds(drain_pause), [0, 300, 600, 1200, 2400, 3600, 3600, 3600, 3600]);
    }
}
