//! The one task that owns the machine.
//!
//! In: requests, verdicts, finished stagings, time. Out: the next step of an update, and the
//! board. **Invariant:** one thing at a time: while a boot is judged nothing is staged, and
//! while a slot is written nothing else touches it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use contract::channel::group::DrainPolicy;
use contract::node::api::{
    Accepted, Action, ApiError, Code, Phase, Problem, SettingsMode, SettingsOutcome,
};
use contract::node::settings::{ApiSettings, Settings};
use contract::{ReleaseVersion, RootHash};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::api::wording;
use crate::chain;
use crate::channel::{ChannelClient, Found, Surroundings};
use crate::daemon::{Identity, Places};
use crate::effects::Effects;
use crate::effects::boot::BootFacts;
use crate::metrics::{Metrics, UpdateEnd};
use crate::policy::{self, BootState, Order};
use crate::staging::{self, Confirmed, Delivery, StageError, Staged, Stager};
use crate::update::{
    Armed, Condemnation, Failure, Machine, Pending, Standing, UpdateError, carried,
};
use crate::verdict::{Silence, Verdict};

mod board;
mod cluster;
mod drain;
mod follow;
mod install;
mod judge;
mod kubelet;
mod orders;
mod settings;
#[cfg(test)]
mod tests;

pub use board::{Board, Snapshot};

/// Pause before a journal that could not be opened is tried again.
const REOPEN: Duration = Duration::from_secs(30);
/// Time between arming and the restart, in which answers reach those who asked for it: the
/// restart ends this program first, and the network soon after.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// See [`Conductor`].
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// Time between two looks at the holds, the health and the seed of a node that waits.
const ROUND: Duration = Duration::from_secs(15);
/// The same, while pods leave the node.
const DRAIN_ROUND: Duration = Duration::from_secs(5);

/// A wish, and where its answer goes.
pub enum Request {
    /// An action.
    Act(Action, oneshot::Sender<Result<Accepted, ApiError>>),
    /// New settings.
    Settings(Bytes, SettingsMode, oneshot::Sender<Result<SettingsOutcome, ApiError>>),
}

/// What the conductor works with.
pub struct Parts {
    /// The machine's parts.
    pub effects: Effects,
    /// What is booted.
    pub facts: BootFacts,
    /// Where things are.
    pub places: Places,
    /// Who the node is.
    pub identity: Arc<Identity>,
    /// Where others look.
    pub board: Arc<Board>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The port of the API.
    pub api: watch::Sender<Option<ApiSettings>>,
}

/// What takes time.
enum Work {
    /// Nothing is under way.
    None,
    /// This boot is judged.
    Judging(JoinHandle<Verdict>, Option<Pending>),
    /// A release is written.
    Staging(JoinHandle<Result<Delivery, StageError>>, ReleaseVersion),
    /// Pods leave the node, before what is staged is applied.
    Draining(drain::Draining),
    /// What was staged is read once more; then it is armed.
    Confirming(JoinHandle<Result<Confirmed, StageError>>, ReleaseVersion),
    /// The other slot is armed, and the node restarts at that time.
    Leaving(Option<Armed>, Instant),
    /// The node restarts.
    Restarting,
}

/// What ended.
enum Finished {
    Verdict(Pending, Verdict),
    Staged(Result<Delivery, StageError>),
    Drained(ReleaseVersion, RootHash, DrainPolicy, Result<(), String>),
    Confirmed(Result<Confirmed, StageError>),
    /// Answers had their time.
    Left(Armed),
    /// Its task ended early.
    Lost,
}

/// What the channel said last.
#[derive(Default)]
struct Look {
    found: Option<Found>,
    failure: Option<policy::Failure>,
    outage: policy::Outage,
}

/// The conductor.
pub struct Conductor {
    parts: Parts,
    machine: Option<Arc<Mutex<Machine>>>,
    /// How long the channel may take before a good boot is blessed all the same.
    first_look: Duration,
    work: Work,
    settings: Option<Settings>,
    /// Why there are no settings.
    lack: Option<settings::Lack>,
    client: Option<ChannelClient>,
    http: Option<reqwest::Client>,
    /// How long this boot has lacked nothing but the API server's answer.
    silence: Arc<Silence>,
    stager: Arc<Stager>,
    staged: Option<Staged>,
    look: Look,
    heard: cluster::Heard,
    /// Waits for the addresses of pods.
    pod_network: JoinSet<()>,
    drain: drain::Drain,
    pin: Option<ReleaseVersion>,
    order: Order,
    stage_failures: u32,
    /// How often what was staged was found changed before it was armed.
    spoiled: u32,
    stage_again: Option<Instant>,
    next_look: Instant,
    next_open: Instant,
}

