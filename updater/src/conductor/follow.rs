//! Asking the channel, and doing what policy decides.
//!
//! In: the channel's documents, the clock, what the machine refuses. Out: a decision, carried
//! out, and the holds for the board. **Invariant:** nothing is done that policy did not decide.

use std::time::Duration;

use contract::RootHash;
use contract::node::api::{Check, CheckOutcome};
use tokio::time::Instant;

use super::settings::Lack;
use super::{Conductor, Look, ROUND, Work};
use crate::channel::{ClockReading, Found};
use crate::policy::{self, Action, BootState, Decision, Hold, Order, PolicyInput};
use crate::staging::Staged;
use crate::update::Pending;

impl Conductor {
    /// Asks the channel.
    pub(super) async fn look(&mut self) {
        let clock = self.parts.effects.clock.clone();
        let now = clock.now();
        let Some(client) = &self.client else {
            self.next_look = Instant::now() + self.pause();
            return;
        };
        let reading = ClockReading::take(clock.as_ref());
        let looked = client.look(&reading, self.pin.as_ref()).await;
        let (outcome, message) = match looked {
            Ok(found) => {
                if found.is_memory_damaged {
                    tracing::warn!("part of what the node remembers of its channel was damaged");
                }
                let message = format!("{} answered", found.mirror);
                self.look = Look { found: Some(found), ..Look::default() };
                (CheckOutcome::Succeeded, message)
            }
            Err(error) => {
                let sentence = error.sentence();
                tracing::warn!("slipway: the channel cannot be followed: {sentence}");
                self.look.outage = policy::Outage {
                    failures: self.look.outage.failures.saturating_add(1),
                    retry_after: error.retry_after().unwrap_or_default(),
                };
                let is_clock = error.is_clock();
                self.look.failure =
                    Some(policy::Failure { sentence: sentence.clone(), is_clock, next: None });
                (CheckOutcome::Failed, sentence)
            }
        };
        let pause = self.pause();
        self.next_look = Instant::now() + pause;
        if let Some(failure) = &mut self.look.failure {
            failure.next = now.checked_add(pause).ok();
        }
        self.parts.board.change(|board| {
            board.last_check = Some(Check { at: now, outcome, message });
        });
    }

    /// Time until the channel is asked again.
    pub(super) fn pause(&self) -> Duration {
        let Some(channel) = self.settings.as_ref().and_then(|settings| settings.channel.as_ref())
        else {
            return self.pause_for_settings();
        };
        let mut chance = [0; 8];
        // Without random numbers the fleet asks at once, and that is all.
        let chance =
            match rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty()) {
                Ok(_) => u64::from_le_bytes(chance) as f64 / u64::MAX as f64,
                Err(_) => 0.0,
            };
        let (interval, jitter) =
            (channel.poll_interval.unsigned_abs(), channel.jitter.unsigned_abs());
        // A clock that waits for a time server is asked often: nothing goes over the network.
        if self.look.failure.as_ref().is_some_and(|failure| failure.is_clock) {
            return ROUND.min(interval);
        }
        policy::poll_delay(interval, jitter, self.look.outage, chance)
    }

    /// What policy says now, given the root hash of what is staged.
    pub(super) async fn decide(&self, staged: Option<RootHash>) -> Decision {
        let effects = self.parts.effects.clone();
        let room = tokio::task::spawn_blocking(move || effects.esp.free_bytes().ok()).await;
        let refusals: Vec<policy::Refusal> = self
            .with_machine(|machine| {
                let refusals = machine.journal().refusals.iter();
                refusals
                    .map(|known| policy::Refusal {
                        root_hash: known.release.root_hash,
                        cause: known.cause.to_string(),
                    })
                    .collect()
            })
            .unwrap_or_default();
        let documents = self.look.found.as_ref().map(Found::documents);
        policy::decide(&PolicyInput {
            now: self.parts.effects.clock.now(),
            node: &self.parts.identity.machine_id,
            updater: &self.parts.identity.updater,
            boot: self.boot_state(),
            running: self.parts.facts.root_hash,
            settings: self.settings.as_ref(),
            lack: self.lack.as_ref().map(Lack::sentence),
            pin: self.pin.as_ref(),
            documents: documents.as_ref(),
            failure: self.look.failure.as_ref(),
            refusals: &refusals,
            staged,
            esp_room: room.ok().flatten(),
            api_server: self.heard.answer.as_ref(),
            order: self.order,
        })
    }

    pub(super) fn boot_state(&self) -> BootState {
        match self.work {
            Work::Judging(_, ref pending) => {
                // A first boot has nothing to protect: an update may be what heals it.
                let can_fall_back = pending.as_ref().is_none_or(Pending::can_fall_back);
                if can_fall_back { BootState::Pending } else { BootState::Blessed }
            }
            Work::None
            | Work::Staging(..)
            | Work::Draining(_)
            | Work::Confirming(..)
            | Work::Leaving(..)
            | Work::Restarting => match self.machine {
                Some(_) => BootState::Blessed,
                None => BootState::Pending,
            },
        }
    }

    /// Does what policy decides, and says what holds the node otherwise.
    pub(super) async fn follow(&mut self) -> Decision {
        self.ask_api_server().await;
        let mut decision = self.decide(self.staged.as_ref().map(Staged::root_hash)).await;
        let wanted = decision.target.as_ref().map(|target| target.version.clone());
        self.parts.board.change(|board| board.wanted = wanted);
        if decision.action != Action::Apply && !self.is_busy() {
            self.stop_draining();
        }
        match decision.action {
            _ if self.is_busy() => {}
            Action::Nothing => {}
            Action::Stage => match self.stage_again.filter(|again| *again > Instant::now()) {
                Some(again) if self.order == Order::None => {
                    let pause = again.saturating_duration_since(Instant::now());
                    decision.holds.push(self.stage_hold(pause));
                    decision.action = Action::Nothing;
                }
                _ => self.stage().await,
            },
            Action::Apply => {
                let terms = self.drain_terms();
                self.apply_when_drained(&mut decision, terms);
            }
        }
        let holds = decision.holds.clone();
        self.parts.board.change(|board| board.holds = holds);
        decision
    }

    pub(super) fn stage_hold(&self, pause: Duration) -> Hold {
        let problem = self.parts.board.read().problem;
        let sentence = problem.map(|problem| problem.message).unwrap_or_default();
        let next = self.parts.effects.clock.now().checked_add(pause).ok();
        Hold::CheckFailed { sentence, next }
    }
}
