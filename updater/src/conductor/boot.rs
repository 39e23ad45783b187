//! This boot: opening what earlier ones left, judging it, and what follows from the verdict.
//!
//! In: the journal of updates and the names on the EFI system partition; a verdict. Out: the first
//! step, a blessed boot, or a restart into the other slot. **Invariant:** a boot is judged until it
//! is blessed or left, whatever else is under way.

use std::time::Duration;

use contract::node::api::ProblemKind;
use tokio::time::{Instant, sleep, timeout};

use super::follow::Seen;
use super::footing::Footing;
use super::judge::Judged;
use super::machine::MachineHandle;
use super::step::{Boot, Idle, Step, Trial};
use super::{Conductor, judge};
use crate::api::wording;
use crate::chain;
use crate::metrics::UpdateEnd;
use crate::policy::{BootState, OtherSlot};
use crate::update::{Condemnation, Failure, Pending, Standing};
use crate::verdict::Verdict;

impl Conductor {
    /// Opens the journal of updates, when it is time, and does what it and the EFI system partition
    /// ask for first.
    pub(super) async fn open(&mut self, step: Step) -> Step {
        match step {
            Step::Opening { again } if again <= Instant::now() => {}
            step => return step,
        }
        let (effects, facts) = (self.parts.effects.clone(), self.parts.facts.clone());
        match MachineHandle::open(effects, facts).await {
            Ok((machine, standing)) => {
                self.parts.board.solve(ProblemKind::Journal);
                self.report_fallback(&machine);
                self.stand(machine, standing).await
            }
            Err(error) => {
                self.complain(ProblemKind::Journal, "updates are off", &error);
                Step::reopening()
            }
        }
    }

    /// Says in the journal what the boot before this one came to, and counts it.
    fn report_fallback(&self, machine: &MachineHandle) {
        let (last, has_fallen_back) = machine
            .read(|machine| (machine.journal().history.back().cloned(), machine.has_fallen_back()));
        if let Some(entry) = last {
            let message = wording::event(&entry).message;
            tracing::info!(release = %entry.release.version, "slipway: last of its history: {message}");
        }
        if has_fallen_back {
            self.parts.metrics.add_update(UpdateEnd::FellBack);
        }
    }

    async fn stand(&mut self, machine: MachineHandle, standing: Standing) -> Step {
        match standing {
            Standing::Steady => Step::Idle(Idle::new(Boot::firm(machine))),
            Standing::Unproven(unproven) => {
                // Workloads of the restart in which it was judged may be gone for good.
                let judged = Judged { workloads_of: None, ..self.judged_by(false) };
                let footing = Some(Footing::of(unproven, judged));
                Step::Idle(Idle::new(Boot { machine, trial: None, footing }))
            }
            Standing::Armed(armed) => self.leave(machine, armed),
            Standing::Pending(pending) => self.judge(machine, pending),
            Standing::Condemned(pending, failure) => self.condemn(machine, pending, failure).await,
        }
    }

    /// Begins to judge a boot: alone where it has a way back, else beside whatever may heal it.
    pub(super) fn judge(&self, machine: MachineHandle, pending: Pending) -> Step {
        let trial = self.trial(pending, Duration::ZERO);
        if trial.pending.can_fall_back() {
            Step::Judging { machine, trial }
        } else {
            // It goes back to a blessed release that lapsed, although it was never found good.
            let footing = trial.pending.other_lapsed().then(Footing::of_a_trial);
            Step::Idle(Idle::new(Boot { machine, trial: Some(trial), footing }))
        }
    }

    /// A judge by the settings in force, who begins after a pause.
    fn trial(&self, pending: Pending, pause: Duration) -> Trial {
        let judged = self.judged_by(pending.can_fall_back());
        tracing::info!(uki = %pending.name(), "slipway: this boot is being judged");
        let judging = async move {
            sleep(pause).await;
            judge::judge(judged).await
        };
        Trial { pending, judge: tokio::spawn(judging).into() }
    }

    /// What a judge of this boot needs. Without a way back there is no time at which it would be
    /// given up.
    pub(super) fn judged_by(&self, can_fall_back: bool) -> judge::Judged {
        let (settings, effects) = (self.keeper.settings(), &self.parts.effects);
        let health = settings.map(|settings| &settings.health);
        judge::Judged {
            node: self.parts.places.node.clone(),
            cluster: self.keeper.kubernetes().cloned(),
            workloads_of: Some(self.parts.facts.root_hash),
            health: health.cloned(),
            silence: self.silence.clone(),
            can_fall_back,
            effects: effects.clone(),
            board: self.parts.board.clone(),
        }
    }

