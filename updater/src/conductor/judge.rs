//! Judging this boot, as a task that needs nothing but what it is given.
//!
//! In: probes and times. Out: a verdict; what the probes say goes to the board meanwhile.
//! **Invariant:** a boot without a way back is never given up, only judged on.

use std::sync::Arc;
use std::time::Duration;

use contract::RootHash;
use contract::node::api::{Probe as ApiProbe, ProbeState};
use contract::node::settings;
use tokio::time::sleep;

use super::board::Board;
use crate::cluster::Workload;
use crate::effects::{Effects, off_thread};
use crate::planted::{Planted, is_planted};
use crate::policy::VerdictTimes;
use crate::update::{Failure, carried};
use crate::verdict::{self, NodePrograms, Pace, Round, Silence, Verdict, VerdictTerms};

/// Time between two verdicts on a boot without a way back whose probes cannot even be asked.
const HOPELESS_PAUSE: Duration = Duration::from_secs(60);

/// What a judge needs.
pub struct Judged {
    /// Where container runtime and kubelet are.
    pub node: NodePrograms,
    /// The cluster that the node joins.
    pub cluster: Option<settings::KubernetesSettings>,
    /// The release that runs, if what was Ready on the node before it must be so again.
    pub workloads_of: Option<RootHash>,
    /// What a good boot is, by the settings.
    pub health: Option<settings::HealthSettings>,
    /// Adds up over all that judge this boot.
    pub silence: Arc<Silence>,
    /// Whether there is a release to go back to.
    pub can_fall_back: bool,
    /// What is asked, and time.
    pub effects: Effects,
    /// Where the probes' answers go.
    pub board: Arc<Board>,
}

/// Judges until the verdict.
pub async fn judge(judged: Judged) -> Verdict {
    let (workloads, times) = carried_for(&judged).await;
    let Judged { node, cluster, health, silence, can_fall_back, effects, board, .. } = judged;
    let added = health.map(|health| health.probes).unwrap_or_default();
    let probes = match verdict::probes(&effects, &node, cluster.as_ref(), workloads, &added) {
        Ok(probes) => probes,
        // Settings are checked before they are taken: only a later generation's come here. They stay
        // what they are, so whoever judges on may take a while.
        Err(error) => {
            if !can_fall_back {
                sleep(HOPELESS_PAUSE).await;
            }
            return Verdict::Failed(Failure::new("settings", &error.to_string()));
        }
    };
    let terms = VerdictTerms {
        settle: times.settle(),
        deadline: can_fall_back.then(|| times.deadline()),
        api_server_grace: times.api_server_grace(),
        pace: Pace::default(),
    };
    let (mut said, clock) = (Said::default(), effects.clock.as_ref());
    let verdict = verdict::judge(&probes, terms, &silence, clock, |round| {
        said.tell(round, clock.uptime());
        board.change(|board| board.health = round.answers.iter().map(probe).collect());
    });
    let verdict = verdict.await;
    if is_planted(Planted::VerdictDropped) {
        return std::future::pending().await;
    }
    verdict
}

/// What the boot before left for this one: what must be Ready again, and how long that may take.
async fn carried_for(judged: &Judged) -> (Vec<Workload>, VerdictTimes) {
    let (state, health) = (judged.effects.state.clone(), judged.health.clone());
    let workloads_of = judged.workloads_of;
    let read = move || {
        let state = state.as_ref();
        let workloads = workloads_of.map(|release| carried::load_workloads(state, release));
        (workloads.unwrap_or_default(), carried::times(state, health.as_ref()))
    };
    off_thread(read).await.unwrap_or_else(|error| {
        tracing::error!(%error, "slipway: what was carried over for this boot is not known");
        (Vec::new(), VerdictTimes::new(None, judged.health.as_ref()))
    })
}

/// What was told already: the journal gets changes, not rounds.
#[derive(Default)]
struct Said {
    containerd: bool,
    missing: Option<String>,
}

impl Said {
    fn tell(&mut self, round: &Round, uptime: Duration) {
        let seconds = uptime.as_secs_f64();
        let well = |name: &str| {
            round.answers.iter().any(|answer| answer.probe == name && answer.missing.is_none())
        };
        if !self.containerd && well("containerd") {
            self.containerd = true;
            tracing::info!("slipway: containerd ready after {seconds:.1} s");
        }
        let missing = round.answers.iter().find(|answer| answer.missing.is_some());
        let missing = missing.map_or(String::new(), |answer| answer.probe.clone());
        if self.missing.as_ref() == Some(&missing) {
            return;
        }
        match missing.as_str() {
            "" => tracing::info!("slipway: node healthy after {seconds:.1} s since power-on"),
            probe => tracing::info!(probe, "slipway: waiting for {probe}"),
        }
        self.missing = Some(missing);
    }
}

fn probe(answer: &verdict::ProbeAnswer) -> ApiProbe {
    let state = match answer.missing {
        None => ProbeState::Passing,
        Some(_) => ProbeState::Failing,
    };
    ApiProbe { name: answer.probe.clone(), state, message: answer.missing.clone() }
}
