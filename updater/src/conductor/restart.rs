//! From a staged release to the restart into it.
//!
//! In: policy's word, and what is staged. Out: a node that was emptied, a slot that was read once
//! more and is armed, a restart. **Invariant:** only what was read a moment ago, and policy still
//! wants, is armed; what is not armed stays staged.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use contract::RootHash;
use contract::channel::group::{self, Workloads};
use contract::node::api::{Problem, ProblemKind};
use tokio::time::{Instant, timeout};

use super::Conductor;
use super::follow::Seen;
use super::machine::MachineHandle;
use super::step::{Boot, Idle, Ready, Step};
use crate::cluster::{Cluster, Drain, Ended, Unanswered};
use crate::effects::{StateStore, off_thread};
use crate::policy::{Action, OfferFacts, Order, OtherSlot, VerdictTimes};
use crate::staging::{Confirmed, StageError};
use crate::update::{Armed, carried};

/// How long the API server may take to list the node's pods before it restarts.
const WORKLOADS_LIMIT: Duration = Duration::from_secs(15);
/// Time between arming and the restart, in which answers reach those who asked for it: the
/// restart ends this program first, and the network soon after.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(2);

impl Conductor {
    /// Begins to empty the node.
    pub(super) fn drain(&mut self, idle: Idle, target: &OfferFacts, terms: group::Drain) -> Step {
        let Idle { boot, ready, .. } = idle;
        let (ready, cluster) = match (ready, self.cluster()) {
            (Some(ready), Some(cluster)) => (ready, cluster),
            // Policy drains a node in a cluster, for what the other slot holds.
            (ready, _) => return Step::Idle(Idle::with(boot, ready)),
        };
        // Other problems are not solved by this.
        self.parts.board.solve(ProblemKind::Draining);
        let release = (target.version.clone(), target.root_hash);
        let now = self.parts.effects.clock.now();
        let drain = self.drainer.begin(cluster, release, terms, now);
        Step::Draining { boot, ready, drain }
    }

    /// What becomes of a drain that has ended by itself.
    pub(super) fn finish_drain(
        &mut self,
        boot: Boot,
        ready: Ready,
        drain: &Drain,
        result: Result<(), String>,
    ) -> Step {
        let drained = match self.drainer.finish(drain, result) {
            Ended::Drained(root_hash) => Some(root_hash),
            Ended::Waits(waiting) => {
                self.end_order(drain, &waiting);
                None
            }
        };
        Step::Idle(Idle { boot, ready: Some(ready), drained })
    }

    /// An order is one try; without it the hold may be another one.
    fn end_order(&mut self, drain: &Drain, waiting: &str) {
        if self.wishes.order != Order::Apply {
            return;
        }
        self.wishes.order = Order::None;
        let problem = Problem {
            kind: ProblemKind::Draining,
            at: self.parts.effects.clock.now(),
            message: format!("release {} was not started: {waiting}", drain.version()),
            next: "let the pod go, and run `slipway node update` again".to_owned(),
        };
        self.parts.board.set_problem(problem);
    }

    /// Reads what was staged once more: it may have waited for days. Arms nothing yet.
    pub(super) fn confirm(&mut self, idle: Idle) -> Step {
        let Idle { boot, ready, .. } = idle;
        let (staged, offer) = match (ready, self.watch.offer()) {
            (Some(Ready::Staged(staged)), Some(offer)) => (staged, offer.clone()),
            // Policy confirms what is staged, for an offer.
            (ready, _) => return Step::Idle(Idle::with(boot, ready)),
        };
        let version = offer.release.version.clone();
        tracing::info!(release = %version, "slipway: reading release {version} once more");
        let stager = self.stager.clone();
        let state = self.parts.effects.state.clone();
        let cluster = self.cluster().filter(|_| self.has_joined() && self.workloads_count());
        let root_hash = staged.root_hash();
        let task = tokio::spawn(async move {
            remember_workloads(state, cluster, root_hash).await;
            stager.confirm(staged, offer).await
        });
        Step::Confirming { boot, task: task.into(), version }
    }

