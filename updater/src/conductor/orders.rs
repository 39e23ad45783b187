//! What operators ask for.
//!
//! In: an action of the API. Out: the first step of it, and an answer that says so, or which
//! rule forbids it. **Invariant:** an order passes what [`policy`] lets it pass, and nothing
//! else.

use std::io;

use contract::ReleaseVersion;
use contract::node::api::{Accepted, Action, ApiError, Code, Started};

use super::step::{Idle, Step};
use super::{Conductor, OperatorRequest, conflict};
use crate::channel::Found;
use crate::effects::off_thread;
use crate::policy::{self, Decision, Hold, Order};
use crate::update::{Journal, UpdateError, carried};

type OrderAnswer = Result<Accepted, ApiError>;

impl Conductor {
    /// Does what was asked for, and answers.
    pub(super) async fn answer(&mut self, step: Step, request: OperatorRequest) -> Step {
        // Who asked may be gone; what was asked for is done all the same.
        match request {
            OperatorRequest::Act(action, answer) => {
                let (step, said) = self.act(step, action).await;
                if answer.send(said).is_err() {
                    tracing::info!("slipway: an operator has not waited for the answer");
                }
                step
            }
            OperatorRequest::Settings(document, mode, answer) => {
                let (step, said) = self.replace_settings(step, &document, mode).await;
                if answer.send(said).is_err() {
                    tracing::info!("slipway: who sent settings has not waited for the answer");
                }
                step
            }
        }
    }

    pub(super) async fn act(&mut self, step: Step, action: Action) -> (Step, OrderAnswer) {
        if step.is_leaving() {
            let refusal = conflict("the node restarts", "ask again when it is back");
            return (step, Err(refusal));
        }
        match action {
            Action::Check => self.check(step).await,
            Action::Stage => self.order(step, Order::Stage).await,
            Action::Update => self.order(step, Order::Apply).await,
            Action::Rollback => self.roll_back(step).await,
            Action::Pin(version) => self.pin(step, Some(version)).await,
            Action::Unpin => self.pin(step, None).await,
            Action::Clear(version) => self.clear(step, version).await,
        }
    }

    async fn check(&mut self, step: Step) -> (Step, OrderAnswer) {
        if let Some(answer) = under_way(&step) {
            return (step, Ok(answer));
        }
        let (step, looked) = self.look_now(step).await;
        if let Err(error) = looked {
            return (step, Err(error));
        }
        let (step, decision) = self.follow(step).await;
        let answer = told(&step, &decision);
        (step, Ok(answer))
    }

    /// Asks the channel at once.
    async fn look_now(&mut self, step: Step) -> (Step, Result<(), ApiError>) {
        if !self.watch.has_client() {
            let refusal = conflict(
                "the settings name no channel",
                "add `channel` with `slipway node settings set`",
            );
            return (step, Err(refusal));
        }
        self.look().await;
        let Some(failure) = self.watch.failure() else {
            return (step, Ok(()));
        };
        let sentence = failure.sentence.clone();
        // The status is to say the same.
        let (step, _) = self.follow(step).await;
        let next = "correct that, and run `slipway node check` again";
        (step, Err(ApiError::new(Code::Conflict, sentence, next)))
    }

    async fn order(&mut self, step: Step, order: Order) -> (Step, OrderAnswer) {
        if let Some(answer) = under_way(&step) {
            // The weaker order has been given already, or is fulfilled.
            let is_staged = order == Order::Stage && matches!(step, Step::Draining { .. });
            if self.wishes.order != Order::Apply && !is_staged {
                self.wishes.order = order;
            }
            return (step, Ok(answer));
        }
        let (step, looked) = self.look_now(step).await;
        if let Err(error) = looked {
            return (step, Err(error));
        }
        self.wishes.order = order;
        let (step, decision) = self.follow(step).await;
        let answer = told(&step, &decision);
        if answer.started == Started::Yes {
            return (step, Ok(answer));
        }
        self.wishes.order = Order::None;
        let is_there = |hold: &Hold| matches!(hold, Hold::UpToDate { .. } | Hold::Staged { .. });
        if decision.holds.iter().any(is_there) {
            return (step, Ok(answer));
        }
        if decision.action != policy::Action::Nothing {
            let failed = self.failed_at_once();
            return (step, Err(failed));
        }
        let held = ApiError::new(
            Code::Held,
            sentences(&decision),
            "no order passes this rule: see `slipway node why`",
        );
        (step, Err(held))
    }

