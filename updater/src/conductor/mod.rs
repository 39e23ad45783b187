//! The one task that owns the machine, and takes the steps of an update one after the other.
//!
//! In: requests of operators, what ends by itself, time. Out: the next [`Step`], and the [`Board`].
//! A turn is always the same: something happened → facts are gathered → policy decides → one step.
//! **Invariant:** one thing at a time: while a boot with a way back is judged nothing is staged, and
//! while a slot is written nothing else touches it. Every function that moves the node takes the
//! step by value and gives the next one back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use contract::node::api::{
    Accepted, Action, ApiError, Code, ProblemKind, SettingsMode, SettingsOutcome,
};
use contract::node::settings::ApiSettings;
use semver::Version;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::channel::{RunningImage, Watch};
use crate::cluster::{Cluster, Contact, Drainer};
use crate::effects::boot::BootFacts;
use crate::effects::{Effects, Http, off_thread};
use crate::metrics::Metrics;
use crate::policy::{Order, Pin};
use crate::settings::{Keeper, MetadataService, RuntimeFolders};
use crate::staging::{self, Stager};
use crate::update::carried;
use crate::verdict::Silence;

mod board;
mod boot;
mod follow;
mod footing;
mod install;
mod judge;
mod kubelet;
mod lapse;
mod machine;
mod memory;
mod orders;
mod partition;
mod restart;
mod settings;
mod step;
mod task;
#[cfg(test)]
mod tests;
mod units;

pub use board::{Board, Snapshot};
use memory::Failures;
use partition::Partition;
use step::{Event, Step};

/// Pause before another judge takes the place of one that ended early.
const JUDGE_AGAIN: Duration = Duration::from_secs(30);
/// How long the channel may take before a good boot is blessed all the same.
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// Longest time between two looks at the holds, the health and the seed of a node that waits.
const ROUND: Duration = Duration::from_secs(15);
/// The same, while pods leave the node: what it waits for is to be seen.
const DRAIN_ROUND: Duration = Duration::from_secs(5);

/// A wish, and where its answer goes.
pub enum OperatorRequest {
    /// An action.
    Act(Action, oneshot::Sender<Result<Accepted, ApiError>>),
    /// New settings.
    Settings(Bytes, SettingsMode, oneshot::Sender<Result<SettingsOutcome, ApiError>>),
}

/// Where the conductor finds and puts things.
#[derive(Debug, Clone)]
pub struct Places {
    /// Folder in memory for metadata that is being read.
    pub scratch: PathBuf,
    /// Folder with the machine's credential, when one is looked for.
    pub credentials: Option<PathBuf>,
    /// The metadata service of the cloud that the machine is in.
    pub metadata: Option<MetadataService>,
    /// Where container runtime and kubelet are.
    pub node: crate::verdict::NodePrograms,
    /// What services read that is made from the settings.
    pub folders: RuntimeFolders,
}

/// Who the node is, as policy and the channel ask.
#[derive(Debug, Clone)]
pub struct Who {
    /// Machine id.
    pub machine_id: String,
    /// Version of this program.
    pub updater: Version,
    /// The running image.
    pub image: RunningImage,
}

/// What the conductor works with.
pub struct Parts {
    /// Everything outside.
    pub effects: Effects,
    /// What is booted.
    pub facts: BootFacts,
    /// Where things are.
    pub places: Places,
    /// Who the node is.
    pub who: Who,
    /// Where others look.
    pub board: Arc<Board>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The port of the API.
    pub api: watch::Sender<Option<ApiSettings>>,
}

/// What operators want of this node.
#[derive(Debug, Default)]
struct Wishes {
    pin: Pin,
    order: Order,
}

/// The conductor.
pub struct Conductor {
    parts: Parts,
    keeper: Keeper,
    watch: Watch,
    http: Option<Arc<dyn Http>>,
    contact: Contact,
    drainer: Drainer,
    stager: Arc<Stager>,
    failures: Failures,
    wishes: Wishes,
    partition: Partition,
    /// How long the channel may take before a good boot is blessed all the same.
    first_look: Duration,
    /// How long this boot has lacked nothing but the API server's answer.
    silence: Arc<Silence>,
    /// Waits for the addresses of pods.
    pod_network: JoinSet<()>,
    /// Whether that was told in the journal.
    is_joining_unreadable: AtomicBool,
}

impl Conductor {
    /// Reads nothing yet.
    pub fn new(parts: Parts) -> Self {
        let Places { credentials, metadata, .. } = parts.places.clone();
        let (effects, slot) = (&parts.effects, parts.facts.slot);
        Self {
            keeper: Keeper::new(effects.clone(), slot, credentials, metadata),
            watch: Watch::default(),
            http: None,
            contact: Contact::default(),
            drainer: Drainer::default(),
            stager: Arc::new(Stager::new(effects.clone(), staging::Limits::default())),
            failures: Failures::default(),
            wishes: Wishes::default(),
            partition: Partition::new(effects.esp.clone()),
            first_look: FIRST_LOOK,
            silence: Arc::default(),
            pod_network: JoinSet::new(),
            is_joining_unreadable: AtomicBool::new(false),
            parts,
        }
    }

