//! Emptying the node before it restarts, and its own cordon.
//!
//! In: policy's word to drain the node, and how it ends. Out: a [`Drain`] that is under way, what
//! is known of those that came to nothing, and a Node that takes pods again. **Invariant:** at most
//! one task changes the Node at a time; a drain that nobody holds any more ends by itself, and all end
//! with the [`Drainer`].

use std::sync::Arc;
use std::time::Duration;

use contract::channel::group::{self, DrainPolicy};
use contract::{ReleaseVersion, RootHash};
use jiff::Timestamp;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Cluster, DrainTerms};
use crate::policy::{DrainState, FIRST_ANSWER, FailedDrain};

/// Pause before the API server is asked again to uncordon the node.
const UNCORDON_AGAIN: Duration = Duration::from_secs(60);

/// A drain that is under way. When it is dropped nobody listens to its task, which then ends: not in
/// the middle of a change to the Node, which must be known to whoever comes next.
#[must_use]
pub struct Drain {
    result: oneshot::Receiver<Result<(), String>>,
    version: ReleaseVersion,
    root_hash: RootHash,
    terms: group::Drain,
    /// What it waits for.
    says: watch::Receiver<String>,
    ends: Option<Timestamp>,
}

impl Drain {
    /// Waits for its end. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// What had not left.
    pub async fn ended(&mut self) -> Result<(), String> {
        (&mut self.result).await.unwrap_or_else(|_| Err("the drain ended early".to_owned()))
    }

    /// The release that it is for.
    pub fn version(&self) -> &ReleaseVersion {
        &self.version
    }

    /// Whether it goes on as it is.
    pub fn is_for(&self, root_hash: RootHash, terms: group::Drain) -> bool {
        self.root_hash == root_hash && self.terms == terms
    }

    /// What policy asks.
    pub fn state(&self) -> DrainState {
        DrainState::UnderWay {
            root_hash: self.root_hash,
            terms: self.terms,
            waiting: self.says.borrow().clone(),
            ends: self.ends,
        }
    }
}

/// What became of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The node may restart for that release.
    Drained(RootHash),
    /// It waits, for that.
    Waits(String),
}

/// What is known of drains and of the node's own cordon.
pub struct Drainer {
    failed: Option<(FailedDrain, Instant)>,
    /// The Node may bear this node's mark: of this run, or of one that ended early.
    may_be_cordoned: bool,
    /// Whether that is done, from who tries it.
    uncordoning: Option<oneshot::Receiver<bool>>,
    uncordon_again: Instant,
    tasks: JoinSet<()>,
    /// Whoever changes the Node holds it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Default for Drainer {
    fn default() -> Self {
        Self {
            failed: None,
            may_be_cordoned: true,
            uncordoning: None,
            uncordon_again: Instant::now(),
            tasks: JoinSet::new(),
            turn: Arc::default(),
        }
    }
}

impl Drainer {
    /// The Node of another API server is another one.
    pub fn forget_node(&mut self) {
        self.may_be_cordoned = true;
        self.uncordoning = None;
        self.uncordon_again = Instant::now();
    }

    /// Begins to empty the node for a release, at the time `now`.
    pub fn begin(
        &mut self,
        cluster: Cluster,
        (version, root_hash): (ReleaseVersion, RootHash),
        terms: group::Drain,
        now: Timestamp,
    ) -> Drain {
        let (told, says) = watch::channel(FIRST_ANSWER.to_owned());
        let deadline = terms.deadline.unsigned_abs();
        let (turn, release) = (self.turn.clone(), version.clone());
        let (ended, result) = oneshot::channel();
        self.spawn(async move {
            let _turn = turn.lock().await;
            let drained = cluster.drain(&release, DrainTerms::new(deadline), &told).await;
            if ended.send(drained).is_err() {
                tracing::info!("slipway: nobody waits for the drain any more");
            }
        });
        self.may_be_cordoned = true;
        // One that is under way ends before the drain begins, and says nothing of it.
        (self.uncordoning, self.uncordon_again) = (None, Instant::now());
        Drain { result, version, root_hash, terms, says, ends: now.checked_add(deadline).ok() }
    }

    /// What becomes of a drain that has ended by itself.
    pub fn finish(&mut self, drain: &Drain, result: Result<(), String>) -> Ended {
        let Drain { version, root_hash, terms, .. } = drain;
        let waiting = match (result, terms.then) {
            (Ok(()), _) => {
                tracing::info!("slipway: the node is drained");
                self.failed = None;
                return Ended::Drained(*root_hash);
            }
            (Err(waiting), DrainPolicy::Restart) => {
                tracing::warn!("slipway: the node is not drained, and restarts: {waiting}");
                return Ended::Drained(*root_hash);
            }
            (Err(waiting), DrainPolicy::Wait) => waiting,
        };
        tracing::warn!("slipway: the node is not drained, and waits: {waiting}");
        let before = self.failed.as_ref().map_or(0, |(failed, _)| failed.failures);
        let failed = FailedDrain {
            version: version.clone(),
            waiting: waiting.clone(),
            failures: before.saturating_add(1),
            ago: Duration::ZERO,
        };
        self.failed = Some((failed, Instant::now()));
        Ended::Waits(waiting)
    }

    /// Those that came to nothing, for policy.
    pub fn failed(&self) -> Option<FailedDrain> {
        let (failed, at) = self.failed.as_ref()?;
        Some(FailedDrain { ago: at.elapsed(), ..failed.clone() })
    }

    /// Takes the node's own cordon away, if there may be one and it is time to try.
    pub fn uncordon(&mut self, cluster: impl FnOnce() -> Option<Cluster>) {
        match self.uncordoning.as_mut().map(oneshot::Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => {}
            Some(Ok(is_done)) => (self.uncordoning, self.may_be_cordoned) = (None, !is_done),
            Some(Err(TryRecvError::Closed)) => {
                tracing::warn!("slipway: uncordoning the node ended early");
                self.uncordoning = None;
            }
        }
        let now = Instant::now();
        let is_due = self.uncordoning.is_none() && self.uncordon_again <= now;
        if !(self.may_be_cordoned && is_due) {
            return;
        }
        self.uncordon_again = now + UNCORDON_AGAIN;
        let Some(cluster) = cluster() else {
            return;
        };
        let turn = self.turn.clone();
        let (ended, done) = oneshot::channel();
        self.uncordoning = Some(done);
        self.spawn(async move {
            let _turn = turn.lock().await;
            let is_done = match cluster.uncordon().await {
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
            };
            if ended.send(is_done).is_err() {
                tracing::info!("slipway: another API server is asked meanwhile");
            }
        });
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "slipway: a task on the Node ended early");
            }
        }
        self.tasks.spawn(task);
    }

    /// Waits until nothing is asked of the API server any more.
    #[cfg(test)]
    pub async fn rest_for_a_test(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