    /// Replaces the judge, if there is one, by one who goes by the settings in force and begins after
    /// a pause.
    pub(super) fn judge_anew(&self, step: Step, pause: Duration) -> Step {
        match step {
            Step::Judging { machine, trial } => {
                Step::Judging { machine, trial: self.trial(trial.pending, pause) }
            }
            mut step => {
                if let Some(boot) = step.boot_mut() {
                    boot.trial = boot.trial.take().map(|trial| self.trial(trial.pending, pause));
                }
                step
            }
        }
    }

    /// Carries out a verdict.
    pub(super) async fn judged(&mut self, step: Step, verdict: Verdict) -> Step {
        match step {
            Step::Judging { machine, trial } => match verdict {
                Verdict::Healthy => {
                    self.look_while_there_is_a_way_back(&machine).await;
                    let idle = Step::Idle(Idle::new(Boot::firm(machine.clone())));
                    self.bless(&machine, trial.pending, idle).await
                }
                Verdict::Failed(failure) => self.condemn(machine, trial.pending, failure).await,
            },
            mut step => {
                let Some(boot) = step.boot_mut() else { return step };
                let Some(trial) = boot.trial.take() else { return step };
                let machine = boot.machine.clone();
                match verdict {
                    Verdict::Healthy => self.bless(&machine, trial.pending, step).await,
                    Verdict::Failed(failure) => {
                        match self.try_condemning(&machine, trial.pending, failure).await {
                            Ok(pending) => {
                                if let Some(boot) = step.boot_mut() {
                                    boot.trial = Some(self.trial(pending, Duration::ZERO));
                                }
                                step
                            }
                            Err(step) => step,
                        }
                    }
                }
            }
        }
    }

    /// A slipwayd that dies of what its channel says must die while there is a way back.
    async fn look_while_there_is_a_way_back(&mut self, machine: &MachineHandle) {
        if timeout(self.first_look, self.look()).await.is_err() {
            tracing::warn!("slipway: the channel takes long: this boot is blessed without it");
        }
        let seen = Seen::of_boot(machine, BootState::Pending, OtherSlot::Unknown);
        drop(self.decide(&seen).await);
    }

    /// Blesses this boot, and goes on with `next`.
    async fn bless(&mut self, machine: &MachineHandle, pending: Pending, next: Step) -> Step {
        let uptime = self.parts.effects.clock.uptime();
        match machine.step(move |machine| machine.bless(pending)).await {
            Ok(_) => {
                let version = &self.parts.facts.version;
                tracing::info!(release = %version, "slipway: release {version} is blessed");
                self.parts.metrics.note_blessed(uptime);
                self.parts.metrics.add_update(UpdateEnd::Blessed);
                self.settle_other(machine, next).await
            }
            Err(error) => {
                let what = "this boot is good, but cannot be blessed";
                self.complain(ProblemKind::Blessing, what, &error);
                Step::reopening()
            }
        }
    }

    async fn condemn(
        &mut self,
        machine: MachineHandle,
        pending: Pending,
        failure: Failure,
    ) -> Step {
        match self.try_condemning(&machine, pending, failure).await {
            Ok(pending) => self.judge(machine, pending),
            Err(step) => step,
        }
    }

    /// Gives the boot up. One that has nothing to go back to comes back, and is judged on; of
    /// another one the next step comes back as the error.
    async fn try_condemning(
        &mut self,
        machine: &MachineHandle,
        pending: Pending,
        failure: Failure,
    ) -> Result<Pending, Step> {
        let version = &self.parts.facts.version;
        tracing::error!(release = %version, probe = failure.probe, "slipway: release {version} is bad: {failure}");
        match machine.step(move |machine| machine.condemn(pending, failure)).await {
            Ok(Condemnation::Restarting { unrecorded }) => {
                if let Some(error) = unrecorded {
                    tracing::error!(error = chain(&error), "the cause could not be saved");
                }
                Err(Step::Restarting { machine: machine.clone() })
            }
            Ok(Condemnation::NoFallback(pending)) => {
                tracing::warn!("slipway: there is no other release to go back to: judging goes on");
                Ok(pending)
            }
            Err(error) => {
                self.complain(ProblemKind::FallingBack, "a bad boot cannot be ended", &error);
                Err(Step::reopening())
            }
        }
    }
}
