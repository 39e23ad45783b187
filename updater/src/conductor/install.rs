//! Writing a release to the other slot, and arming it.
//!
//! In: a verified offer. Out: an armed slot, or a problem on the board.
//! **Invariant:** each step takes the proof of the one before.

use std::time::Duration;

use contract::channel::group::Workloads;
use contract::{RootHash, UkiName};
use tokio::time::{Instant, timeout};

use super::{Conductor, Work};
use crate::api::wording;
use crate::chain;
use crate::cluster::{Cluster, Unanswered, has_joined};
use crate::effects::StateStore;
use crate::metrics::UpdateEnd;
use crate::policy::{self, Action, Order, Outage, VerdictTimes};
use crate::staging::{Confirmed, Delivery, Job, StageError};
use crate::update::{Plan, ReleaseId, carried};

/// How long the API server may take to list the node's pods before it restarts.
const WORKLOADS_LIMIT: Duration = Duration::from_secs(15);

impl Conductor {
    /// Starts to write the wanted release to the other slot.
    pub(super) async fn stage(&mut self) {
        let Some(offer) = self.look.found.as_ref().and_then(|found| found.offer.clone()) else {
            return;
        };
        let (Some(client), Some(channel)) = (
            self.http.clone(),
            self.settings.as_ref().and_then(|settings| settings.channel.clone()),
        ) else {
            return;
        };
        // A boot without a way back is judged on; the slot that is written becomes its way out.
        if let Work::Judging(task, _) = &self.work {
            task.abort();
        }
        self.staged = None;
        let version = offer.release.version.clone();
        let root_hash = offer.release.root.root_hash;
        let plan = Plan { release: ReleaseId { version: version.clone(), root_hash } };
        let disarmed = match self.step(move |machine| machine.disarm_target(&plan)).await {
            Some(Ok(disarmed)) => disarmed,
            Some(Err(error)) => return self.give_up_staging(&error),
            None => return,
        };
        tracing::info!(release = %version, "slipway: staging release {version}");
        let (stager, board) = (self.stager.clone(), self.parts.board.clone());
        let booted = self.booted().await;
        let mirrors = crate::http::mirrors(&channel);
        let task = tokio::task::spawn_local(async move {
            let progress = &board.progress;
            let offer = &offer;
            let mirrors = &mirrors;
            stager.stage(Job { offer, booted, disarmed, client, mirrors, progress }).await
        });
        self.work = Work::Staging(task, version);
    }

    pub(super) async fn booted(&self) -> Option<UkiName> {
        let effects = self.parts.effects.clone();
        let slot = self.parts.facts.slot.slot();
        let list = tokio::task::spawn_blocking(move || effects.esp.list()).await;
        let ukis = list.ok()?.ok()?;
        ukis.into_iter().filter(|name| name.slot == slot).max_by_key(|name| name.generation)
    }

    pub(super) async fn finish_staging(&mut self, result: Result<Delivery, StageError>) {
        let Delivery { staged, root_way: way, bytes_moved, journal_trouble, .. } = match result {
            Ok(delivery) => delivery,
            Err(error) => return self.give_up_staging(&error),
        };
        if let Some(trouble) = journal_trouble {
            tracing::warn!(trouble, "how far staging got could not be kept");
        }
        self.parts.metrics.add_moved(wording::way(way), bytes_moved);
        tracing::info!(
            bytes = bytes_moved,
            "slipway: release is staged, {bytes_moved} bytes moved, way {way}"
        );
        self.stage_failures = 0;
        self.stage_again = None;
        self.parts.board.change(|board| board.problem = None);
        let recorded = self
            .step(move |machine| {
                machine.record_staged(&staged)?;
                Ok(staged)
            })
            .await;
        match recorded {
            Some(Ok(staged)) => self.staged = Some(staged),
            Some(Err(error)) => self.give_up_staging(&error),
            None => {}
        }
    }

    pub(super) fn give_up_staging(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.complain("the release cannot be staged", error);
        self.parts.metrics.add_update(UpdateEnd::StageFailed);
        self.stage_failures = self.stage_failures.saturating_add(1);
        let (interval, jitter) = (Duration::from_secs(600), Duration::ZERO);
        let outage = Outage { failures: self.stage_failures, ..Outage::default() };
        let pause = policy::poll_delay(interval, jitter, outage, 0.0);
        self.stage_again = Some(Instant::now() + pause);
        self.order = Order::None;
    }