impl Conductor {
    /// Reads nothing yet.
    pub fn new(parts: Parts) -> Self {
        let stager = Arc::new(Stager::new(parts.effects.clone(), staging::Limits::default()));
        let now = Instant::now();
        Self {
            parts,
            machine: None,
            first_look: FIRST_LOOK,
            work: Work::None,
            settings: None,
            lack: None,
            client: None,
            http: None,
            silence: Arc::default(),
            stager,
            staged: None,
            look: Look::default(),
            heard: cluster::Heard::default(),
            pod_network: JoinSet::new(),
            drain: drain::Drain::new(),
            pin: None,
            order: Order::None,
            stage_failures: 0,
            spoiled: 0,
            stage_again: None,
            next_look: now,
            next_open: now,
        }
    }

    /// Works until there is nobody left who could ask.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        self.pin = carried::load_pin(self.parts.effects.state.as_ref());
        self.load_settings().await;
        self.open_machine().await;
        self.round().await;
        loop {
            self.publish();
            let wake = self.next_round();
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.take(request).await,
                    None => return,
                },
                finished = finished(&mut self.work) => self.finish(finished).await,
                () = sleep_until(wake) => self.round().await,
            }
        }
    }

    /// When to look around next. While the node is busy no look at the channel is due, however
    /// long it has waited.
    fn next_round(&self) -> Instant {
        let now = Instant::now();
        match self.work {
            _ if self.is_busy() || !self.may_look() => now + ROUND,
            // What it waits for is to be seen.
            Work::Draining(_) => self.next_look.clamp(now, now + DRAIN_ROUND),
            _ => self.next_look.clamp(now, now + ROUND),
        }
    }

    /// One step of the machine, off this thread.
    async fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Machine) -> Result<T, UpdateError> + Send + 'static,
    ) -> Option<Result<T, UpdateError>> {
        let machine = self.machine.clone()?;
        let run = move || step(&mut machine.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(run).await.ok()
    }

    async fn open_machine(&mut self) {
        if self.machine.is_some() || Instant::now() < self.next_open {
            return;
        }
        self.next_open = Instant::now() + REOPEN;
        let (effects, facts) = (self.parts.effects.clone(), self.parts.facts.clone());
        let opened = tokio::task::spawn_blocking(move || Machine::open(effects, facts)).await;
        match opened {
            Ok(Ok((machine, standing))) => {
                self.report_fallback(&machine);
                self.machine = Some(Arc::new(Mutex::new(machine)));
                self.stand(standing).await;
            }
            Ok(Err(error)) => self.complain("updates are off", &error),
            Err(error) => tracing::error!(%error, "opening the journal of updates ended early"),
        }
    }

    /// Says in the journal what the boot before this one came to, and counts it.
    fn report_fallback(&self, machine: &Machine) {
        if let Some(entry) = machine.journal().history.back() {
            let message = wording::event(entry).message;
            tracing::info!(release = %entry.release.version, "slipway: last of its history: {message}");
        }
        if machine.has_fallen_back() {
            self.parts.metrics.add_update(UpdateEnd::FellBack);
        }
    }

    /// Does what the journal and the EFI system partition ask for first.
    async fn stand(&mut self, standing: Standing) {
        match standing {
            Standing::Steady => self.work = Work::None,
            Standing::Armed(armed) => self.leave(armed),
            Standing::Pending(pending) => self.judge(pending),
            Standing::Condemned(pending, failure) => self.condemn(pending, failure).await,
        }
    }

    fn judge(&mut self, pending: Pending) {
        let health = self.settings.as_ref().map(|settings| &settings.health);
        let times = carried::times(self.parts.effects.state.as_ref(), health);
        let settings = self.settings.as_ref();
        let probes = settings.map(|settings| settings.health.probes.clone());
        let judged = judge::Judged {
            node: self.parts.places.node.clone(),
            cluster: settings.and_then(|settings| settings.kubernetes.clone()),
            workloads: carried::load_workloads(
                self.parts.effects.state.as_ref(),
                self.parts.facts.root_hash,
            ),
            added: probes.unwrap_or_default(),
            times,
            silence: self.silence.clone(),
            // Without a way back there is no time at which this boot would be given up.
            can_fall_back: pending.can_fall_back(),
            clock: self.parts.effects.clock.clone(),
            board: self.parts.board.clone(),
        };
        tracing::info!(uki = %pending.name(), "slipway: this boot is being judged");
        self.work = Work::Judging(tokio::spawn(judge::judge(judged)), Some(pending));
    }

    async fn finish(&mut self, finished: Finished) {
        self.work = Work::None;
        match finished {
            Finished::Verdict(pending, Verdict::Healthy) => {
                // A slipwayd that dies of what its channel says must die while there is a way back.
                if pending.can_fall_back() {
                    if timeout(self.first_look, self.look()).await.is_err() {
                        tracing::warn!(
                            "slipway: the channel takes long: this boot is blessed without it"
                        );
                    }
                    drop(self.decide(None).await);
                }
                self.bless(pending).await;
            }
            Finished::Verdict(pending, Verdict::Failed(failure)) => {
                self.condemn(pending, failure).await;
            }
            Finished::Staged(result) => self.finish_staging(result).await,
            Finished::Drained(version, root_hash, then, result) => {
                self.finish_drain(version, root_hash, then, result);
            }
            Finished::Confirmed(result) => self.finish_confirming(result).await,
            Finished::Left(armed) => self.restart(armed).await,
            Finished::Lost => tracing::error!("a task of slipwayd ended early"),
        }
        self.round().await;
    }

    async fn bless(&mut self, pending: Pending) {
        let uptime = self.parts.effects.clock.uptime();
        match self.step(move |machine| machine.bless(pending)).await {
            Some(Ok(_)) => {
                let version = &self.parts.facts.version;
                tracing::info!(release = %version, "slipway: release {version} is blessed");
                self.parts.metrics.note_blessed(uptime);
                self.parts.metrics.add_update(UpdateEnd::Blessed);
            }
            Some(Err(error)) => {
                self.complain("this boot is good, but cannot be blessed", &error);
                self.machine = None;
            }
            None => self.machine = None,
        }
    }

    async fn condemn(&mut self, pending: Pending, failure: Failure) {
        let version = &self.parts.facts.version;
        tracing::error!(release = %version, probe = failure.probe, "slipway: release {version} is bad: {failure}");
        match self.step(move |machine| machine.condemn(pending, failure)).await {
            Some(Ok(Condemnation::Restarting { unrecorded })) => {
                if let Some(error) = unrecorded {
                    tracing::error!(error = chain(&error), "the cause could not be saved");
                }
                self.work = Work::Restarting;
            }
            Some(Ok(Condemnation::NoFallback(pending))) => {
                tracing::warn!("slipway: there is no other release to go back to: judging goes on");
                self.judge(pending);
            }
            Some(Err(error)) => {
                self.complain("a bad boot cannot be ended", &error);
                self.machine = None;
            }
            None => self.machine = None,
        }
    }

    /// The restart comes when answers had their time; until then nothing else is begun.
    fn leave(&mut self, armed: Armed) {
        tracing::info!(uki = %armed.name(), "slipway: restarting into the other slot");
        self.work = Work::Leaving(Some(armed), Instant::now() + ANSWER_TIME);
    }

    async fn restart(&mut self, armed: Armed) {
        match self.step(move |machine| machine.restart(&armed)).await {
            Some(Ok(())) => self.work = Work::Restarting,
            Some(Err(error)) => {
                self.complain("the node does not restart", &error);
                self.machine = None;
            }
            None => self.machine = None,
        }
    }

    /// Looks at the channel when it is time, and does what policy decides.
    async fn round(&mut self) {
        self.open_machine().await;
        if self.settings.is_none() {
            self.load_settings().await;
        }
        if !self.is_busy() {
            if Instant::now() >= self.next_look && self.may_look() {
                self.look().await;
            }
            self.follow().await;
        }
        self.keep_uncordoned().await;
    }

    /// Whether the channel may be asked: a slow one must not keep a boot from its verdict.
    fn may_look(&self) -> bool {
        self.boot_state() == BootState::Blessed
    }

    /// True while the other slot is at work, or the node about to leave this one.
    fn is_busy(&self) -> bool {
        match self.work {
            Work::Staging(..) | Work::Confirming(..) | Work::Leaving(..) | Work::Restarting => true,
            Work::None | Work::Judging(..) | Work::Draining(_) => false,
        }
    }

    /// True when the restart is decided.
    fn is_leaving(&self) -> bool {
        matches!(self.work, Work::Leaving(..) | Work::Restarting)
    }

    /// Runs something on the machine that only reads.
    fn with_machine<T>(&self, read: impl FnOnce(&Machine) -> T) -> Option<T> {
        let machine = self.machine.as_ref()?;
        Some(read(&machine.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn complain(&self, what: &str, error: &(dyn std::error::Error + 'static)) {
        let text = chain(error);
        tracing::error!("slipway: {what}: {text}");
        let at = self.parts.effects.clock.now();
        let problem = Problem {
            at,
            message: format!("{what}: {text}"),
            next: "see `slipway node logs --unit slipwayd.service`".to_owned(),
        };
        self.parts.board.change(|board| board.problem = Some(problem));
    }

    /// Puts on the board what the machine knows.
    fn publish(&self) {
        let journal = self.with_machine(|machine| machine.journal().clone());
        let ukis = self.parts.effects.esp.list().unwrap_or_default();
        let slot = self.parts.facts.slot.slot();
        let newest = |own: bool| {
            let names = ukis.iter().filter(|name| (name.slot == slot) == own);
            names.max_by_key(|name| name.generation).copied()
        };
        let phase = self.phase();
        let pin = self.pin.clone();
        self.parts.board.change(|board| {
            if let Some(journal) = journal {
                board.journal = journal;
            }
            board.booted = newest(true).or(board.booted);
            board.other = newest(false);
            board.phase = phase;
            board.pin = pin;
            if let Some(found) = &self.look.found {
                let spec = found.group.as_ref().map(|group| &group.spec);
                board.group_pin = spec.and_then(|spec| spec.release.clone());
                board.maximum_version = spec.and_then(|spec| spec.maximum_version.clone());
                board.channel = found.channel.as_ref().map(|channel| channel.channel.clone());
            }
        });
    }

    fn phase(&self) -> Phase {
        use crate::update::Phase as Saved;
        match self.work {
            Work::Judging(..) => Phase::Pending,
            Work::Staging(..) => Phase::Staging,
            Work::Draining(_) => Phase::Draining,
            Work::Confirming(..) => Phase::Staged,
            Work::Leaving(..) | Work::Restarting => {
                match self.with_machine(|machine| machine.journal().phase.clone()) {
                    Some(Saved::Condemned { .. }) => Phase::FallingBack,
                    _ => Phase::Armed,
                }
            }
            Work::None if self.staged.is_some() => Phase::Staged,
            Work::None => Phase::Idle,
        }
    }
}

/// Waits for what is under way; for ever when nothing is.
async fn finished(work: &mut Work) -> Finished {
    match work {
        Work::Judging(task, pending) => match (task.await, pending.take()) {
            (Ok(verdict), Some(pending)) => Finished::Verdict(pending, verdict),
            _ => Finished::Lost,
        },
        Work::Staging(task, _) => match task.await {
            Ok(result) => Finished::Staged(result),
            Err(_) => Finished::Lost,
        },
        Work::Draining(drain) => match (&mut drain.task).await {
            Ok(result) => {
                Finished::Drained(drain.version.clone(), drain.root_hash, drain.terms.then, result)
            }
            Err(_) => Finished::Lost,
        },
        Work::Confirming(task, _) => match task.await {
            Ok(result) => Finished::Confirmed(result),
            Err(_) => Finished::Lost,
        },
        Work::Leaving(armed, at) => {
            sleep_until(*at).await;
            armed.take().map_or(Finished::Lost, Finished::Left)
        }
        Work::None | Work::Restarting => std::future::pending().await,
    }
}

/// A refusal because of the node's state.
fn conflict(message: impl Into<String>, next: impl Into<String>) -> ApiError {
    ApiError::new(Code::Conflict, message, next)
}
