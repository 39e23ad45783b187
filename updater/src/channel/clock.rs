//! Whether the clock can tell what has expired.
//!
//! In: the clock, when the image was built, and the times at which a channel was believed
//! before. Out: the time, or why there is none. **Invariant:** an expiry is only ever judged
//! by a time that this module let pass.
//!
//! A clock is believed when a time server set it, or when the machine's own clock (RTC) says
//! the same: systemd moves a clock that stands before its own build forward, so a plausible
//! time alone proves nothing. A believed clock still must not stand before a time that this
//! node has seen. Two of those are kept:
//! - the newest time at which a *synchronized* clock accepted a channel: a floor for every
//!   clock;
//! - the same for a clock that nobody had set: a floor for such clocks only. A battery that
//!   made it 2031 for a day is put right by the first time server.
//!
//! Neither floor can run away: a time is only kept after documents were accepted at it, so it
//! is never later than the expiry that somebody signed. A node whose floor is ahead of a
//! corrected clock holds until then, and goes on by itself.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::effects::Clock;

/// How far system clock and RTC may differ; both run on, and one is read a little later.
const RTC_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// What the machine says about the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The system's clock.
    pub now: Timestamp,
    /// A time server has set it in this boot.
    pub is_synchronized: bool,
    /// The machine's own clock, when it has one that runs.
    pub rtc: Option<Timestamp>,
}

impl ClockReading {
    /// Reads all of it.
    pub fn take(clock: &dyn Clock) -> Self {
        Self { now: clock.now(), is_synchronized: clock.is_synchronized(), rtc: clock.rtc() }
    }
}

/// Times at which a channel was accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTimes {
    /// The newest by a clock that a time server had set.
    pub synchronized: Option<Timestamp>,
    /// The newest by a clock that agreed with the RTC only.
    pub plain: Option<Timestamp>,
}

impl KnownTimes {
    /// Keeps the time at which a channel was accepted.
    pub fn accept(&mut self, reading: &ClockReading) {
        let kept = match reading.is_synchronized {
            true => &mut self.synchronized,
            false => &mut self.plain,
        };
        *kept = (*kept).max(Some(reading.now));
    }
}

/// Why the clock cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// It stands before a time that is certain.
    #[error("the clock reads {now:.0}, and it was later than {floor:.0} before")]
    Behind {
        /// What it reads.
        now: Timestamp,
        /// The time that is certain.
        floor: Timestamp,
    },
    /// Nobody set it, and it is not the machine's own.
    #[error(
        "the clock reads {now:.0}, and neither a time server nor the machine's own clock says so"
    )]
    Unproven {
        /// What it reads.
        now: Timestamp,
    },
}

impl ClockError {
    /// When the clock would pass by running on; nobody knows for [`ClockError::Unproven`].
    pub fn ends(&self) -> Option<Timestamp> {
        match self {
            ClockError::Behind { floor, .. } => Some(*floor),
            ClockError::Unproven { .. } => None,
        }
    }
}

/// The time, if it can be trusted.
///
/// # Errors
/// [`ClockError`].
pub fn trusted_now(
    reading: &ClockReading,
    built: Timestamp,
    known: &KnownTimes,
) -> Result<Timestamp, ClockError> {
    let now = reading.now;
    let mut floor = known.synchronized.map_or(built, |time| time.max(built));
    if !reading.is_synchronized {
        floor = known.plain.map_or(floor, |time| time.max(floor));
    }
    if now < floor {
        return Err(ClockError::Behind { now, floor });
    }
    if reading.is_synchronized {
        return Ok(now);
    }
    match reading.rtc {
        Some(rtc) if now.duration_since(rtc).abs() <= RTC_TOLERANCE => Ok(now),
        _ => Err(ClockError::Unproven { now }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    const BUILT: &str = "2026-11-01T00:00:00Z";
    const NOW: &str = "2026-11-27T12:00:00Z";

    fn judge(now: &str, synchronized: bool, rtc: Option<&str>, known: KnownTimes) -> Outcome {
        let reading =
            ClockReading { now: at(now), is_synchronized: synchronized, rtc: rtc.map(at) };
        match trusted_now(&reading, at(BUILT), &known) {
            Ok(time) => {
                assert_eq!(time, at(now));
                Outcome::Trusted
            }
            Err(ClockError::Behind { floor, .. }) => Outcome::Behind(floor),
            Err(ClockError::Unproven { .. }) => Outcome::Unproven,
        }
    }

    #[derive(Debug, PartialEq)]
    enum Outcome {
        Trusted,
        Behind(Timestamp),
        Unproven,
    }

    #[test]
    fn a_clock_of_1970_is_behind_the_image() {
        let none = KnownTimes::default();
        let behind = Outcome::Behind(at(BUILT));
        for synchronized in [false, true] {
            let now = "1970-01-01T00:01:00Z";
            assert_eq!(judge(now, synchronized, Some(now), none), behind);
        }
    }

    #[test]
    fn a_clock_that_systemd_moved_forward_is_not_believed_until_a_server_set_it() {
        let none = KnownTimes::default();
        let moved = "2026-11-02T00:00:00Z";
        assert_eq!(judge(moved, false, Some("1970-01-01T00:01:00Z"), none), Outcome::Unproven);
        assert_eq!(judge(moved, false, None, none), Outcome::Unproven);
        assert_eq!(judge(NOW, true, Some("1970-01-01T00:01:00Z"), none), Outcome::Trusted);
    }

    #[test]
    fn the_machines_own_clock_will_do_without_a_time_server() {
        let none = KnownTimes::default();
        assert_eq!(judge(NOW, false, Some("2026-11-27T12:00:30Z"), none), Outcome::Trusted);
        assert_eq!(judge(NOW, false, Some("2026-11-27T10:00:00Z"), none), Outcome::Unproven);
    }

    #[test]
    fn a_time_server_cannot_turn_time_back() {
        let mut known = KnownTimes::default();
        known.accept(&ClockReading { now: at(NOW), is_synchronized: true, rtc: None });
        let back = "2026-11-20T00:00:00Z";
        assert_eq!(judge(back, true, Some(back), known), Outcome::Behind(at(NOW)));
        assert_eq!(judge(back, false, Some(back), known), Outcome::Behind(at(NOW)));
        assert_eq!(judge(NOW, true, None, known), Outcome::Trusted);
    }

    #[test]
    fn a_wrong_clock_of_the_past_is_put_right_by_a_time_server() {
        let mut known = KnownTimes::default();
        let wrong = at("2026-12-09T00:00:00Z");
        known.accept(&ClockReading { now: wrong, is_synchronized: false, rtc: Some(wrong) });
        assert_eq!(judge(NOW, false, Some(NOW), known), Outcome::Behind(wrong));
        assert_eq!(judge(NOW, true, Some(NOW), known), Outcome::Trusted);
    }

    #[test]
    fn known_times_only_grow() {
        let mut known = KnownTimes::default();
        for now in [NOW, "2026-11-26T00:00:00Z"] {
            known.accept(&ClockReading { now: at(now), is_synchronized: true, rtc: None });
        }
        assert_eq!(known, KnownTimes { synchronized: Some(at(NOW)), plain: None });
    }
}
