//! When the channel is asked again.

use std::time::Duration;

/// Delay after the first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(15);

/// Longest time that a server may ask to be left alone: a node must find out that it is back.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What the last looks came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outage {
    /// Failures in a row.
    pub failures: u32,
    /// How long the server asked to be left alone. It may say anything: an hour of it counts.
    pub retry_after: Duration,
}

/// Time until the next look at the channel. After failures in a row it is asked sooner than
/// usual, but each time later, and never sooner than the server asked for. `chance` in [0, 1]
/// spreads a fleet over `jitter`.
pub fn poll_delay(interval: Duration, jitter: Duration, outage: Outage, chance: f64) -> Duration {
    let pause = match outage.failures {
        0 => interval,
        failures => FIRST_RETRY.saturating_mul(1 << (failures - 1).min(10)).min(interval),
    };
    let pause = pause.max(outage.retry_after.min(LONGEST_RETRY_AFTER));
    // The spread follows the pause, so that a retry stays one.
    pause + jitter.min(pause).mul_f64(if chance.is_finite() { chance.clamp(0.0, 1.0) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(600);
    const JITTER: Duration = Duration::from_secs(120);

    #[test]
    fn failures_are_retried_sooner_and_ever_later() {
        let seconds = |failures| {
            let outage = Outage { failures, ..Outage::default() };
            poll_delay(INTERVAL, JITTER, outage, 0.0).as_secs()
        };
        let delays: Vec<u64> = (0..8).map(seconds).collect();
        assert_eq!(delays, [600, 15, 30, 60, 120, 240, 480, 600]);
        assert_eq!(seconds(u32::MAX), 600);
    }

    #[test]
    fn a_server_is_left_alone_as_long_as_it_asks_and_no_longer_than_an_hour() {
        let seconds = |failures, asked, chance| {
            let outage = Outage { failures, retry_after: Duration::from_secs(asked) };
            poll_delay(INTERVAL, JITTER, outage, chance).as_secs()
        };
        assert_eq!(seconds(1, 300, 0.0), 300);
        assert_eq!(seconds(1, 300, 1.0), 420, "a fleet does not come back at once");
        assert_eq!(seconds(3, 1, 0.0), 60);
        assert_eq!(seconds(1, 1800, 0.0), 1800, "longer than the interval");
        assert_eq!(seconds(1, u64::MAX, 0.0), 3600);
    }

    #[test]
    fn the_jitter_is_never_longer_than_the_pause() {
        let delay = |failures, chance| {
            poll_delay(INTERVAL, JITTER, Outage { failures, ..Outage::default() }, chance)
        };
        assert_eq!(delay(0, 1.0), Duration::from_secs(720));
        assert_eq!(delay(1, 1.0), Duration::from_secs(30));
        assert_eq!(delay(0, f64::NAN), Duration::from_secs(600));
    }
}
