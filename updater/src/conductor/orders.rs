//! What operators ask for.
//!
//! In: an action of the API. Out: the first step of it, and an answer that says so, or which
//! rule forbids it. **Invariant:** an order passes what [`policy`] lets it pass, and nothing
//! else.

use contract::ReleaseVersion;
use contract::node::api::{Accepted, Action, ApiError, Code, Started};
use tokio::time::Instant;

use super::{Conductor, Order, Request, Work, conflict};
use crate::policy::{self, Decision, Hold};
use crate::update::{Journal, UpdateError, carried};

type Answer = Result<Accepted, ApiError>;

impl Conductor {
    /// Does what was asked for, and answers.
    pub(super) async fn take(&mut self, request: Request) {
        // Who asked may be gone; what was asked for is done all the same.
        match request {
            Request::Act(action, answer) => drop(answer.send(self.act(action).await)),
            Request::Settings(document, mode, answer) => {
                drop(answer.send(self.replace_settings(&document, mode).await));
            }
        }
    }

    async fn act(&mut self, action: Action) -> Answer {
        if self.is_leaving() {
            return Err(conflict("the node restarts", "ask again when it is back"));
        }
        match action {
            Action::Check => self.check().await,
            Action::Stage => self.order(Order::Stage).await,
            Action::Update => self.order(Order::Apply).await,
            Action::Rollback => self.roll_back().await,
            Action::Pin(version) => self.pin(Some(version)).await,
            Action::Unpin => self.pin(None).await,
            Action::Clear(version) => self.clear(version).await,
        }
    }

    async fn check(&mut self) -> Answer {
        if let Some(answer) = self.under_way() {
            return Ok(answer);
        }
        self.look_now().await?;
        let decision = self.follow().await;
        Ok(self.told(&decision))
    }

    /// Asks the channel at once.
    async fn look_now(&mut self) -> Result<(), ApiError> {
        if self.client.is_none() {
            return Err(conflict(
                "the settings name no channel",
                "add `channel` with `slipway node settings set`",
            ));
        }
        self.look().await;
        let Some(failure) = &self.look.failure else {
            return Ok(());
        };
        let sentence = failure.sentence.clone();
        // The status is to say the same.
        self.follow().await;
        let next = "correct that, and run `slipway node check` again";
        Err(ApiError::new(Code::Conflict, sentence, next))
    }

    async fn order(&mut self, order: Order) -> Answer {
        if let Some(answer) = self.under_way() {
            // The weaker order has been given already, or is fulfilled.
            let is_staged = order == Order::Stage && matches!(self.work, Work::Draining(_));
            if self.order != Order::Apply && !is_staged {
                self.order = order;
            }
            return Ok(answer);
        }
        self.look_now().await?;
        self.order = order;
        let decision = self.follow().await;
        let answer = self.told(&decision);
        if answer.started == Started::Yes {
            return Ok(answer);
        }
        self.order = Order::None;
        let is_there = |hold: &Hold| matches!(hold, Hold::UpToDate { .. } | Hold::Staged { .. });
        if decision.holds.iter().any(is_there) {
            return Ok(answer);
        }
        if decision.action != policy::Action::Nothing {
            return Err(self.failed_at_once());
        }
        let sentences: Vec<String> = decision.holds.iter().map(ToString::to_string).collect();
        Err(ApiError::new(
            Code::Held,
            sentences.join(" "),
            "no order passes this rule: see `slipway node why`",
        ))
    }

    /// The answer when the first step of an update could not be made.
    fn failed_at_once(&self) -> ApiError {
        let problem = self.parts.board.read().problem;
        problem.map_or_else(no_machine, |problem| {
            ApiError::new(Code::Conflict, problem.message, problem.next)
        })
    }

    /// The answer while an update is under way.
    fn under_way(&self) -> Option<Accepted> {
        let (target, message) = match &self.work {
            Work::None | Work::Judging(..) => return None,
            Work::Staging(_, version) => {
                (Some(version.clone()), format!("release {version} is being staged"))
            }
            Work::Confirming(_, version) => {
                let message =
                    format!("release {version} is read once more, and started if it is whole");
                (Some(version.clone()), message)
            }
            Work::Draining(drain) => {
                let version = drain.version.clone();
                (
                    Some(version.clone()),
                    format!("pods leave the node before release {version} starts"),
                )
            }
            Work::Leaving(..) | Work::Restarting => {
                (None, "the node restarts into the other slot".to_owned())
            }
        };
        Some(Accepted { started: Started::Yes, target, message })
    }

