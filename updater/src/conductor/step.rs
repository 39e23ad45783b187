//! Where the node is between two boots: one value, which owns every proof.
//!
//! In: what the step before owned. Out: the next step, and the [`Event`] that ends it.
//! **Invariant:** a [`Pending`] boot stays with its judge until it is blessed, condemned or left
//! behind by a restart, whatever becomes of the other slot; a release that is [`Staged`] stays so
//! until the slot is written again or armed. Only [`Step::reopening`] lets go of both: the names on
//! the EFI system partition then say anew what is pending, and what was staged is staged again.
//!
//! ```text
//! Opening ─▶ Judging ─▶ Idle ⇄ Staging
//!    ▲          │        ▲ ├▶ Draining ─┐
//!    │          │        │ ◀────────────┤
//!    │          │        │ └▶ Confirming ◀┘
//!    │          ▼        │       │
//!  (any that failed)  Restarting ◀─ Leaving ◀┘
//! ```

use std::time::Duration;

use contract::ReleaseVersion;
use contract::RootHash;
use contract::node::api::Phase;
use tokio::time::{Instant, sleep_until};

use super::footing::Footing;
use super::machine::MachineHandle;
use super::task::Task;
use crate::cluster::Drain;
use crate::policy::{BootState, DrainState, OtherSlot};
use crate::staging::{Confirmed, Delivery, StageError, Staged};
use crate::update::{self, Armed, Lapsed, Pending};
use crate::verdict::Verdict;

/// Pause before a journal that could not be opened is tried again.
const REOPEN: Duration = Duration::from_secs(30);

/// A boot that is judged, and its judge.
pub struct Trial {
    pub pending: Pending,
    pub judge: Task<Verdict>,
}

/// This boot, of which the journal of updates is open.
pub struct Boot {
    pub machine: MachineHandle,
    /// Its judge, until it is found good. Beside other steps only where it has no way back.
    pub trial: Option<Trial>,
    /// Whoever waits until it has stood, where something depends on that.
    pub footing: Option<Footing>,
}

impl Boot {
    /// A boot that is good, and has stood.
    pub fn firm(machine: MachineHandle) -> Self {
        Self { machine, trial: None, footing: None }
    }

    /// What policy asks.
    pub fn state(&self) -> BootState {
        match (&self.trial, &self.footing) {
            (Some(trial), _) if trial.pending.can_fall_back() => BootState::Pending,
            (_, Some(_)) => BootState::Unproven,
            (Some(_), None) => BootState::PendingWithoutFallback,
            (None, None) => BootState::Blessed,
        }
    }
}

/// What the other slot holds that the node may restart into.
pub enum Ready {
    /// A release that was written there.
    Staged(Staged),
    /// A blessed one that used up its tries; this boot has stood.
    Lapsed(Lapsed),
}

/// Nothing is under way in the other slot.
pub struct Idle {
    pub boot: Boot,
    /// What the other slot holds.
    pub ready: Option<Ready>,
    /// The release for which the node may restart as it is. It holds for one decision.
    pub drained: Option<RootHash>,
}

impl Idle {
    /// A boot with nothing in the other slot.
    pub fn new(boot: Boot) -> Self {
        Self { boot, ready: None, drained: None }
    }

    /// The same with what the other slot holds.
    pub fn with(boot: Boot, ready: Option<Ready>) -> Self {
        Self { boot, ready, drained: None }
    }
}

/// Where the node is.
#[must_use]
pub enum Step {
    /// The journal of updates is not open: nobody knows what runs.
    Opening {
        /// When it is tried (again).
        again: Instant,
    },
    /// This boot is judged, and the other slot is its way back: nothing else is begun.
    Judging { machine: MachineHandle, trial: Trial },
    /// Nothing is under way.
    Idle(Idle),
    /// A release is written to the other slot.
    Staging { boot: Boot, task: Task<Result<Delivery, StageError>>, version: ReleaseVersion },
    /// Pods leave the node, before it restarts into the other slot.
    Draining { boot: Boot, ready: Ready, drain: Drain },
    /// What was staged is read once more; its proof is with who reads it.
    Confirming { boot: Boot, task: Task<Result<Confirmed, StageError>>, version: ReleaseVersion },
    /// The other slot is armed, and the node restarts at that time.
    Leaving { machine: MachineHandle, armed: Armed, at: Instant },
    /// The node restarts.
    Restarting { machine: MachineHandle },
}