    /// Works until there is nobody left who could ask. Runs within a
    /// [`LocalSet`](tokio::task::LocalSet): staging borrows what its futures hold.
    pub async fn run(mut self, mut requests: mpsc::Receiver<OperatorRequest>) {
        self.read_pin().await;
        let mut step = self.take_settings(Step::opening()).await;
        step = self.round(step).await;
        loop {
            self.publish(&step).await;
            let wake = self.next_round(&step);
            step = tokio::select! {
                // One order of turns, for those who replay them.
                biased;
                event = step.event() => {
                    let next = self.advance(step, event).await;
                    self.round(next).await
                }
                request = requests.recv() => match request {
                    Some(request) => self.answer(step, request).await,
                    None => return,
                },
                () = sleep_until(wake) => self.round(step).await,
            };
        }
    }

    /// When to look around next. While the node is busy no look at the channel is due, however
    /// long it has waited.
    fn next_round(&self, step: &Step) -> Instant {
        let now = Instant::now();
        let longest = match step {
            Step::Draining { .. } => DRAIN_ROUND,
            Step::Opening { .. }
            | Step::Judging { .. }
            | Step::Idle(_)
            | Step::Staging { .. }
            | Step::Confirming { .. }
            | Step::Leaving { .. }
            | Step::Restarting { .. } => ROUND,
        };
        let wake = now + self.keeper.pause().unwrap_or(longest).min(longest);
        match self.watch.next().filter(|_| step.may_look()) {
            Some(next) => next.clamp(now, wake),
            None => wake,
        }
    }

    /// Looks around, when it is time, and does what policy decides.
    async fn round(&mut self, step: Step) -> Step {
        let mut step = self.open(step).await;
        if let Pin::Unreadable(_) = self.wishes.pin {
            self.read_pin().await;
        }
        if self.keeper.settings().is_none() {
            step = self.take_settings(step).await;
        }
        if step.may_look() && self.watch.is_due() {
            self.look().await;
        }
        if !step.is_busy() {
            (step, _) = self.follow(step).await;
        }
        if step.takes_pods() && self.has_joined() {
            let (keeper, effects) = (&self.keeper, &self.parts.effects);
            self.drainer.uncordon(|| cluster(keeper, effects));
        }
        step
    }

    /// What follows from something that ended by itself.
    async fn advance(&mut self, step: Step, event: Event) -> Step {
        match (step, event) {
            (step, Event::Judged(verdict)) => self.judged(step, verdict).await,
            (step, Event::JudgeLost) => {
                tracing::error!("slipway: the judge of this boot ended early, and another begins");
                self.judge_anew(step, JUDGE_AGAIN)
            }
            (step, Event::Stood) => self.stand_firm(step).await,
            (Step::Staging { boot, .. }, Event::Staged(result)) => {
                self.finish_staging(boot, result).await
            }
            (Step::Draining { boot, ready, drain }, Event::Drained(result)) => {
                self.finish_drain(boot, ready, &drain, result)
            }
            (Step::Confirming { boot, .. }, Event::Confirmed(result)) => {
                self.finish_confirming(boot, result).await
            }
            (Step::Leaving { machine, armed, .. }, Event::Left) => {
                self.restart(machine, armed).await
            }
            // A step gives its own events only.
            (step, event) => {
                tracing::error!(?event, "slipway: nothing waits for this, which is passed over");
                step
            }
        }
    }

    /// This node's cluster, when it has one.
    fn cluster(&self) -> Option<Cluster> {
        cluster(&self.keeper, &self.parts.effects)
    }

    /// Whether the node may have pods of a cluster: also where that cannot be read.
    fn has_joined(&self) -> bool {
        let joined = self.parts.effects.membership.has_joined();
        let was_told = self.is_joining_unreadable.swap(joined.is_err(), Ordering::Relaxed);
        joined.unwrap_or_else(|error| {
            if !was_told {
                tracing::warn!(%error, "slipway: whether the node has joined cannot be read");
            }
            true
        })
    }

    /// Reads what an operator pinned.
    async fn read_pin(&mut self) {
        let state = self.parts.effects.state.clone();
        let read = off_thread(move || carried::load_pin(state.as_ref())).await;
        let pin = match read.map_err(std::io::Error::other).flatten() {
            Ok(version) => version.into(),
            Err(error) => Pin::Unreadable(error.to_string()),
        };
        if pin != self.wishes.pin
            && let Pin::Unreadable(cause) = &pin
        {
            tracing::error!("slipway: what an operator pinned cannot be read: {cause}");
        }
        // What the channel said before was for another release.
        if pin.release() != self.wishes.pin.release() {
            self.watch.ask_soon();
        }
        self.wishes.pin = pin;
    }

    /// Says in the journal what failed, and shows it.
    fn complain(&self, kind: ProblemKind, what: &str, error: &dyn std::error::Error) {
        let at = self.parts.effects.clock.now();
        self.parts.board.complain(at, kind, what, error);
    }
}

fn cluster(keeper: &Keeper, effects: &Effects) -> Option<Cluster> {
    keeper.kubernetes().map(|settings| Cluster::new(settings.clone(), effects))
}

/// A refusal because of the node's state.
fn conflict(message: impl Into<String>, next: impl Into<String>) -> ApiError {
    ApiError::new(Code::Conflict, message, next)
}