    /// Reads what was staged once more: it may have waited for days. Arms nothing yet.
    pub(super) fn apply(&mut self) {
        let found = self.look.found.as_ref();
        let Some(offer) = found.and_then(|found| found.offer.as_deref().cloned()) else {
            return;
        };
        let Some(staged) = self.staged.take() else {
            return;
        };
        if let Work::Judging(task, _) = &self.work {
            task.abort();
        }
        let version = offer.release.version.clone();
        tracing::info!(release = %version, "slipway: reading release {version} once more");
        let stager = self.stager.clone();
        let state = self.parts.effects.state.clone();
        let cluster = self.cluster().filter(|_| has_joined() && self.workloads_count());
        let root_hash = staged.root_hash();
        let task = tokio::spawn(async move {
            remember_workloads(state.as_ref(), cluster, root_hash).await;
            stager.confirm(staged, offer).await
        });
        self.work = Work::Confirming(task, version);
    }

    /// Whether what runs on this node alone must be Ready again after the restart.
    fn workloads_count(&self) -> bool {
        let group = self.look.found.as_ref().and_then(|found| found.group.as_ref());
        group.and_then(|group| group.spec.workloads) != Some(Workloads::Ignored)
    }

    /// Arms what is whole, if it is still to be; what has changed is staged again.
    pub(super) async fn finish_confirming(&mut self, result: Result<Confirmed, StageError>) {
        let confirmed = match result {
            Ok(confirmed) => confirmed,
            Err(error) => {
                self.stop_draining();
                return self.give_up_staged(&error);
            }
        };
        // Meanwhile the window may have closed, or another release be wanted.
        match self.decide(Some(confirmed.root_hash())).await.action {
            Action::Apply => self.arm(confirmed).await,
            Action::Nothing | Action::Stage => {
                self.stop_draining();
                self.staged = Some(confirmed.into_staged());
            }
        }
    }

    /// The first time it is staged again at once, which is no problem for an operator to solve. A
    /// disk on which it happens time and again is one, and gets ever longer pauses.
    fn give_up_staged(&mut self, error: &StageError) {
        if let StageError::Firmware(_) = error {
            return self.give_up_staging(error);
        }
        let again = self.spoiled;
        self.spoiled = again.saturating_add(1);
        if again > 0 {
            self.stage_failures = self.stage_failures.max(again);
            return self.give_up_staging(error);
        }
        let text = chain(error);
        tracing::warn!("slipway: what was staged is not whole, and is staged again: {text}");
        self.parts.metrics.add_update(UpdateEnd::StageFailed);
    }

    /// The times of the boot that comes next. With an order a node leaves also while the API server
    /// is silent, and then what comes next cannot be blamed for that.
    pub(super) async fn times_of_next_boot(&self) -> VerdictTimes {
        let group = self.look.found.as_ref().and_then(|found| found.group.as_deref());
        let health = self.settings.as_ref().map(|settings| &settings.health);
        let times = VerdictTimes::new(group, health);
        let Some(cluster) = self.cluster() else { return times };
        match cluster.is_ready().await {
            Err(Unanswered::Down(_)) => times.after_silence(),
            Ok(()) | Err(Unanswered::Wrong(_)) => times,
        }
    }

    /// Arms, and leaves when the answer to who asked for it had its time.
    async fn arm(&mut self, confirmed: Confirmed) {
        let times = self.times_of_next_boot().await;
        let state = self.parts.effects.state.clone();
        let armed = self
            .step(move |machine| {
                let carry = |booted, _| carried::carry(state.as_ref(), &times, booted);
                machine.arm(confirmed, &carry)
            })
            .await;
        match armed {
            Some(Ok(armed)) => self.leave(armed),
            Some(Err(error)) => {
                self.complain("the staged release cannot be armed", &error);
                self.stop_draining();
                self.machine = None;
            }
            None => {
                self.stop_draining();
                self.machine = None;
            }
        }
    }
}

/// Keeps for the next boot what is Ready on this node alone. When that cannot be known, nothing is
/// asked of the next boot: a silent API server must not keep a node from its update.
async fn remember_workloads(state: &dyn StateStore, cluster: Option<Cluster>, root_hash: RootHash) {
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
    if let Err(error) = carried::save_workloads(state, root_hash, ready) {
        tracing::warn!(%error, "which workloads must come back cannot be kept");
    }
}
