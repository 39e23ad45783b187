//! The one task that owns the machine.
//!
//! In: requests, verdicts, finished stagings, time. Out: the next step of an update, and the
//! board. **Invariant:** one thing at a time: while a boot is judged nothing is staged, and
//! while a slot is written nothing else touches it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use release::api::{ApiError, Check, CheckOutcome, Code, Phase, Problem};
use release::settings::{ApiSettings, Settings};
use release::{ReleaseVersion, UkiName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::board::Board;
use super::front::Request;
use super::identity::Identity;
use super::local::{self, VerdictTimes};
use super::{Places, chain, verdict, wording};
use crate::channel::{ChannelClient, ClockReading, Found, Surroundings};
use crate::effects::boot::BootFacts;
use crate::effects::{Effects, Staged};
use crate::metrics::{Metrics, UpdateEnd};
use crate::policy::{self, Action, BootState, Decision, Hold, Order, PolicyInput};
use crate::settings as settings_of;
use crate::staging::{self, Delivery, Job, StageError, Stager};
use crate::update::{
    Condemnation, Failure, Machine, Pending, Plan, ReleaseId, Standing, UpdateError,
};
use crate::verdict::Verdict;

mod orders;
mod settings;

/// Pause before a journal that could not be opened is tried again.
const REOPEN: Duration = Duration::from_secs(30);
/// Time between two looks at the holds, the health and the seed of a node that waits.
const ROUND: Duration = Duration::from_secs(15);

/// What the actor works with.
pub struct Setting {
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
    /// The node restarts.
    Restarting,
}

/// What ended.
enum Finished {
    Verdict(Pending, Verdict),
    Staged(Result<Delivery, StageError>),
    /// Its task ended early.
    Lost,
}

/// What the channel said last.
#[derive(Default)]
struct Look {
    found: Option<Found>,
    failure: Option<policy::Failure>,
    failures: u32,
}

/// The actor.
pub struct Actor {
    setting: Setting,
    machine: Option<Arc<Mutex<Machine>>>,
    work: Work,
    settings: Option<Settings>,
    client: Option<ChannelClient>,
    http: Option<reqwest::Client>,
    stager: Arc<Stager>,
    staged: Option<Staged>,
    look: Look,
    pin: Option<ReleaseVersion>,
    order: Order,
    stage_failures: u32,
    stage_again: Option<Instant>,
    next_look: Instant,
    next_open: Instant,
}

impl Actor {
    /// Reads nothing yet.
    pub fn new(setting: Setting) -> Self {
        let stager = Arc::new(Stager::new(setting.effects.clone(), staging::Limits::default()));
        let now = Instant::now();
        Self {
            setting,
            machine: None,
            work: Work::None,
            settings: None,
            client: None,
            http: None,
            stager,
            staged: None,
            look: Look::default(),
            pin: None,
            order: Order::None,
            stage_failures: 0,
            stage_again: None,
            next_look: now,
            next_open: now,
        }
    }

    /// Works until there is nobody left who could ask.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        self.pin = local::load_pin(self.setting.effects.state.as_ref());
        self.load_settings().await;
        self.open_machine().await;
        self.round().await;
        loop {
            self.publish();
            let wake = Instant::now() + ROUND;
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.take(request).await,
                    None => return,
                },
                finished = finished(&mut self.work) => self.finish(finished).await,
                () = sleep_until(wake.min(self.next_look.max(Instant::now()))) => self.round().await,
            }
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
        let (effects, facts) = (self.setting.effects.clone(), self.setting.facts.clone());
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

    /// Says in the journal what the boot before this one came to.
    fn report_fallback(&self, machine: &Machine) {
        if let Some(entry) = machine.journal().history.back() {
            let message = wording::event(entry).message;
            tracing::info!(release = %entry.release.version, "slipway: last of its history: {message}");
        }
    }

    /// Does what the journal and the EFI system partition ask for first.
    async fn stand(&mut self, standing: Standing) {
        match standing {
            Standing::Steady => self.work = Work::None,
            Standing::Armed(armed) => {
                let restarted = self.step(move |machine| machine.restart(&armed)).await;
                self.restarting(restarted);
            }
            Standing::Pending(pending) => self.judge(pending),
            Standing::Condemned(pending, failure) => self.condemn(pending, failure).await,
        }
    }

    fn judge(&mut self, pending: Pending) {
        let times = local::load_times(self.setting.effects.state.as_ref()).unwrap_or_else(|| {
            let health = self.settings.as_ref().map(|settings| &settings.health);
            VerdictTimes::new(policy::verdict_times(None, health))
        });
        let probes = self.settings.as_ref().map(|settings| settings.health.probes.clone());
        let judged = verdict::Judged {
            node: self.setting.places.node.clone(),
            added: probes.unwrap_or_default(),
            times,
            // Without a way back there is no time at which this boot would be given up.
            can_fall_back: pending.can_fall_back(),
            clock: self.setting.effects.clock.clone(),
            board: self.setting.board.clone(),
        };
        tracing::info!(uki = %pending.name(), "slipway: this boot is being judged");
        self.work = Work::Judging(tokio::spawn(verdict::judge(judged)), Some(pending));
    }

    async fn finish(&mut self, finished: Finished) {
        self.work = Work::None;
        match finished {
            Finished::Verdict(pending, Verdict::Healthy) => self.bless(pending).await,
            Finished::Verdict(pending, Verdict::Failed(failure)) => {
                self.condemn(pending, failure).await;
            }
            Finished::Staged(result) => self.finish_staging(result).await,
            Finished::Lost => tracing::error!("a task of slipwayd ended early"),
        }
        self.round().await;
    }

    async fn bless(&mut self, pending: Pending) {
        let uptime = self.setting.effects.clock.uptime();
        match self.step(move |machine| machine.bless(pending)).await {
            Some(Ok(_)) => {
                let version = &self.setting.facts.version;
                tracing::info!(release = %version, "slipway: release {version} is blessed");
                self.setting.metrics.note_blessed(uptime);
                self.setting.metrics.add_update(UpdateEnd::Blessed);
            }
            Some(Err(error)) => {
                self.complain("this boot is good, but cannot be blessed", &error);
                self.machine = None;
            }
            None => self.machine = None,
        }
    }

    async fn condemn(&mut self, pending: Pending, failure: Failure) {
        let version = &self.setting.facts.version;
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

    fn restarting(&mut self, restarted: Option<Result<(), UpdateError>>) {
        match restarted {
            Some(Ok(())) => {
                tracing::info!("slipway: restarting into the other slot");
                self.work = Work::Restarting;
            }
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
        if matches!(self.work, Work::Staging(..) | Work::Restarting) {
            return;
        }
        if Instant::now() >= self.next_look {
            self.look().await;
        }
        self.follow().await;
    }

    /// Asks the channel.
    async fn look(&mut self) {
        let clock = self.setting.effects.clock.clone();
        let now = clock.now();
        let Some(client) = &self.client else {
            self.next_look = Instant::now() + ROUND;
            return;
        };
        let reading = ClockReading::take(clock.as_ref());
        let looked = client.look(&reading, self.pin.as_ref()).await;
        let (outcome, message) = match looked {
            Ok(found) => {
                if found.is_memory_damaged {
                    tracing::warn!("part of what the node remembers of its channel was damaged");
                }
                let message = format!("{} answered", found.mirror);
                self.look = Look { found: Some(found), failure: None, failures: 0 };
                (CheckOutcome::Succeeded, message)
            }
            Err(error) => {
                let sentence = error.sentence();
                tracing::warn!("slipway: the channel cannot be followed: {sentence}");
                self.look.failures = self.look.failures.saturating_add(1);
                let is_clock = error.is_clock();
                self.look.failure =
                    Some(policy::Failure { sentence: sentence.clone(), is_clock, next: None });
                (CheckOutcome::Failed, sentence)
            }
        };
        let pause = self.pause();
        self.next_look = Instant::now() + pause;
        if let Some(failure) = &mut self.look.failure {
            failure.next = now.checked_add(pause).ok();
        }
        self.setting.board.change(|board| {
            board.last_check = Some(Check { at: now, outcome, message });
        });
    }

    /// Time until the channel is asked again.
    fn pause(&self) -> Duration {
        let Some(channel) = self.settings.as_ref().and_then(|settings| settings.channel.as_ref())
        else {
            return ROUND;
        };
        let mut chance = [0; 8];
        // Without random numbers the fleet asks at once, and that is all.
        let chance =
            match rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty()) {
                Ok(_) => u64::from_le_bytes(chance) as f64 / u64::MAX as f64,
                Err(_) => 0.0,
            };
        let (interval, jitter) =
            (channel.poll_interval.unsigned_abs(), channel.jitter.unsigned_abs());
        // A clock that waits for a time server is asked often: nothing goes over the network.
        if self.look.failure.as_ref().is_some_and(|failure| failure.is_clock) {
            return ROUND.min(interval);
        }
        policy::poll_delay(interval, jitter, self.look.failures, chance)
    }

    /// What policy says now.
    async fn decide(&self) -> Decision {
        let effects = self.setting.effects.clone();
        let room = tokio::task::spawn_blocking(move || effects.esp.free_bytes().ok()).await;
        let refusals: Vec<policy::Refusal> = self
            .with_machine(|machine| {
                let refusals = machine.journal().refusals.iter();
                refusals
                    .map(|known| policy::Refusal {
                        root_hash: known.release.root_hash,
                        cause: known.cause.to_string(),
                    })
                    .collect()
            })
            .unwrap_or_default();
        let documents = self.look.found.as_ref().map(Found::documents);
        policy::decide(&PolicyInput {
            now: self.setting.effects.clock.now(),
            node: &self.setting.identity.machine_id,
            updater: &self.setting.identity.updater,
            boot: self.boot_state(),
            running: self.setting.facts.root_hash,
            settings: self.settings.as_ref(),
            pin: self.pin.as_ref(),
            documents: documents.as_ref(),
            failure: self.look.failure.as_ref(),
            refusals: &refusals,
            staged: self.staged.as_ref().map(Staged::root_hash),
            esp_room: room.ok().flatten(),
            order: self.order,
        })
    }

    fn boot_state(&self) -> BootState {
        match self.work {
            Work::Judging(_, ref pending) => {
                // A first boot has nothing to protect: an update may be what heals it.
                let can_fall_back = pending.as_ref().is_none_or(Pending::can_fall_back);
                if can_fall_back { BootState::Pending } else { BootState::Blessed }
            }
            Work::None | Work::Staging(..) | Work::Restarting => match self.machine {
                Some(_) => BootState::Blessed,
                None => BootState::Pending,
            },
        }
    }

    /// Does what policy decides, and says what holds the node otherwise.
    async fn follow(&mut self) -> Decision {
        let mut decision = self.decide().await;
        let wanted = decision.target.as_ref().map(|target| target.version.clone());
        self.setting.board.change(|board| board.wanted = wanted);
        match decision.action {
            Action::Nothing => {}
            Action::Stage => match self.stage_again.filter(|again| *again > Instant::now()) {
                Some(again) if self.order == Order::None => {
                    let pause = again.saturating_duration_since(Instant::now());
                    decision.holds.push(self.stage_hold(pause));
                    decision.action = Action::Nothing;
                }
                _ => self.stage().await,
            },
            Action::Apply => self.apply().await,
        }
        let holds = decision.holds.clone();
        self.setting.board.change(|board| board.holds = holds);
        decision
    }

    fn stage_hold(&self, pause: Duration) -> Hold {
        let problem = self.setting.board.read().problem;
        let sentence = problem.map(|problem| problem.message).unwrap_or_default();
        let next = self.setting.effects.clock.now().checked_add(pause).ok();
        Hold::CheckFailed { sentence, next }
    }

    /// Starts to write the wanted release to the other slot.
    async fn stage(&mut self) {
        let Some(offer) = self.look.found.as_ref().and_then(|found| found.offer.clone()) else {
            return;
        };
        let (Some(client), Some(channel)) = (
            self.http.clone(),
            self.settings.as_ref().and_then(|settings| settings.channel.clone()),
        ) else {
            return;
        };
        // A boot without a way back is judged on; the slot that is written becomes its way out.
        if let Work::Judging(task, _) = &self.work {
            task.abort();
        }
        self.staged = None;
        let version = offer.release.version.clone();
        let root_hash = offer.release.root.root_hash;
        let plan = Plan { release: ReleaseId { version: version.clone(), root_hash } };
        let disarmed = match self.step(move |machine| machine.disarm_target(&plan)).await {
            Some(Ok(disarmed)) => disarmed,
            Some(Err(error)) => return self.give_up_staging(&error),
            None => return,
        };
        tracing::info!(release = %version, "slipway: staging release {version}");
        let (stager, board) = (self.stager.clone(), self.setting.board.clone());
        let booted = self.booted().await;
        let mirrors = crate::http::mirrors(&channel);
        let task = tokio::task::spawn_local(async move {
            let progress = &board.progress;
            let offer = &offer;
            let mirrors = &mirrors;
            stager.stage(Job { offer, booted, disarmed, client, mirrors, progress }).await
        });
        self.work = Work::Staging(task, version);
    }

    async fn booted(&self) -> Option<UkiName> {
        let effects = self.setting.effects.clone();
        let slot = self.setting.facts.slot.slot();
        let list = tokio::task::spawn_blocking(move || effects.esp.list()).await;
        let ukis = list.ok()?.ok()?;
        ukis.into_iter().filter(|name| name.slot == slot).max_by_key(|name| name.generation)
    }

    async fn finish_staging(&mut self, result: Result<Delivery, StageError>) {
        let Delivery { staged, root_way: way, bytes_moved, journal_trouble, .. } = match result {
            Ok(delivery) => delivery,
            Err(error) => return self.give_up_staging(&error),
        };
        if let Some(trouble) = journal_trouble {
            tracing::warn!(trouble, "how far staging got could not be kept");
        }
        self.setting.metrics.add_moved(wording::way(way), bytes_moved);
        tracing::info!(
            bytes = bytes_moved,
            "slipway: release is staged, {bytes_moved} bytes moved, way {way}"
        );
        self.stage_failures = 0;
        self.stage_again = None;
        self.setting.board.change(|board| board.problem = None);
        let recorded = self
            .step(move |machine| {
                machine.record_staged(&staged)?;
                Ok(staged)
            })
            .await;
        match recorded {
            Some(Ok(staged)) => self.staged = Some(staged),
            Some(Err(error)) => self.give_up_staging(&error),
            None => {}
        }
    }

    fn give_up_staging(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.complain("the release cannot be staged", error);
        self.setting.metrics.add_update(UpdateEnd::StageFailed);
        self.stage_failures = self.stage_failures.saturating_add(1);
        let (interval, jitter) = (Duration::from_secs(600), Duration::ZERO);
        let pause = policy::poll_delay(interval, jitter, self.stage_failures, 0.0);
        self.stage_again = Some(Instant::now() + pause);
        self.order = Order::None;
    }

    /// Arms what was staged, and restarts.
    async fn apply(&mut self) {
        let Some(staged) = self.staged.take() else {
            return;
        };
        let group = self.look.found.as_ref().and_then(|found| found.group.as_deref());
        let health = self.settings.as_ref().map(|settings| &settings.health);
        let times = VerdictTimes::new(policy::verdict_times(group, health));
        let state = self.setting.effects.state.clone();
        let armed = self
            .step(move |machine| {
                let armed = machine.arm(staged, &|booted, _| {
                    local::save_times(state.as_ref(), &times)?;
                    settings_of::copy_for_target(state.as_ref(), booted).map_err(io::Error::other)
                })?;
                machine.restart(&armed)
            })
            .await;
        self.restarting(armed);
    }

    /// Runs something on the machine that only reads.
    fn with_machine<T>(&self, read: impl FnOnce(&Machine) -> T) -> Option<T> {
        let machine = self.machine.as_ref()?;
        Some(read(&machine.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn complain(&self, what: &str, error: &(dyn std::error::Error + 'static)) {
        let text = chain(error);
        tracing::error!(error = text, "slipway: {what}");
        let at = self.setting.effects.clock.now();
        let problem = Problem {
            at,
            message: format!("{what}: {text}"),
            next: "see `slipway node logs --unit slipwayd.service`".to_owned(),
        };
        self.setting.board.change(|board| board.problem = Some(problem));
    }

    /// Puts on the board what the machine knows.
    fn publish(&self) {
        let journal = self.with_machine(|machine| machine.journal().clone());
        let ukis = self.setting.effects.esp.list().unwrap_or_default();
        let slot = self.setting.facts.slot.slot();
        let newest = |own: bool| {
            let names = ukis.iter().filter(|name| (name.slot == slot) == own);
            names.max_by_key(|name| name.generation).copied()
        };
        let phase = self.phase();
        let pin = self.pin.clone();
        self.setting.board.change(|board| {
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
            Work::Restarting => {
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
        Work::None | Work::Restarting => std::future::pending().await,
    }
}

/// A refusal because of the node's state.
fn conflict(message: impl Into<String>, next: impl Into<String>) -> ApiError {
    ApiError::new(Code::Conflict, message, next)
}