/// What ends a step by itself.
#[derive(Debug)]
pub enum Event {
    /// This boot was judged.
    Judged(Verdict),
    /// Its judge ended without a word.
    JudgeLost,
    /// This boot has stood.
    Stood,
    /// The release was written, or not.
    Staged(Result<Delivery, StageError>),
    /// Pods have left, or the deadline is over.
    Drained(Result<(), String>),
    /// What was staged is as it was, or not.
    Confirmed(Result<Confirmed, StageError>),
    /// Answers had their time.
    Left,
}

impl Step {
    /// The first one.
    pub fn opening() -> Self {
        Step::Opening { again: Instant::now() }
    }

    /// After an effect that failed: what is true is read anew, after a pause.
    pub fn reopening() -> Self {
        Step::Opening { again: Instant::now() + REOPEN }
    }

    /// Waits for the end of what is under way; for ever when nothing is. Nothing is lost when the
    /// wait is given up.
    pub async fn event(&mut self) -> Event {
        match self {
            Step::Opening { .. } | Step::Restarting { .. } => std::future::pending().await,
            Step::Judging { trial, .. } => trial.event().await,
            Step::Idle(Idle { boot, .. }) => boot.event().await,
            Step::Staging { boot, task, .. } => tokio::select! {
                biased;
                event = boot.event() => event,
                staged = task => Event::Staged(staged.unwrap_or(Err(StageError::Stopped))),
            },
            Step::Draining { boot, drain, .. } => tokio::select! {
                biased;
                event = boot.event() => event,
                drained = drain.ended() => Event::Drained(drained),
            },
            Step::Confirming { boot, task, .. } => tokio::select! {
                biased;
                event = boot.event() => event,
                read = task => Event::Confirmed(read.unwrap_or(Err(StageError::Stopped))),
            },
            Step::Leaving { at, .. } => {
                sleep_until(*at).await;
                Event::Left
            }
        }
    }

    /// The open machine.
    pub fn machine(&self) -> Option<&MachineHandle> {
        match self {
            Step::Opening { .. } => None,
            Step::Judging { machine, .. }
            | Step::Leaving { machine, .. }
            | Step::Restarting { machine } => Some(machine),
            Step::Idle(Idle { boot, .. })
            | Step::Staging { boot, .. }
            | Step::Draining { boot, .. }
            | Step::Confirming { boot, .. } => Some(&boot.machine),
        }
    }

    /// This boot beside the other slot's work.
    pub fn boot_mut(&mut self) -> Option<&mut Boot> {
        match self {
            Step::Idle(Idle { boot, .. })
            | Step::Staging { boot, .. }
            | Step::Draining { boot, .. }
            | Step::Confirming { boot, .. } => Some(boot),
            Step::Opening { .. }
            | Step::Judging { .. }
            | Step::Leaving { .. }
            | Step::Restarting { .. } => None,
        }
    }

    /// Whoever judges this boot.
    #[cfg(test)]
    pub fn trial_mut(&mut self) -> Option<&mut Trial> {
        match self {
            Step::Judging { trial, .. } => Some(trial),
            step => step.boot_mut()?.trial.as_mut(),
        }
    }

    /// Is this boot known to be good?
    pub fn boot_state(&self) -> BootState {
        match self {
            Step::Opening { .. } => BootState::Unknown,
            Step::Judging { .. } => BootState::Pending,
            Step::Idle(Idle { boot, .. })
            | Step::Staging { boot, .. }
            | Step::Draining { boot, .. }
            | Step::Confirming { boot, .. } => boot.state(),
            Step::Leaving { .. } | Step::Restarting { .. } => BootState::Blessed,
        }
    }

