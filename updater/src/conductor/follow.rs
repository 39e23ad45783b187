//! Gathering facts, asking policy, and doing what it decides.
//!
//! In: what the step, the channel, the API server and the EFI system partition show. Out: a
//! decision, carried out, and the holds for the board. **Invariant:** nothing is done that policy did
//! not decide, and what it decided is not changed here.

use contract::RootHash;
use contract::node::api::ProblemKind;

use super::Conductor;
use super::machine::MachineHandle;
use super::step::{Idle, Step};
use crate::channel::Found;
use crate::policy::{
    self, Action, BootState, Decision, DrainState, Lapse, OfferFacts, OtherSlot, PolicyInput,
};
use crate::update::Cause;
use crate::verdict::is_silence_alone;

/// What policy asks of the step.
pub(super) struct Seen {
    boot: BootState,
    other: OtherSlot,
    drain: DrainState,
    lapse: Option<Lapse>,
    refusals: Vec<policy::RefusedRoot>,
}

impl Seen {
    /// As the step shows it.
    pub(super) fn of(step: &Step) -> Self {
        Self {
            boot: step.boot_state(),
            other: step.other_slot(),
            drain: step.drain_state(),
            lapse: step.machine().and_then(lapse),
            refusals: step.machine().map(refusals).unwrap_or_default(),
        }
    }

    /// As this boot shows it, beside a slot of which that is known.
    pub(super) fn of_boot(machine: &MachineHandle, boot: BootState, other: OtherSlot) -> Self {
        let (lapse, refusals) = (lapse(machine), refusals(machine));
        Self { boot, other, drain: DrainState::Idle, lapse, refusals }
    }
}

fn refusals(machine: &MachineHandle) -> Vec<policy::RefusedRoot> {
    let refusal = |known: &crate::update::Refusal| policy::RefusedRoot {
        root_hash: known.release.root_hash,
        cause: known.cause.to_string(),
    };
    machine.read(|machine| machine.journal().refusals.iter().map(refusal).collect())
}

/// The release in whose place this one runs.
fn lapse(machine: &MachineHandle) -> Option<Lapse> {
    machine.read(|machine| {
        machine.lapsed()?;
        let release = machine.other().map(|record| &record.release);
        let version = release.map(|release| release.version.clone());
        Some(Lapse { version, root_hash: release.map(|release| release.root_hash) })
    })
}

impl Conductor {
    /// Asks the channel.
    pub(super) async fn look(&mut self) {
        let effects = &self.parts.effects;
        let (clock, chance) = (effects.clock.as_ref(), effects.random.chance());
        let running = &self.parts.facts.version;
        let check = self.watch.look(clock, running, self.wishes.pin.release(), chance).await;
        if let Some(check) = check {
            self.parts.board.change(|board| board.last_check = Some(check));
        }
    }

    /// What policy says now.
    pub(super) async fn decide(&mut self, seen: &Seen) -> Decision {
        let esp_room = self.partition.room().await;
        let (failed_staging, failed_drain) = (self.failures.facts(), self.drainer.failed());
        let documents = self.watch.found().map(Found::documents);
        policy::decide(&PolicyInput {
            now: self.parts.effects.clock.now(),
            node: &self.parts.who.machine_id,
            updater: &self.parts.who.updater,
            boot: seen.boot,
            running: self.parts.facts.root_hash,
            running_version: &self.parts.facts.version,
            settings: self.keeper.settings(),
            lack: self.keeper.lack().map(|lack| lack.sentence.as_str()),
            pin: &self.wishes.pin,
            documents: documents.as_ref(),
            failure: self.watch.failure(),
            refusals: &seen.refusals,
            other: seen.other,
            lapse: seen.lapse.as_ref(),
            failed_staging: failed_staging.as_ref(),
            drain: &seen.drain,
            failed_drain: failed_drain.as_ref(),
            has_joined: self.has_joined(),
            esp_room,
            api_server: self.contact.answer(),
            order: self.wishes.order,
        })
    }

    /// Does what policy decides, and says what holds the node otherwise.
    pub(super) async fn follow(&mut self, step: Step) -> (Step, Decision) {
        self.ask_api_server(&step).await;
        let mut decision = self.decide(&Seen::of(&step)).await;
        let mut step = self.carry_out(step, &decision).await;
        // Where the release that lapsed is not whole, the next step is another one.
        if decision.action == Action::GoBack && matches!(step, Step::Idle(_)) {
            decision = self.decide(&Seen::of(&step)).await;
            step = self.carry_out(step, &decision).await;
        }
        let wanted = decision.target.as_ref().map(|target| target.version.clone());
        let holds = decision.holds.clone();
        let way = decision.way.clone();
        self.parts.board.change(|board| {
            (board.wanted, board.way, board.holds) = (wanted, way, holds);
        });
        (step, decision)
    }

