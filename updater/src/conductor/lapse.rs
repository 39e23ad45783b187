//! What follows once this boot has stood: its tries come back, and so may a newer blessed release
//! that used up its own.
//!
//! In: the end of a [`Footing`](super::footing::Footing); policy's word. Out: all tries for what
//! runs; a lapsed release that is ready to go back to, and the restart into it. **Invariant:**
//! nothing is given back by a boot that has not stood, and a slot that is not what was installed gets
//! no tries.

use contract::node::api::ProblemKind;

use super::Conductor;
use super::machine::MachineHandle;
use super::step::{Idle, Ready, Step};
use crate::chain;
use crate::drift::{self, Installed};
use crate::effects::off_thread;
use crate::planted::{Planted, is_planted};
use crate::update::{Machine, Other};

impl Conductor {
    /// This boot has stood: its tries are given back, and the other slot is weighed.
    pub(super) async fn stand_firm(&mut self, mut step: Step) -> Step {
        let Some(boot) = step.boot_mut() else { return step };
        let Some(footing) = boot.footing.take() else { return step };
        let machine = boot.machine.clone();
        if let Some(unproven) = footing.into_unproven() {
            match machine.step(move |machine| machine.stood(unproven)).await {
                Ok(()) => tracing::info!("slipway: this boot has stood"),
                Err(error) => {
                    let what = "this boot has stood, but its tries are not given back";
                    self.complain(ProblemKind::Blessing, what, &error);
                    return Step::reopening();
                }
            }
        }
        self.settle_other(&machine, step).await
    }

    /// Goes on with `next`, in which the other slot's release is ready to go back to, if it is newer,
    /// blessed, and only out of tries. When, policy says.
    pub(super) async fn settle_other(&mut self, machine: &MachineHandle, next: Step) -> Step {
        match (machine.step(Machine::weigh_other).await, next) {
            (Ok(Other::MayGoBack(lapsed)), Step::Idle(Idle { boot, ready: None, drained })) => {
                let name = lapsed.name();
                tracing::warn!(uki = %name, "slipway: the newer release in the other slot ran out of tries: the node goes back to it when it may restart");
                Step::Idle(Idle { boot, ready: Some(Ready::Lapsed(lapsed)), drained })
            }
            // What is under way writes another release over it.
            (Ok(Other::MayGoBack(_)), next) => next,
            (Ok(Other::GivenUp(name)), next) => {
                tracing::error!(uki = %name, "slipway: the other slot's release was blessed and no longer boots: it is given up");
                next
            }
            (Ok(Other::Rests), next) => next,
            (Err(error), next) => {
                self.complain(ProblemKind::FallingBack, "the other slot stays as it is", &error);
                next
            }
        }
    }

    /// Gives the lapsed release its tries back and restarts into it, if its slot is whole.
    pub(super) async fn go_back(&mut self, idle: Idle) -> Step {
        let Idle { boot, ready, .. } = idle;
        let lapsed = match ready {
            Some(Ready::Lapsed(lapsed)) => lapsed,
            // Policy goes back to what lapsed.
            ready => return Step::Idle(Idle::with(boot, ready)),
        };
        let name = lapsed.name();
        let (effects, booted) = (self.parts.effects.clone(), self.parts.facts.slot);
        let record = lapsed.record().filter(|_| !is_planted(Planted::RotNotRead));
        let installed = record.map(Installed::from);
        let read = move || installed.and_then(|it| drift::first_rot(booted, it, &effects));
        let rot = match off_thread(read).await {
            Ok(rot) => rot,
            Err(error) => {
                let error = chain(&error);
                tracing::error!(error, "slipway: reading the other slot ended early: it stays");
                return Step::Idle(Idle::new(boot));
            }
        };
        if let Some(rot) = rot {
            tracing::error!(uki = %name, "slipway: {} is not what was installed, and is staged afresh: {}", rot.name, rot.detail);
            if let Err(error) = boot.machine.step(move |machine| machine.discard(lapsed)).await {
                self.complain(ProblemKind::FallingBack, "the rotten UKI stays", &error);
            }
            return Step::Idle(Idle::new(boot));
        }
        match boot.machine.step(move |machine| machine.go_back(lapsed)).await {
            Ok(armed) => self.leave(boot.machine, armed),
            Err(error) => {
                let what = "the node does not go back to the newer release";
                self.complain(ProblemKind::FallingBack, what, &error);
                Step::reopening()
            }
        }
    }
}
