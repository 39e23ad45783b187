//! Emptying the node before it restarts, when its group asks for that.
//!
//! In: policy's word that the staged release is to be applied, and the group's terms. Out: a node
//! that may restart, or one that takes pods again and says what did not leave. **Invariant:** at
//! most one task changes the Node at a time; unless the node is about to restart, its own cordon
//! is taken away.

use std::sync::Arc;
use std::time::Duration;

use contract::channel::group::{self, DrainPolicy};
use contract::node::api::Problem;
use contract::{ReleaseVersion, RootHash};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Conductor, Work};
use crate::cluster::{Cluster, Terms, has_joined};
use crate::policy::{Action, Decision, Hold, Order};

/// Pause after the first drain that came to nothing; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How the problem of a drain that came to nothing is told from others.
const NOT_STARTED: &str = "was not started";
/// Pause before the API server is asked again to uncordon the node.
const UNCORDON_AGAIN: Duration = Duration::from_secs(60);

/// A drain that is under way. Without it nobody listens to the task, which then ends.
pub(super) struct Draining {
    pub(super) task: JoinHandle<Result<(), String>>,
    pub(super) version: ReleaseVersion,
    pub(super) root_hash: RootHash,
    pub(super) terms: group::Drain,
    /// What the drain waits for.
    says: watch::Receiver<String>,
    ends: Option<Timestamp>,
}

/// A drain that came to nothing.
struct Blocked {
    version: ReleaseVersion,
    waiting: String,
    again: Instant,
    next: Option<Timestamp>,
}

/// What is known of drains and of the node's own cordon.
pub(super) struct Drain {
    /// The release for which the node may restart as it is.
    done_for: Option<RootHash>,
    blocked: Option<Blocked>,
    failures: u32,
    /// The Node may bear this node's mark: of this run, or of one that ended early.
    may_be_cordoned: bool,
    uncordoning: Option<JoinHandle<bool>>,
    uncordon_again: Instant,
    /// Whoever changes the Node holds it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Drain {
    pub(super) fn new() -> Self {
        Self {
            done_for: None,
            blocked: None,
            failures: 0,
            may_be_cordoned: true,
            uncordoning: None,
            uncordon_again: Instant::now(),
            turn: Arc::default(),
        }
    }

    /// True from the end of a drain until the restart that it was for.
    pub(super) fn is_over(&self) -> bool {
        self.done_for.is_some()
    }

    /// The Node of another API server is another one.
    pub(super) fn forget_node(&mut self) {
        self.may_be_cordoned = true;
        self.uncordoning = None;
        self.uncordon_again = Instant::now();
    }
}

impl Conductor {
    /// What the group asks for, if the node is to be drained. One that has not joined has no pods to
    /// evict. A boot that is still judged has no other release to go back to, and the update may be
    /// what heals it.
    pub(super) fn drain_terms(&self) -> Option<group::Drain> {
        let group = self.look.found.as_ref().and_then(|found| found.group.as_ref());
        let terms = group.and_then(|group| group.spec.drain);
        terms.filter(|_| has_joined() && !matches!(self.work, Work::Judging(..)))
    }

    /// Applies what is staged, once the node is as empty as `terms` ask for.
    pub(super) fn apply_when_drained(
        &mut self,
        decision: &mut Decision,
        terms: Option<group::Drain>,
    ) {
        let Some(target) = &decision.target else {
            return;
        };
        let (version, root_hash) = (target.version.clone(), target.root_hash);
        let Some((terms, cluster)) = terms.zip(self.cluster()) else {
            self.stop_draining();
            return self.apply();
        };
        if self.drain.done_for == Some(root_hash) {
            return self.apply();
        }
        let same = |drain: &Draining| drain.terms == terms && drain.root_hash == root_hash;
        if !matches!(&self.work, Work::Draining(drain) if same(drain)) {
            self.stop_draining();
            if let Some(hold) = self.pause_of_drains(&version) {
                decision.action = Action::Nothing;
                decision.holds.push(hold);
                return;
            }
            self.begin_drain(cluster, version, root_hash, terms);
        }
        decision.holds.extend(self.draining_hold());
    }

    /// This node's cluster, when it has one.
    pub(super) fn cluster(&self) -> Option<Cluster> {
        let settings = self.settings.as_ref().and_then(|settings| settings.kubernetes.clone());
        settings.map(Cluster::of_this_machine)
    }