    /// What is known of the other slot.
    pub fn other_slot(&self) -> OtherSlot {
        let ready = match self {
            Step::Idle(Idle { ready, .. }) => ready.as_ref(),
            Step::Draining { ready, .. } => Some(ready),
            Step::Opening { .. }
            | Step::Judging { .. }
            | Step::Staging { .. }
            | Step::Confirming { .. }
            | Step::Leaving { .. }
            | Step::Restarting { .. } => None,
        };
        match ready {
            Some(Ready::Staged(staged)) => OtherSlot::Staged(staged.root_hash()),
            Some(Ready::Lapsed(_)) => OtherSlot::Lapsed,
            None => OtherSlot::Unknown,
        }
    }

    /// How far the node is emptied.
    pub fn drain_state(&self) -> DrainState {
        match self {
            Step::Draining { drain, .. } => drain.state(),
            Step::Idle(Idle { drained: Some(root_hash), .. }) => {
                DrainState::Done { root_hash: *root_hash }
            }
            Step::Opening { .. }
            | Step::Judging { .. }
            | Step::Idle(_)
            | Step::Staging { .. }
            | Step::Confirming { .. }
            | Step::Leaving { .. }
            | Step::Restarting { .. } => DrainState::Idle,
        }
    }

    /// True while the other slot is at work, or the node about to leave this one.
    pub fn is_busy(&self) -> bool {
        match self {
            Step::Staging { .. }
            | Step::Confirming { .. }
            | Step::Leaving { .. }
            | Step::Restarting { .. } => true,
            Step::Opening { .. } | Step::Judging { .. } | Step::Idle(_) | Step::Draining { .. } => {
                false
            }
        }
    }

    /// True when the restart is decided.
    pub fn is_leaving(&self) -> bool {
        matches!(self, Step::Leaving { .. } | Step::Restarting { .. })
    }

    /// Whether the channel may be asked now: a slow one must keep neither a boot from its verdict
    /// nor a slot from its end.
    pub fn may_look(&self) -> bool {
        let is_known = match self.boot_state() {
            BootState::Pending | BootState::Unknown => false,
            BootState::Blessed | BootState::Unproven | BootState::PendingWithoutFallback => true,
        };
        !self.is_busy() && is_known
    }

    /// Whether no restart is near, so that the node's own cordon has no reason. A boot that is
    /// judged may end in another restart.
    pub fn takes_pods(&self) -> bool {
        match self {
            Step::Idle(Idle { boot, drained: None, .. }) | Step::Staging { boot, .. } => {
                boot.trial.is_none()
            }
            Step::Opening { .. }
            | Step::Judging { .. }
            | Step::Idle(_)
            | Step::Draining { .. }
            | Step::Confirming { .. }
            | Step::Leaving { .. }
            | Step::Restarting { .. } => false,
        }
    }

    /// The same as the API names it.
    pub fn phase(&self) -> Phase {
        match self {
            Step::Opening { .. } => Phase::Idle,
            Step::Judging { .. } => Phase::Pending,
            Step::Idle(Idle { ready: Some(Ready::Staged(_)), .. }) | Step::Confirming { .. } => {
                Phase::Staged
            }
            Step::Idle(Idle { boot, .. }) => match boot.trial {
                Some(_) => Phase::Pending,
                None => Phase::Idle,
            },
            Step::Staging { .. } => Phase::Staging,
            Step::Draining { .. } => Phase::Draining,
            Step::Leaving { machine, .. } | Step::Restarting { machine } => {
                match machine.read(|machine| machine.journal().phase.clone()) {
                    update::Phase::Condemned { .. } => Phase::FallingBack,
                    update::Phase::Steady
                    | update::Phase::Staging { .. }
                    | update::Phase::Staged { .. }
                    | update::Phase::Armed { .. }
                    | update::Phase::Pending { .. } => Phase::Armed,
                }
            }
        }
    }
}

impl Trial {
    async fn event(&mut self) -> Event {
        match (&mut self.judge).await {
            Ok(verdict) => Event::Judged(verdict),
            Err(_) => Event::JudgeLost,
        }
    }
}

impl Boot {
    async fn event(&mut self) -> Event {
        tokio::select! {
            biased;
            event = async {
                match &mut self.trial {
                    Some(trial) => trial.event().await,
                    None => std::future::pending().await,
                }
            } => event,
            () = async {
                match &mut self.footing {
                    Some(footing) => footing.stood().await,
                    None => std::future::pending().await,
                }
            } => Event::Stood,
        }
    }
}