    /// Whether what runs on this node alone must be Ready again after the restart.
    fn workloads_count(&self) -> bool {
        let group = self.watch.group();
        group.and_then(|group| group.spec.workloads) != Some(Workloads::Ignored)
    }

    /// Arms what is whole, if it is still to be; what has changed is staged again.
    pub(super) async fn finish_confirming(
        &mut self,
        boot: Boot,
        result: Result<Confirmed, StageError>,
    ) -> Step {
        let confirmed = match result {
            Ok(confirmed) => confirmed,
            Err(error) => {
                self.give_up_staged(&error);
                return Step::Idle(Idle::new(boot));
            }
        };
        // Meanwhile the window may have closed, or another release be wanted.
        let other = OtherSlot::Confirmed(confirmed.root_hash());
        let seen = Seen::of_boot(&boot.machine, boot.state(), other);
        match self.decide(&seen).await.action {
            Action::Arm => self.arm(boot, confirmed).await,
            Action::Nothing
            | Action::Stage
            | Action::Drain(_)
            | Action::Confirm
            | Action::GoBack => {
                Step::Idle(Idle::with(boot, Some(Ready::Staged(confirmed.into_staged()))))
            }
        }
    }

    /// The times of the boot that comes next. With an order a node leaves also while the API server
    /// is silent, and then what comes next cannot be blamed for that.
    pub(super) async fn times_of_next_boot(&self) -> VerdictTimes {
        let health = self.keeper.settings().map(|settings| &settings.health);
        let times = VerdictTimes::new(self.watch.group(), health);
        let Some(cluster) = self.cluster() else { return times };
        match cluster.is_ready().await {
            Err(Unanswered::Down(_)) => times.after_silence(),
            Ok(()) | Err(Unanswered::Wrong(_)) => times,
        }
    }

    /// Arms, and leaves when the answer to who asked for it had its time. A boot that is still
    /// judged is left behind.
    async fn arm(&mut self, boot: Boot, confirmed: Confirmed) -> Step {
        let times = self.times_of_next_boot().await;
        let state = self.parts.effects.state.clone();
        let armed = boot.machine.step(move |machine| {
            let carry = |booted, _| carried::carry(state.as_ref(), &times, booted);
            machine.arm(confirmed, &carry)
        });
        match armed.await {
            Ok(armed) => self.leave(boot.machine, armed),
            Err(error) => {
                self.complain(ProblemKind::Arming, "the staged release cannot be armed", &error);
                Step::reopening()
            }
        }
    }

    /// The restart comes when answers had their time; until then nothing else is begun.
    pub(super) fn leave(&self, machine: MachineHandle, armed: Armed) -> Step {
        tracing::info!(uki = %armed.name(), "slipway: restarting into the other slot");
        Step::Leaving { machine, armed, at: Instant::now() + ANSWER_TIME }
    }

    /// Restarts.
    pub(super) async fn restart(&mut self, machine: MachineHandle, armed: Armed) -> Step {
        match machine.step(move |machine| machine.restart(&armed)).await {
            Ok(()) => Step::Restarting { machine },
            Err(error) => {
                self.complain(ProblemKind::Restarting, "the node does not restart", &error);
                Step::reopening()
            }
        }
    }
}

/// Keeps for the next boot what is Ready on this node alone. When that cannot be known, nothing is
/// asked of the next boot: a silent API server must not keep a node from its update.
async fn remember_workloads(
    state: Arc<dyn StateStore>,
    cluster: Option<Cluster>,
    root_hash: RootHash,
) {
    let ready = match cluster {
        Some(cluster) => match timeout(WORKLOADS_LIMIT, cluster.ready_workloads()).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(error)) => {
                tracing::warn!("slipway: which workloads must come back is not known: {error}");
                Vec::new()
            }
            Err(_) => {
                tracing::warn!("slipway: which workloads must come back is not known in time");
                Vec::new()
            }
        },
        None => Vec::new(),
    };
    let save = move || carried::save_workloads(state.as_ref(), root_hash, ready);
    if let Err(error) = off_thread(save).await.map_err(io::Error::other).flatten() {
        tracing::warn!(%error, "which workloads must come back cannot be kept");
    }
}