    fn begin_drain(
        &mut self,
        cluster: Cluster,
        version: ReleaseVersion,
        root_hash: RootHash,
        terms: group::Drain,
    ) {
        let (told, says) = watch::channel("the first answer of the API server".to_owned());
        let deadline = terms.deadline.unsigned_abs();
        let (turn, release) = (self.drain.turn.clone(), version.clone());
        let task = tokio::spawn(async move {
            let _turn = turn.lock().await;
            cluster.drain(&release, Terms::new(deadline), &told).await
        });
        self.drain.may_be_cordoned = true;
        // One that is under way ends before the drain begins, and says nothing of it.
        (self.drain.uncordoning, self.drain.uncordon_again) = (None, Instant::now());
        // Other problems are not solved by this.
        self.parts.board.change(|board| {
            board.problem.take_if(|problem| problem.message.contains(NOT_STARTED));
        });
        let ends = self.parts.effects.clock.now().checked_add(deadline).ok();
        self.work = Work::Draining(Draining { task, version, root_hash, terms, says, ends });
    }

    /// Ends a drain, and forgets one that has ended: the node is not about to restart.
    pub(super) fn stop_draining(&mut self) {
        self.drain.done_for = None;
        if let Work::Draining(_) = self.work {
            tracing::info!("slipway: the drain is called off");
            self.work = Work::None;
        }
    }

    /// What becomes of a drain that has ended by itself.
    pub(super) fn finish_drain(
        &mut self,
        version: ReleaseVersion,
        root_hash: RootHash,
        then: DrainPolicy,
        result: Result<(), String>,
    ) {
        let waiting = match (result, then) {
            (Ok(()), _) => {
                tracing::info!("slipway: the node is drained");
                self.drain.done_for = Some(root_hash);
                (self.drain.blocked, self.drain.failures) = (None, 0);
                return;
            }
            (Err(waiting), DrainPolicy::Restart) => {
                tracing::warn!("slipway: the node is not drained, and restarts: {waiting}");
                self.drain.done_for = Some(root_hash);
                return;
            }
            (Err(waiting), DrainPolicy::Wait) => waiting,
        };
        tracing::warn!("slipway: the node is not drained, and waits: {waiting}");
        let pause = FIRST_PAUSE.saturating_mul(1 << self.drain.failures.min(10)).min(LONGEST_PAUSE);
        self.drain.failures = self.drain.failures.saturating_add(1);
        let now = self.parts.effects.clock.now();
        if self.order == Order::Apply {
            // Without the order the hold may be another one.
            let problem = Problem {
                at: now,
                message: format!("release {version} {NOT_STARTED}: {waiting}"),
                next: "let the pod go, and run `slipway node update` again".to_owned(),
            };
            self.parts.board.change(|board| board.problem = Some(problem));
            self.order = Order::None;
        }
        self.drain.blocked = Some(Blocked {
            version,
            waiting,
            again: Instant::now() + pause,
            next: now.checked_add(pause).ok(),
        });
    }

    /// What a node says that tries a drain again later. An order does not wait for that.
    fn pause_of_drains(&self, wanted: &ReleaseVersion) -> Option<Hold> {
        let Blocked { version, waiting, again, next } = self.drain.blocked.as_ref()?;
        let is_over = *again <= Instant::now() || self.order == Order::Apply || version != wanted;
        let sentence = format!(
            "Release {version} did not start, because not all pods left the node in time: \
             {waiting}. It is tried again later, or with `slipway node update`."
        );
        (!is_over).then_some(Hold::Drain { sentence, ends: *next })
    }

    fn draining_hold(&self) -> Option<Hold> {
        let Work::Draining(Draining { version, says, terms, ends, .. }) = &self.work else {
            return None;
        };
        let then = match terms.then {
            DrainPolicy::Wait => "takes pods again, and tries later",
            DrainPolicy::Restart => "restarts all the same",
        };
        let sentence = format!(
            "Pods leave the node before release {version} starts. It waits for {}; after the \
             deadline it {then}.",
            *says.borrow()
        );
        Some(Hold::Drain { sentence, ends: *ends })
    }

