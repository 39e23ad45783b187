//! Metrics for Prometheus.
//!
//! In: the status, and what the daemon counts. Out: text (OpenMetrics 1.0). **Invariant:** the
//! number of time series is bounded: labels are names of this program, or what runs.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use contract::node::api::{
    CheckOutcome, Outcome, Phase, ProbeState, ProblemKind, Status, TransferWay,
};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

type Labels = Vec<(&'static str, String)>;
type Seconds = Gauge<f64, AtomicU64>;

/// How an update ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateEnd {
    /// The new release was blessed.
    Blessed,
    /// It was given up, and the old one runs.
    FellBack,
    /// It was not even installed.
    StageFailed,
}

impl UpdateEnd {
    const ALL: [UpdateEnd; 3] = [UpdateEnd::Blessed, UpdateEnd::FellBack, UpdateEnd::StageFailed];

    fn name(self) -> &'static str {
        match self {
            UpdateEnd::Blessed => "blessed",
            UpdateEnd::FellBack => "fell-back",
            UpdateEnd::StageFailed => "stage-failed",
        }
    }
}

/// All metrics of a node.
pub struct Metrics {
    registry: Registry,
    release: Family<Labels, Gauge>,
    phase: Family<Labels, Gauge>,
    holds: Family<Labels, Gauge>,
    probes: Family<Labels, Gauge>,
    drifted: Family<Labels, Gauge>,
    refused: Gauge,
    refused_by: Family<Labels, Gauge>,
    problem: Family<Labels, Gauge>,
    synchronized: Gauge,
    check_time: Family<Labels, Seconds>,
    check_success: Family<Labels, Gauge>,
    bless_time: Family<Labels, Seconds>,
    moved: Family<Labels, Counter>,
    updates: Family<Labels, Counter>,
    rollbacks: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that count from zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("slipway"),
            release: Family::default(),
            phase: Family::default(),
            holds: Family::default(),
            probes: Family::default(),
            drifted: Family::default(),
            refused: Gauge::default(),
            refused_by: Family::default(),
            problem: Family::default(),
            synchronized: Gauge::default(),
            check_time: Family::default(),
            check_success: Family::default(),
            bless_time: Family::default(),
            moved: Family::default(),
            updates: Family::default(),
            rollbacks: Counter::default(),
        };
        metrics.register();
        // A counter that appears only with its first event hides that event from `rate`.
        for way in [TransferWay::Full, TransferWay::Blocks, TransferWay::Patch] {
            metrics.add_moved(way, 0);
        }
        for end in UpdateEnd::ALL {
            metrics.updates.get_or_create(&label("outcome", end.name())).inc_by(0);
        }
        metrics
    }

    fn register(&mut self) {
        let all = &mut self.registry;
        all.register("release_info", "The release that runs", self.release.clone());
        all.register("phase", "1 for the phase of the update", self.phase.clone());
        all.register("hold", "1 for each rule that holds the node", self.holds.clone());
        all.register("probe_passing", "1 for each probe that passes", self.probes.clone());
        let help = "Things that differ from what was signed, once the node was compared with it";
        all.register("drifted", help, self.drifted.clone());
        let help = "Releases that were bad on this node";
        all.register("refused_releases", help, self.refused.clone());
        let help = "Releases that were bad on this node, by cause and probe";
        all.register("refused_by", help, self.refused_by.clone());
        let help = "1 for what the node attempted last and did not bring about";
        all.register("problem", help, self.problem.clone());
        let help = "1 once a time server has set the clock";
        all.register("clock_synchronized", help, self.synchronized.clone());
        let help = "When the channel was asked last, as Unix time";
        let time = self.check_time.clone();
        all.register_with_unit("last_check_timestamp", help, Unit::Seconds, time);
        let help = "1 when the channel answered and is trusted";
        all.register("last_check_success", help, self.check_success.clone());
        let help = "Time from power-on until this boot was blessed";
        all.register_with_unit("bless", help, Unit::Seconds, self.bless_time.clone());
        let help = "Bytes fetched for updates, by the way in which they moved";
        all.register_with_unit("moved", help, Unit::Bytes, self.moved.clone());
        all.register("updates", "Updates, by how they ended", self.updates.clone());
        all.register("rollbacks", "Rollbacks by hand", self.rollbacks.clone());
    }

    /// Takes over everything that a status says.
    pub fn observe(&self, status: &Status) {
        let running = &status.running;
        self.release.clear();
        let text = |value: Option<String>| value.unwrap_or_default();
        let labels = vec![
            ("image", text(running.image.clone())),
            ("version", text(running.version.as_ref().map(ToString::to_string))),
            ("root_hash", text(running.root_hash.as_ref().map(ToString::to_string))),
            ("slot", running.slot.to_string()),
            ("generation", running.generation.to_string()),
        ];
        self.release.get_or_create(&labels).set(1);
        for phase in Phase::ALL {
            let here = i64::from(phase == status.phase);
            self.phase.get_or_create(&label("phase", phase.name())).set(here);
        }
        self.holds.clear();
        for hold in &status.holds {
            let rule = serde_json::to_value(hold.rule).unwrap_or_default();
            let rule = rule.as_str().unwrap_or_default();
            self.holds.get_or_create(&label("rule", rule)).set(1);
        }
        self.probes.clear();
        for probe in &status.health {
            let passing = i64::from(probe.state == ProbeState::Passing);
            self.probes.get_or_create(&label("probe", &probe.name)).set(passing);
        }
        if let Some(drift) = &status.drift {
            let differing = drift.items.iter().filter(|item| item.outcome == Outcome::Differs);
            let differing = i64::try_from(differing.count()).unwrap_or(i64::MAX);
            self.drifted.get_or_create(&Labels::new()).set(differing);
        }
        self.observe_causes(status);
        self.synchronized.set(i64::from(status.clock.synchronized));
        if let Some(check) = &status.last_check {
            let none = Labels::new();
            self.check_time.get_or_create(&none).set(check.at.as_second() as f64);
            let success = i64::from(check.outcome == CheckOutcome::Succeeded);
            self.check_success.get_or_create(&none).set(success);
        }
    }

    fn observe_causes(&self, status: &Status) {
        self.refused.set(i64::try_from(status.refused.len()).unwrap_or(i64::MAX));
        self.refused_by.clear();
        for refused in &status.refused {
            let probe = refused.probe.clone().unwrap_or_default();
            let labels = vec![("cause", refused.kind.name().to_owned()), ("probe", probe)];
            self.refused_by.get_or_create(&labels).inc();
        }
        let problem = status.problem.as_ref().map(|problem| problem.kind);
        for kind in ProblemKind::ALL.into_iter().chain([ProblemKind::Unknown]) {
            let here = i64::from(problem == Some(kind));
            self.problem.get_or_create(&label("kind", kind.name())).set(here);
        }
    }

    /// Counts bytes that were fetched.
    pub fn add_moved(&self, way: TransferWay, bytes: u64) {
        self.moved.get_or_create(&label("way", way.name())).inc_by(bytes);
    }

    /// Counts an update that ended.
    pub fn add_update(&self, end: UpdateEnd) {
        self.updates.get_or_create(&label("outcome", end.name())).inc();
    }

    /// Counts a rollback by hand.
    pub fn add_rollback(&self) {
        self.rollbacks.inc();
    }

    /// Notes how long after power-on this boot was blessed.
    pub fn note_blessed(&self, after: Duration) {
        self.bless_time.get_or_create(&Labels::new()).set(after.as_secs_f64());
    }

    /// Everything as text.
    ///
    /// # Errors
    /// Only when memory for the text cannot be had.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn label(name: &'static str, value: &str) -> Labels {
    vec![(name, value.to_owned())]
}