    async fn carry_out(&mut self, step: Step, decision: &Decision) -> Step {
        let Decision { action, target, .. } = decision;
        match step {
            Step::Idle(idle) => self.begin(idle, *action, target.as_ref()).await,
            Step::Draining { boot, ready, drain } => match (action, target) {
                (Action::Drain(terms), Some(target)) if drain.is_for(target.root_hash, *terms) => {
                    Step::Draining { boot, ready, drain }
                }
                (action, target) => {
                    tracing::info!("slipway: the drain is called off");
                    drop(drain);
                    self.begin(Idle::with(boot, Some(ready)), *action, target.as_ref()).await
                }
            },
            // They have an end of their own.
            step @ (Step::Opening { .. }
            | Step::Judging { .. }
            | Step::Staging { .. }
            | Step::Confirming { .. }
            | Step::Leaving { .. }
            | Step::Restarting { .. }) => step,
        }
    }

    /// The step that follows where nothing is under way.
    async fn begin(&mut self, idle: Idle, action: Action, target: Option<&OfferFacts>) -> Step {
        match (action, target) {
            (Action::GoBack, _) => self.go_back(idle).await,
            (Action::Stage, Some(_)) => self.stage(idle).await,
            (Action::Drain(terms), Some(target)) => self.drain(idle, target, terms),
            (Action::Confirm, Some(_)) => self.confirm(idle),
            // What a drain was for may have gone; then it holds for no other decision. And only what
            // was read once more a moment ago is armed: see `finish_confirming`.
            (Action::Nothing | Action::Stage | Action::Drain(_) | Action::Confirm, None)
            | (Action::Nothing | Action::Arm, _) => Step::Idle(Idle::with(idle.boot, idle.ready)),
        }
    }

    /// Asks the API server for its version, when a release waits for that.
    async fn ask_api_server(&mut self, step: &Step) {
        let running = self.parts.facts.root_hash;
        let offer = self.watch.offer().map(|offer| offer.release.root.root_hash);
        let wanted = offer.filter(|wanted| *wanted != running);
        let (Some(wanted), Some(cluster)) = (wanted, self.cluster()) else {
            return self.contact.rest();
        };
        // Silence while the node is drained, and after, is the drain's to judge.
        if step.drain_state() != DrainState::Idle {
            return;
        }
        self.contact.ask(&cluster).await;
        if self.contact.is_outage()
            && let Some(machine) = step.machine()
        {
            self.forgive(machine, wanted).await;
        }
    }

    /// Lets a release be tried again that failed for the API server's silence alone, while the
    /// release before hears nothing either.
    async fn forgive(&self, machine: &MachineHandle, wanted: RootHash) {
        let is_blamed = machine.read(|machine| {
            machine.journal().refusals.iter().any(|refusal| {
                let silence =
                    matches!(&refusal.cause, Cause::Verdict(failure) if is_silence_alone(failure));
                silence && refusal.release.root_hash == wanted
            })
        });
        if !is_blamed {
            return;
        }
        match machine.step(move |machine| machine.forget(Some(&wanted))).await {
            Ok(_) => tracing::info!(
                "slipway: the API server answers the release before no more than the new one, \
                 which is tried again when it does"
            ),
            Err(error) => {
                self.complain(ProblemKind::Journal, "a release cannot be forgiven", &error);
            }
        }
    }

    /// Puts on the board what machine and step know.
    pub(super) async fn publish(&mut self, step: &Step) {
        let journal = step.machine().map(|machine| machine.read(|it| it.journal().clone()));
        let ukis = self.partition.ukis().await;
        let slot = self.parts.facts.slot;
        let (phase, pin) = (step.phase(), self.wishes.pin.release().cloned());
        let channel = self.watch.found().map(|found| {
            let spec = found.group.as_ref().map(|group| &group.spec);
            let channel = found.channel.as_ref().map(|channel| channel.channel.clone());
            let pin = spec.and_then(|spec| spec.release.clone());
            (channel, pin, spec.and_then(|spec| spec.maximum_version.clone()))
        });
        self.parts.board.change(|board| {
            if let Some(journal) = journal {
                board.journal = journal;
            }
            if let Some(ukis) = ukis {
                board.booted = slot.uki(&ukis).or(board.booted);
                board.other = slot.target().uki(&ukis);
            }
            (board.phase, board.pin) = (phase, pin);
            if let Some(channel) = channel {
                (board.channel, board.group_pin, board.maximum_version) = channel;
            }
        });
    }
}