    /// Takes the node's own cordon away while no restart is near. A boot that is judged may end in
    /// another restart.
    pub(super) async fn keep_uncordoned(&mut self) {
        let drain = &mut self.drain;
        if let Some(task) = drain.uncordoning.take_if(|task| task.is_finished()) {
            drain.may_be_cordoned = !task.await.unwrap_or(false);
        }
        let stays = matches!(self.work, Work::None | Work::Staging(..)) && self.machine.is_some();
        let is_idle = drain.uncordoning.is_none() && drain.done_for.is_none() && has_joined();
        let now = Instant::now();
        if !(drain.may_be_cordoned && stays && is_idle && drain.uncordon_again <= now) {
            return;
        }
        drain.uncordon_again = now + UNCORDON_AGAIN;
        let turn = drain.turn.clone();
        let Some(cluster) = self.cluster() else {
            return;
        };
        self.drain.uncordoning = Some(tokio::spawn(async move {
            let _turn = turn.lock().await;
            match cluster.uncordon().await {
                Ok(was_cordoned) => {
                    if was_cordoned {
                        tracing::info!("slipway: the node is uncordoned");
                    }
                    true
                }
                Err(error) => {
                    tracing::info!("slipway: whether the node is cordoned is not known: {error}");
                    false
                }
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use contract::node::api::Rule;
    use jiff::SignedDuration;
    use semver::Version;
    use serde_json::json;

    use super::super::tests::{conductor, node};
    use super::super::{Finished, finished};
    use super::*;
    use crate::policy::OfferFacts;

    const VERSION: &str = "3.0.0";

    /// An conductor with a cluster that nobody answers for, and policy's word to apply a release.
    fn about_to_apply() -> (Conductor, Decision) {
        let mut conductor = conductor(&node());
        let settings = json!({
            "schema": 1,
            "kubernetes": {"server": "https://127.0.0.1:1", "certificateAuthority": ""},
        });
        conductor.settings = Some(serde_json::from_value(settings).unwrap());
        let target = OfferFacts {
            version: VERSION.parse().unwrap(),
            root_hash: RootHash::from([3; 32]),
            minimum_updater: Version::new(0, 1, 0),
            esp_bytes: 0,
            kubelet: None,
        };
        let decision = Decision { action: Action::Apply, target: Some(target), holds: Vec::new() };
        (conductor, decision)
    }

    fn terms(then: DrainPolicy) -> Option<group::Drain> {
        Some(group::Drain { deadline: SignedDuration::from_millis(20), then })
    }

    /// Lets a drain come to its end, which the silent cluster makes a bad one.
    async fn drain(conductor: &mut Conductor, decision: &mut Decision, then: DrainPolicy) {
        conductor.apply_when_drained(decision, terms(then));
        assert!(matches!(conductor.work, Work::Draining(_)) && !conductor.is_busy());
        assert_eq!(decision.holds.pop().unwrap().rule(), Rule::Drain);
        let Finished::Drained(version, root_hash, then, result) =
            finished(&mut conductor.work).await
        else {
            panic!("the drain was lost");
        };
        assert!(result.is_err());
        conductor.work = Work::None;
        conductor.finish_drain(version, root_hash, then, result);
    }

    #[tokio::test]
    async fn a_node_that_waits_tries_again_later_or_when_told_to() {
        let (mut conductor, mut decision) = about_to_apply();
        drain(&mut conductor, &mut decision, DrainPolicy::Wait).await;
        assert!(conductor.parts.board.read().problem.is_none(), "nobody asked for it");
        conductor.apply_when_drained(&mut decision, terms(DrainPolicy::Wait));
        assert!(matches!(conductor.work, Work::None) && decision.action == Action::Nothing);
        let hold = decision.holds.pop().unwrap();
        assert!(hold.ends().is_some() && hold.to_string().contains(VERSION), "{hold}");
        let first = conductor.drain.blocked.as_ref().unwrap().again;

        conductor.order = Order::Apply;
        drain(&mut conductor, &mut decision, DrainPolicy::Wait).await;
        let problem = conductor.parts.board.read().problem.unwrap();
        assert!(problem.message.contains(VERSION), "{problem:?}");
        assert!(conductor.order == Order::None, "an order is one try");
        let second = conductor.drain.blocked.as_ref().unwrap().again;
        assert!(second > first + FIRST_PAUSE / 2, "the pauses do not grow");
    }

    #[tokio::test]
    async fn a_node_that_does_not_wait_goes_on_after_the_deadline() {
        let (mut conductor, mut decision) = about_to_apply();
        drain(&mut conductor, &mut decision, DrainPolicy::Restart).await;
        assert!(conductor.drain.is_over());
        conductor.apply_when_drained(&mut decision, terms(DrainPolicy::Restart));
        assert!(!matches!(conductor.work, Work::Draining(_)), "it is drained twice");
        assert!(decision.action == Action::Apply && decision.holds.is_empty());
    }

    #[tokio::test]
    async fn a_drain_ends_when_it_is_not_asked_for_any_more() {
        let (mut conductor, mut decision) = about_to_apply();
        let long =
            group::Drain { deadline: SignedDuration::from_hours(1), then: DrainPolicy::Restart };
        conductor.apply_when_drained(&mut decision, Some(long));
        let Work::Draining(Draining { task, .. }) =
            std::mem::replace(&mut conductor.work, Work::None)
        else {
            panic!("it is not drained");
        };
        // The task has nobody who listens.
        assert!(task.await.unwrap().is_err());

        conductor.apply_when_drained(&mut decision, Some(long));
        conductor.apply_when_drained(&mut decision, None);
        assert!(!matches!(conductor.work, Work::Draining(_)), "the group asks for no drain");
        conductor.stop_draining();
        assert!(!conductor.drain.is_over());
    }
}