    /// The answer when the first step of an update could not be made.
    fn failed_at_once(&self) -> ApiError {
        let problem = self.parts.board.read().problem;
        problem.map_or_else(no_machine, |problem| {
            ApiError::new(Code::Conflict, problem.message, problem.next)
        })
    }

    async fn roll_back(&mut self, step: Step) -> (Step, OrderAnswer) {
        // It does not wait for pods: what runs may be what is wrong.
        if let Some(refusal) = self.forbidden_rollback(&step) {
            return (step, Err(refusal));
        }
        let (boot, ready) = match step {
            Step::Idle(Idle { boot, ready, .. }) if boot.trial.is_none() => (boot, ready),
            Step::Draining { boot, ready, drain } => {
                tracing::info!("slipway: the drain is called off");
                drop(drain);
                (boot, Some(ready))
            }
            step @ Step::Opening { .. } => return (step, Err(no_machine())),
            step => {
                let refusal = conflict(
                    "an update is under way or this boot is being judged",
                    "wait for its end: see `slipway node status`",
                );
                return (step, Err(refusal));
            }
        };
        let times = self.times_of_next_boot().await;
        let state = self.parts.effects.state.clone();
        let back = boot.machine.step(move |machine| {
            let armed = machine.roll_back()?;
            // Without these the next boot takes those of its settings.
            if let Err(error) = carried::save_times(state.as_ref(), &times) {
                tracing::warn!(%error, "the times of the verdict could not be kept");
            }
            Ok(armed)
        });
        match back.await {
            Ok(armed) => {
                self.parts.metrics.add_rollback();
                let accepted = Accepted {
                    started: Started::Yes,
                    target: None,
                    message: "the node restarts into the release before".to_owned(),
                };
                (self.leave(boot.machine, armed), Ok(accepted))
            }
            Err(error) => {
                // It was refused before anything was changed, or the slot is no longer as it was.
                let is_as_it_was = matches!(
                    error,
                    UpdateError::NothingToRollBackTo | UpdateError::Firmware { .. }
                );
                let ready = ready.filter(|_| is_as_it_was);
                (Step::Idle(Idle::with(boot, ready)), Err(refusal(&error)))
            }
        }
    }

    /// Why the node may not go to the release of the other slot.
    fn forbidden_rollback(&self, step: &Step) -> Option<ApiError> {
        let version = step.machine()?.read(|it| Some(it.other()?.release.version.clone()))?;
        let documents = self.watch.found().map(Found::documents);
        let now = self.parts.effects.clock.now();
        let hold = policy::forbids_rollback(documents.as_ref(), &version, now)?;
        let next = "choose another with `slipway node pin`, or take the block away with `slipway \
                    channel unblock` and run `slipway node check`";
        Some(ApiError::new(Code::Held, hold.to_string(), next))
    }

    async fn pin(&mut self, step: Step, version: Option<ReleaseVersion>) -> (Step, OrderAnswer) {
        let (store, kept) = (self.parts.effects.state.clone(), version.clone());
        let save = move || carried::save_pin(store.as_ref(), kept.as_ref());
        if let Err(error) = off_thread(save).await.map_err(io::Error::other).flatten() {
            let failed = ApiError::new(
                Code::Internal,
                format!("the pin cannot be kept: {error}"),
                "see that the state partition has room",
            );
            return (step, Err(failed));
        }
        self.wishes.pin = version.into();
        // Also when an update is under way: then as soon as that has ended.
        self.watch.ask_soon();
        let step = match step {
            Step::Staging { boot, version, .. } if self.wishes.pin.release() != Some(&version) => {
                tracing::info!(release = %version, "slipway: staging release {version} is called off");
                Step::Idle(Idle::new(boot))
            }
            step => step,
        };
        self.check(step).await
    }

