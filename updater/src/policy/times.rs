//! How long a boot has to prove itself.
//!
//! In: a group's document, the settings. Out: times that a boot can be judged by.
//! **Invariant:** no document, damaged or not, asks for longer times than a day each.

use std::time::Duration;

use contract::NodeGroup;
use contract::channel::group::{
    DEFAULT_API_SERVER_GRACE, DEFAULT_DEADLINE, DEFAULT_SETTLE, LONGEST_DEADLINE,
};
use contract::node::settings::HealthSettings;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// How long silence is forgiven at least when the release before got no answer either.
const OUTAGE_GRACE: SignedDuration = SignedDuration::from_hours(1);

/// How long a boot has to prove itself. Saved when a release is armed, because the boot that is
/// judged may not reach the channel that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictTimes {
    settle: SignedDuration,
    deadline: SignedDuration,
    // A release from before it refuses documents that name it.
    #[serde(default = "default_grace", skip_serializing_if = "is_default_grace")]
    api_server_grace: SignedDuration,
}

fn default_grace() -> SignedDuration {
    DEFAULT_API_SERVER_GRACE
}

fn is_default_grace(grace: &SignedDuration) -> bool {
    *grace == DEFAULT_API_SERVER_GRACE
}

impl VerdictTimes {
    /// Those of the group, else of the settings, else the defaults.
    pub fn new(group: Option<&NodeGroup>, health: Option<&HealthSettings>) -> Self {
        let spec = group.map(|group| &group.spec);
        let settle = spec.and_then(|spec| spec.settle).or(health.and_then(|health| health.settle));
        let deadline =
            spec.and_then(|spec| spec.deadline).or(health.and_then(|health| health.deadline));
        let grace = spec
            .and_then(|spec| spec.api_server_grace)
            .or(health.and_then(|health| health.api_server_grace));
        let deadline = deadline.unwrap_or(DEFAULT_DEADLINE);
        let settle = settle.unwrap_or(DEFAULT_SETTLE);
        Self { settle, deadline, api_server_grace: grace.unwrap_or(DEFAULT_API_SERVER_GRACE) }
    }

    /// The same, for a boot that follows one in which the API server did not answer: its silence
    /// says nothing against the release.
    #[must_use]
    pub fn after_silence(self) -> Self {
        Self { api_server_grace: self.api_server_grace.max(OUTAGE_GRACE), ..self }
    }

    /// How long all must be well without a break: at most half of the deadline.
    pub fn settle(&self) -> Duration {
        bounded(self.settle).min(self.deadline() / 2)
    }

    /// How long after power-on that must be reached.
    pub fn deadline(&self) -> Duration {
        bounded(self.deadline)
    }

    /// How much later that may be while nothing but the API server's silence is wrong.
    pub fn api_server_grace(&self) -> Duration {
        bounded(self.api_server_grace)
    }
}

// Each document is consistent; a settling time of one and a deadline of the other may not be, and a
// boot that cannot be blessed in time would fall back for nothing.
fn bounded(time: SignedDuration) -> Duration {
    time.unsigned_abs().min(LONGEST_DEADLINE.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(spec: &str) -> NodeGroup {
        let text = format!(
            r#"{{"apiVersion": "slipway.dev/v1alpha1", "kind": "NodeGroup",
                "metadata": {{"name": "workers"}}, "spec": {spec}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn minutes(times: VerdictTimes) -> [u64; 3] {
        [times.settle(), times.deadline(), times.api_server_grace()].map(|time| time.as_secs() / 60)
    }

    #[test]
    fn times_of_a_verdict_come_from_the_group_first() {
        let health: HealthSettings =
            serde_json::from_str(r#"{"settle": "5m", "deadline": "20m", "apiServerGrace": "30m"}"#)
                .unwrap();
        let times = |group: Option<&NodeGroup>, health| minutes(VerdictTimes::new(group, health));
        assert_eq!(times(None, None), [1, 10, 10]);
        assert_eq!(times(None, Some(&health)), [5, 20, 30]);
        let short = group(
            r#"{"channel": "stable", "settle": "1m", "deadline": "4m", "apiServerGrace": "0s"}"#,
        );
        assert_eq!(times(Some(&short), Some(&health)), [1, 4, 0]);
        let mixed = group(r#"{"channel": "stable", "deadline": "4m"}"#);
        assert_eq!(times(Some(&mixed), Some(&health)), [2, 4, 30]);
    }

    #[test]
    fn silence_before_makes_the_grace_longer_and_never_shorter() {
        let of = |grace: &str| {
            let health = format!(r#"{{"apiServerGrace": "{grace}"}}"#);
            let health: HealthSettings = serde_json::from_str(&health).unwrap();
            minutes(VerdictTimes::new(None, Some(&health)).after_silence())
        };
        assert_eq!(of("1m"), [1, 10, 60]);
        assert_eq!(of("2h"), [1, 10, 120]);
    }

    #[test]
    fn times_of_a_release_without_grace_are_read_and_none_is_over_a_day() {
        let read = |text: &str| minutes(serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"settle": "PT1M", "deadline": "PT4M"}"#), [1, 4, 10]);
        let damaged =
            r#"{"settle": "PT900H", "deadline": "PT9000H", "api_server_grace": "PT900H"}"#;
        assert_eq!(read(damaged), [12 * 60, 24 * 60, 24 * 60]);
        let written = serde_json::to_string(&VerdictTimes::new(None, None)).unwrap();
        assert!(!written.contains("grace"), "{written}");
    }
}