#[cfg(test)]
mod tests {
    use contract::node::api::{CauseKind, Check, Hold, Problem, Reached, RefusedRelease, Rule};

    use super::*;
    use crate::api::testing::status;

    #[test]
    fn what_runs_and_what_happened_is_in_the_text() {
        let metrics = Metrics::new();
        let mut status = status();
        status.phase = Phase::Staging;
        let sentence = "not \"yet\"".to_owned();
        status.holds = vec![Hold { rule: Rule::Wave, sentence, ends: None }];
        let at = status.clock.now;
        let message = "ok".to_owned();
        status.last_check = Some(Check { at, outcome: CheckOutcome::Succeeded, message });
        let (kind, next) = (ProblemKind::Staging, String::new());
        status.problem = Some(Problem { kind, at, message: String::new(), next });
        let bad = |hash: u8| RefusedRelease {
            version: None,
            root_hash: [hash; 32].into(),
            since: at,
            reached: Reached::Probe,
            kind: CauseKind::Probe,
            probe: Some("kubelet".to_owned()),
            also: Vec::new(),
            cause: String::new(),
        };
        status.refused = vec![bad(1), bad(2)];
        metrics.observe(&status);
        metrics.add_moved(TransferWay::Blocks, 4096);
        metrics.add_update(UpdateEnd::FellBack);
        metrics.note_blessed(Duration::from_millis(17_500));
        let text = metrics.text().unwrap();
        for line in [
            "slipway_phase{phase=\"staging\"} 1",
            "slipway_phase{phase=\"idle\"} 0",
            "slipway_hold{rule=\"wave\"} 1",
            "slipway_problem{kind=\"staging\"} 1",
            "slipway_problem{kind=\"journal\"} 0",
            "slipway_refused_releases 2",
            "slipway_refused_by{cause=\"probe\",probe=\"kubelet\"} 2",
            "slipway_probe_passing{probe=\"kubelet\"} 1",
            "slipway_moved_bytes_total{way=\"blocks\"} 4096",
            "slipway_moved_bytes_total{way=\"full\"} 0",
            "slipway_updates_total{outcome=\"fell-back\"} 1",
            "slipway_last_check_success 1",
            "slipway_last_check_timestamp_seconds 1795608000.0",
            "slipway_bless_seconds 17.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_is_over_leaves_no_series_behind() {
        let metrics = Metrics::new();
        let mut status = status();
        status.holds = vec![Hold { rule: Rule::Wave, sentence: String::new(), ends: None }];
        metrics.observe(&status);
        status.holds.clear();
        status.running.generation += 1;
        metrics.observe(&status);
        let text = metrics.text().unwrap();
        assert!(!text.contains("rule=\"wave\""), "{text}");
        assert_eq!(text.matches("slipway_release_info{").count(), 1, "{text}");
    }
}
