//! The daemon's answers to the API.
//!
//! In: requests that the API let through. Out: what the board shows, or what the conductor says.
//! **Invariant:** nothing here changes the machine; wishes go to the conductor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use contract::UkiName;
use contract::node::api::{
    Accepted, Action, ApiError, Boot, Code, Depth, Drift, Follows, History, NodeClock, OtherSlot,
    Pin, PinnedBy, Running, SettingsMode, SettingsOutcome, Status, Why,
};
use tokio::sync::{mpsc, oneshot};

use super::identity::Identity;
use crate::api::{Caller, Node, wording};
use crate::conductor::{Board, OperatorRequest, Snapshot};
use crate::drift::{self, Installed};
use crate::effects::boot::BootFacts;
use crate::effects::{Effects, off_thread};
use crate::metrics::Metrics;
use crate::update::Phase;

/// What answers.
pub struct Front {
    /// Who the node is.
    pub identity: Arc<Identity>,
    /// What the conductor knows.
    pub board: Arc<Board>,
    /// For comparisons, which only read.
    pub effects: Effects,
    /// What is booted.
    pub facts: BootFacts,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// To the conductor.
    pub requests: mpsc::Sender<OperatorRequest>,
}

impl Front {
    /// The status of this moment.
    pub fn current(&self) -> Status {
        let Snapshot {
            booted,
            other,
            phase,
            wanted,
            way: _,
            journal,
            holds,
            health,
            group,
            channel,
            group_pin,
            maximum_version,
            pin,
            last_check,
            problem,
            drift,
            settings,
            settings_redacted: _,
        } = self.board.read();
        let clock = &self.effects.clock;
        let staging = phase == contract::node::api::Phase::Staging;
        let pin = pin
            .map(|version| Pin { version, by: PinnedBy::Operator })
            .or(group_pin.map(|version| Pin { version, by: PinnedBy::Group }));
        let progress = self.board.progress.borrow().clone();
        Status {
            machine_id: self.identity.machine_id.clone(),
            hostname: self.effects.membership.host_name(),
            addresses: Identity::addresses(),
            running: self.running(booted, &journal.phase),
            other: other.map(|name| OtherSlot {
                slot: name.slot,
                generation: name.generation,
                version: journal.slots.get(&name.slot).map(|known| known.release.version.clone()),
            }),
            phase,
            target: wanted.filter(|_| phase != contract::node::api::Phase::Idle),
            progress: wording::progress(&progress).filter(|_| staging),
            health,
            follows: Follows { group, channel, pin, maximum_version },
            holds: holds.iter().map(Into::into).collect(),
            last_check,
            problem,
            fallback: wording::fallback(&journal),
            refused: journal.refusals.iter().map(wording::refused).collect(),
            drift,
            settings,
            clock: NodeClock {
                now: clock.now(),
                synchronized: clock.is_synchronized(),
                uptime_seconds: clock.uptime().as_secs(),
            },
            updater: self.identity.updater.to_string(),
        }
    }

    fn running(&self, booted: Option<UkiName>, phase: &Phase) -> Running {
        let boot = match (booted.map(|name| name.is_on_trial()), phase) {
            (Some(false), _) => Boot::Blessed,
            (_, Phase::Condemned { .. }) => Boot::Condemned,
            _ => Boot::Pending,
        };
        Running {
            image: self.identity.image_name.clone(),
            version: Some(self.facts.version.clone()),
            root_hash: Some(self.facts.root_hash),
            slot: self.facts.slot.slot(),
            generation: booted.map_or(0, |name| name.generation),
            boot,
            tries_left: booted.and_then(|name| name.tries).map(|tries| tries.left),
        }
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, ApiError>>) -> OperatorRequest,
    ) -> Result<T, ApiError> {
        let (answer, waiting) = oneshot::channel();
        let gone = || ApiError::new(Code::Internal, "slipwayd is ending", "ask again in a moment");
        self.requests.send(request(answer)).await.map_err(|_| gone())?;
        waiting.await.map_err(|_| gone())?
    }
}

/// Stops a comparison whose caller is gone.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Node for Front {
    async fn status(&self) -> Status {
        self.current()
    }

    async fn why(&self) -> Why {
        let snapshot = self.board.read();
        Why {
            running: Some(self.facts.version.clone()),
            wanted: snapshot.way.last().cloned().or(snapshot.wanted),
            way: snapshot.way,
            holds: snapshot.holds.iter().map(Into::into).collect(),
        }
    }

    async fn history(&self) -> History {
        let journal = self.board.read().journal;
        History { events: journal.history.iter().map(wording::event).collect() }
    }

    async fn drift(&self, depth: Depth) -> Result<Drift, ApiError> {
        let journal = self.board.read().journal;
        let installed = |slot| {
            let record = journal.slots.get(&slot)?;
            Some(Installed { root_hash: record.release.root_hash, uki: record.uki })
        };
        let request = drift::Comparison {
            booted: self.facts.slot,
            kernel_root_hash: Some(self.facts.root_hash),
            a: installed(contract::Slot::A),
            b: installed(contract::Slot::B),
            depth,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let _guard = StopOnDrop(stop.clone());
        let effects = self.effects.clone();
        let compare =
            move || drift::compare(&request, &drift::DriftPlaces::default(), &effects, &stop);
        let drift = off_thread(compare).await.map_err(|_| {
            ApiError::new(Code::Internal, "the comparison ended early", "read `slipway node logs`")
        })?;
        self.board.change(|snapshot| snapshot.drift = Some(drift.clone()));
        Ok(drift)
    }

    async fn settings(&self) -> Result<serde_json::Value, ApiError> {
        self.board.read().settings_redacted.ok_or_else(|| {
            ApiError::new(
                Code::Conflict,
                "the node has no settings",
                "give it some with `slipway node settings set`",
            )
        })
    }

    async fn replace_settings(
        &self,
        caller: &Caller,
        document: Bytes,
        mode: SettingsMode,
    ) -> Result<SettingsOutcome, ApiError> {
        tracing::info!(caller = caller.name(), ?mode, "settings were sent");
        self.ask(|answer| OperatorRequest::Settings(document, mode, answer)).await
    }

    async fn act(&self, caller: &Caller, action: Action) -> Result<Accepted, ApiError> {
        tracing::info!(caller = caller.name(), ?action, "an operator asks");
        self.ask(|answer| OperatorRequest::Act(action, answer)).await
    }

    async fn metrics(&self) -> Result<String, ApiError> {
        self.metrics.observe(&self.current());
        self.metrics.text().map_err(|_| {
            ApiError::new(Code::Internal, "the metrics cannot be written", "report this")
        })
    }
}