    /// What became of a decision, in words.
    fn told(&self, decision: &Decision) -> Accepted {
        self.under_way().unwrap_or_else(|| {
            let target = decision.target.as_ref().map(|target| target.version.clone());
            let sentences: Vec<String> = decision.holds.iter().map(ToString::to_string).collect();
            Accepted { started: Started::NothingToDo, target, message: sentences.join(" ") }
        })
    }

    async fn roll_back(&mut self) -> Answer {
        // It does not wait for pods: what runs may be what is wrong.
        if let Work::Draining(_) = self.work {
            self.stop_draining();
        }
        if !matches!(self.work, Work::None) {
            return Err(conflict(
                "an update is under way or this boot is being judged",
                "wait for its end: see `slipway node status`",
            ));
        }
        self.staged = None;
        let times = self.times_of_next_boot().await;
        let state = self.parts.effects.state.clone();
        let back = self.step(move |machine| {
            let armed = machine.roll_back()?;
            // Without these the next boot takes those of its settings.
            if let Err(error) = carried::save_times(state.as_ref(), &times) {
                tracing::warn!(%error, "the times of the verdict could not be kept");
            }
            Ok(armed)
        });
        match back.await {
            Some(Ok(armed)) => {
                self.parts.metrics.add_rollback();
                self.leave(armed);
                Ok(Accepted {
                    started: Started::Yes,
                    target: None,
                    message: "the node restarts into the release before".to_owned(),
                })
            }
            Some(Err(error)) => Err(refusal(&error)),
            None => Err(no_machine()),
        }
    }

    async fn pin(&mut self, version: Option<ReleaseVersion>) -> Answer {
        let store = self.parts.effects.state.as_ref();
        carried::save_pin(store, version.as_ref()).map_err(|error| {
            ApiError::new(
                Code::Internal,
                format!("the pin cannot be kept: {error}"),
                "see that the state partition has room",
            )
        })?;
        self.pin = version;
        // Also when an update is under way: then as soon as that has ended.
        self.next_look = Instant::now();
        if let Work::Staging(task, staged) = &self.work
            && self.pin.as_ref() != Some(staged)
        {
            task.abort();
        }
        self.check().await
    }

    async fn clear(&mut self, version: Option<ReleaseVersion>) -> Answer {
        if self.machine.is_none() {
            return self.give_up_journal().await;
        }
        let known = self.with_machine(|machine| machine.journal().refusals.clone());
        let chosen: Vec<_> = known
            .unwrap_or_default()
            .into_iter()
            .filter(|refusal| version.as_ref().is_none_or(|it| refusal.release.version == *it))
            .map(|refusal| refusal.release.root_hash)
            .collect();
        if chosen.is_empty() {
            let message = "no such release is refused on this node".to_owned();
            return Ok(Accepted { started: Started::NothingToDo, target: version, message });
        }
        let count = chosen.len();
        let forgotten = self.step(move |machine| {
            chosen.iter().try_for_each(|root_hash| machine.forget(Some(root_hash)).map(drop))
        });
        match forgotten.await {
            Some(Ok(())) => {
                self.follow().await;
                let message = format!("{count} refused releases may be tried again");
                Ok(Accepted { started: Started::Yes, target: version, message })
            }
            Some(Err(error)) => Err(refusal(&error)),
            None => Err(no_machine()),
        }
    }

    /// The way out when the journal is of a later generation of this software, or cannot be read.
    async fn give_up_journal(&mut self) -> Answer {
        Journal::give_up(self.parts.effects.state.as_ref()).map_err(|error| refusal(&error))?;
        self.next_open = Instant::now();
        self.open_machine().await;
        match self.machine {
            Some(_) => Ok(Accepted {
                started: Started::Yes,
                target: None,
                message: "the journal of updates was given up, and began anew".to_owned(),
            }),
            None => Err(no_machine()),
        }
    }
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
