//! When the channel is asked again.

use std::time::Duration;

/// Delay after the first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(15);

/// Time until the next look at the channel. After `failures` failures in a row it is asked
/// sooner than usual, but each time later. `chance` in [0, 1] spreads a fleet over `jitter`.
pub fn poll_delay(interval: Duration, jitter: Duration, failures: u32, chance: f64) -> Duration {
    let pause = match failures {
        0 => interval,
        failures => FIRST_RETRY.saturating_mul(1 << (failures - 1).min(10)).min(interval),
    };
    // The spread follows the pause, so that a retry stays one.
    pause + jitter.min(pause).mul_f64(if chance.is_finite() { chance.clamp(0.0, 1.0) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_retried_sooner_and_ever_later() {
        let seconds = |failures| {
            poll_delay(Duration::from_secs(600), Duration::from_secs(120), failures, 0.0).as_secs()
        };
        let delays: Vec<u64> = (0..8).map(seconds).collect();
        assert_eq!(delays, [600, 15, 30, 60, 120, 240, 480, 600]);
        assert_eq!(seconds(u32::MAX), 600);
    }

    #[test]
    fn the_jitter_is_never_longer_than_the_pause() {
        let delay = |failures, chance| {
            poll_delay(Duration::from_secs(600), Duration::from_secs(120), failures, chance)
        };
        assert_eq!(delay(0, 1.0), Duration::from_secs(720));
        assert_eq!(delay(1, 1.0), Duration::from_secs(30));
        assert_eq!(delay(0, f64::NAN), Duration::from_secs(600));
    }
}