    async fn clear(&mut self, step: Step, version: Option<ReleaseVersion>) -> (Step, OrderAnswer) {
        let Some(machine) = step.machine().cloned() else {
            return self.give_up_journal(step).await;
        };
        let known = machine.read(|machine| machine.journal().refusals.clone());
        let chosen: Vec<_> = known
            .into_iter()
            .filter(|refusal| version.as_ref().is_none_or(|it| refusal.release.version == *it))
            .map(|refusal| refusal.release.root_hash)
            .collect();
        if chosen.is_empty() {
            let message = "no such release is refused on this node".to_owned();
            let nothing = Accepted { started: Started::NothingToDo, target: version, message };
            return (step, Ok(nothing));
        }
        let count = chosen.len();
        let forgotten = machine.step(move |machine| {
            chosen.iter().try_for_each(|root_hash| machine.forget(Some(root_hash)).map(drop))
        });
        match forgotten.await {
            Ok(()) => {
                let (step, _) = self.follow(step).await;
                let message = format!("{count} refused releases may be tried again");
                (step, Ok(Accepted { started: Started::Yes, target: version, message }))
            }
            Err(error) => (step, Err(refusal(&error))),
        }
    }

    /// The way out when the journal is of a later generation of this software, or cannot be read.
    async fn give_up_journal(&mut self, step: Step) -> (Step, OrderAnswer) {
        let state = self.parts.effects.state.clone();
        let give_up = move || Journal::give_up(state.as_ref()).map_err(UpdateError::Journal);
        if let Err(error) = off_thread(give_up).await.map_err(UpdateError::Stopped).flatten() {
            return (step, Err(refusal(&error)));
        }
        let step = self.open(Step::opening()).await;
        let answer = match step.machine() {
            Some(_) => Ok(Accepted {
                started: Started::Yes,
                target: None,
                message: "the journal of updates was given up, and began anew".to_owned(),
            }),
            None => Err(no_machine()),
        };
        (step, answer)
    }
}

/// The answer while an update is under way.
fn under_way(step: &Step) -> Option<Accepted> {
    let (target, message) = match step {
        Step::Opening { .. } | Step::Judging { .. } | Step::Idle(_) => return None,
        Step::Staging { version, .. } => {
            (Some(version.clone()), format!("release {version} is being staged"))
        }
        Step::Confirming { version, .. } => {
            let message =
                format!("release {version} is read once more, and started if it is whole");
            (Some(version.clone()), message)
        }
        Step::Draining { drain, .. } => {
            let version = drain.version();
            let message = format!("pods leave the node before release {version} starts");
            (Some(version.clone()), message)
        }
        Step::Leaving { .. } | Step::Restarting { .. } => {
            (None, "the node restarts into the other slot".to_owned())
        }
    };
    Some(Accepted { started: Started::Yes, target, message })
}

/// What became of a decision, in words.
fn told(step: &Step, decision: &Decision) -> Accepted {
    under_way(step).unwrap_or_else(|| {
        let target = decision.target.as_ref().map(|target| target.version.clone());
        Accepted { started: Started::NothingToDo, target, message: sentences(decision) }
    })
}

fn sentences(decision: &Decision) -> String {
    let sentences: Vec<String> = decision.holds.iter().map(ToString::to_string).collect();
    sentences.join(" ")
}

fn refusal(error: &UpdateError) -> ApiError {
    let text = crate::chain(error);
    ApiError::new(Code::Conflict, text, "see `slipway node status`")
}

fn no_machine() -> ApiError {
    ApiError::new(
        Code::Internal,
        "the journal of updates cannot be opened",
        "see `slipway node logs --unit slipwayd.service`",
    )
}
