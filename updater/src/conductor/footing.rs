//! Whether this boot has stood, and what follows from it.
//!
//! In: the probes' answers, or a time for which slipwayd is alive. Out: all tries for what runs,
//! and the way back to a newer blessed release that used up its own. **Invariant:** nothing is given
//! back by a boot that has not stood, and another's outage costs no tries.

use std::time::Duration;

use contract::node::api::ProblemKind;
use tokio::time::{sleep, timeout};

use super::machine::MachineHandle;
use super::step::Step;
use super::task::Task;
use super::{Conductor, judge};
use crate::chain;
use crate::drift::{self, Installed};
use crate::effects::off_thread;
use crate::update::{Lapsed, Machine, Other, Unproven};
use crate::verdict::Verdict;

/// A boot in which slipwayd was alive for so long has stood, whatever the probes say.
const ALIVE: Duration = Duration::from_mins(10);

/// A boot that has not stood yet, and whoever waits for that.
pub struct Footing {
    task: Task<()>,
    /// What is to get its tries back; a boot on trial gets none.
    unproven: Option<Unproven>,
}

impl Footing {
    /// That of a boot on trial without a way back.
    pub fn of_a_trial() -> Self {
        Self { task: tokio::spawn(sleep(ALIVE)).into(), unproven: None }
    }

    /// Returns when the boot has stood. Nothing is lost when the wait is given up.
    pub async fn stood(&mut self) {
        if (&mut self.task).await.is_err() {
            tracing::error!("slipway: whoever watched this boot ended early: it passes for stood");
        }
    }
}

impl Conductor {
    /// Begins to wait until a blessed release's boot has stood.
    pub(super) fn await_footing(&self, unproven: Unproven) -> Footing {
        let mut judged = self.judged_by(false);
        // Those of the restart in which it was judged may be gone for good.
        judged.workloads.clear();
        tracing::info!(uki = %unproven.name(), "slipway: this boot is counted until it has stood");
        let task = tokio::spawn(async move {
            let well = async {
                if let Verdict::Failed(failure) = judge::judge(judged).await {
                    tracing::warn!(
                        "slipway: the probes cannot tell whether this boot stands: {failure}"
                    );
                    std::future::pending::<()>().await;
                }
            };
            // It does not matter which of them came first.
            let _: Result<(), tokio::time::error::Elapsed> = timeout(ALIVE, well).await;
        });
        Footing { task: task.into(), unproven: Some(unproven) }
    }

    /// This boot has stood: its tries are given back, and the other slot is weighed.
    pub(super) async fn stand_firm(&mut self, mut step: Step) -> Step {
        let Some(boot) = step.boot_mut() else { return step };
        let Some(Footing { unproven, .. }) = boot.footing.take() else { return step };
        let machine = boot.machine.clone();
        if let Some(unproven) = unproven {
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

    /// Goes back to the other slot's release, if it is newer, blessed, and only out of tries;
    /// else goes on with `next`.
    pub(super) async fn settle_other(&mut self, machine: &MachineHandle, next: Step) -> Step {
        match machine.step(Machine::weigh_other).await {
            Ok(Other::MayGoBack(lapsed)) => self.go_back(machine, lapsed, next).await,
            Ok(Other::GivenUp(name)) => {
                tracing::error!(uki = %name, "slipway: the other slot's release was blessed and no longer boots: it is given up");
                next
            }
            Ok(Other::Rests) => next,
            Err(error) => {
                self.complain(ProblemKind::FallingBack, "the other slot stays as it is", &error);
                next
            }
        }
    }

    async fn go_back(&mut self, machine: &MachineHandle, lapsed: Lapsed, next: Step) -> Step {
        let name = lapsed.name();
        if self.wishes.pin.as_ref() == Some(&self.parts.facts.version) {
            tracing::warn!(uki = %name, "slipway: the release that runs is pinned: the other one stays without tries");
            return next;
        }
        let (effects, booted) = (self.parts.effects.clone(), self.parts.facts.slot);
        let installed = lapsed.record().map(Installed::from);
        let read = move || installed.and_then(|it| drift::first_rot(booted, it, &effects));
        let rot = match off_thread(read).await {
            Ok(rot) => rot,
            Err(error) => {
                let error = chain(&error);
                tracing::error!(error, "slipway: reading the other slot ended early: it stays");
                return next;
            }
        };
        if let Some(rot) = rot {
            tracing::error!(uki = %name, "slipway: {} is not what was installed, and is staged afresh: {}", rot.name, rot.detail);
            if let Err(error) = machine.step(move |machine| machine.discard(lapsed)).await {
                self.complain(ProblemKind::FallingBack, "the rotten UKI stays", &error);
            }
            return next;
        }
        match machine.step(move |machine| machine.go_back(lapsed)).await {
            Ok(armed) => {
                tracing::warn!(uki = %name, "slipway: this boot has stood: back to the newer release, which ran out of tries");
                self.leave(machine.clone(), armed)
            }
            Err(error) => {
                let what = "the node does not go back to the newer release";
                self.complain(ProblemKind::FallingBack, what, &error);
                next
            }
        }
    }
}
