//! A world with one node: disk, network, channel, cluster and operators, driven by a script.
//!
//! In: a [`Script`]. Out: [`Outcome`], with everything that was broken on the way. **Invariant:**
//! one thread and a paused clock: the same script gives the same run.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use contract::node::api::Action;
use contract::{Digest, Slot, UkiName};
use tokio::runtime::Builder;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::channel::{Channel, HOST};
use super::daemon::{Answer, Daemon};
use super::end;
use super::ledger::Ledger;
use super::release::{Behaviour, NUMBERS, Release, db, release};
use super::script::{Event, Mode, Rot, Script, Start};
use crate::effects::fake::{Dice, Effect, FakeNode, Fault, Reading, Sizes, Web};
use crate::effects::off_thread::in_line;
use crate::effects::{Area, BootedSlot, Variable};
use crate::settings::{self, NodeSettings};
use crate::update::marks;

/// More boots than any script needs.
const MOST_BOOTS: usize = 60;
/// How long after the last event the node may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// Time between two looks of the world at the node.
const LOOK: Duration = Duration::from_secs(20);
/// Time from power-on to slipwayd.
const START: Duration = Duration::from_secs(10);

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was broken, in order.
    pub broken: Vec<String>,
    /// Effects of the whole run, in order.
    pub log: Vec<Effect>,
    /// Requests to mirrors.
    pub requests: usize,
    /// How long it took in the world.
    pub time: Duration,
}

/// Why a boot ended.
enum End {
    /// The power went, or the node restarted.
    Off,
    /// Nothing is left to happen, and the node is where it should be.
    Settled,
    /// Something was broken.
    Broken,
}

/// The world.
pub struct World {
    /// The node.
    pub node: FakeNode,
    /// Its network.
    pub web: Web,
    /// Its channel.
    pub channel: Channel,
    /// What happens.
    pub script: Script,
    /// Events that have happened.
    happened: usize,
    /// Time of the world.
    now: Duration,
    ledger: Arc<Mutex<Ledger>>,
    /// Nothing goes wrong any more.
    is_calm: Arc<AtomicBool>,
    /// What operators wait for.
    answers: Vec<(Action, Answer)>,
    run: tempfile::TempDir,
}

/// Runs a script to its end.
pub fn run(script: Script) -> Outcome {
    in_line::switch_on();
    World::new(script).live()
}

impl World {
    fn new(script: Script) -> Self {
        let sizes = Sizes { root: 256 << 10, verity: 16 << 10, esp: 256 << 10, state: 1 << 20 };
        let node = FakeNode::new(script.seed, sizes);
        let web = Web::new(script.seed ^ 1);
        node.connect(Arc::new(web.clone()));
        node.set_variable(Variable::SecureBoot, &[1]);
        node.set_variable(Variable::Db, &db());
        let mut name = UkiName::first();
        if script.start == Start::Blessed {
            name.tries = None;
        }
        release(1, Behaviour::Good).install(&node, name);
        match script.rot {
            Some(Rot::Root(place)) => node.rot_once_staged(Some(Area::Root), place),
            Some(Rot::Verity(place)) => node.rot_once_staged(Some(Area::Verity), place),
            Some(Rot::Uki(place)) => node.rot_once_staged(None, place),
            None => {}
        }
        let channel = Channel::new(script.is_in_cluster);
        channel.publish(&web);
        if script.is_in_cluster {
            node.join(b"certificate and key");
            web.api_server.run_pod("web", 1);
        }
        let world = Self {
            node,
            web,
            channel,
            happened: 0,
            now: Duration::ZERO,
            ledger: Arc::new(Mutex::new(Ledger::new())),
            is_calm: Arc::default(),
            answers: Vec::new(),
            run: tempfile::tempdir_in(memory()).unwrap(),
            script,
        };
        let first = NodeSettings::from_bytes(world.settings(world.script.mode)).unwrap();
        settings::save(&world.node, BootedSlot::forged_for_a_test(name.slot), &first).unwrap();
        world
    }

    /// What has happened.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// The release of a number, and how it behaves.
    pub fn release(&self, number: usize) -> (&'static Release, Behaviour) {
        let behaviour = self.script.behaviours[&number];
        (release(number, behaviour), behaviour)
    }

    fn settings(&self, mode: Mode) -> Vec<u8> {
        self.channel.settings(mode, &self.script)
    }

    fn live(mut self) -> Outcome {
        let mut boots = 0;
        loop {
            boots += 1;
            if boots > MOST_BOOTS {
                self.ledger().broke(format!("the node restarts again and again: {boots} boots"));
                break;
            }
            match self.boot() {
                End::Off => {}
                End::Settled | End::Broken => break,
            }
        }
        if self.web.misread() {
            self.ledger().broke("the content of an answer to another question is read");
        }
        let broken = std::mem::take(&mut self.ledger().broken);
        let (log, requests, time) = (self.node.log(), self.web.requests(), self.now);
        Outcome { broken, log, requests, time }
    }

    /// The number of the release whose UKI for a slot this is.
    fn number_of(&self, slot: Slot, uki: &[u8]) -> Option<usize> {
        let digest = Digest::of(uki);
        (1..=NUMBERS).find(|number| {
            let (release, _) = self.release(*number);
            Digest::of(&release.published.ukis[&slot]) == digest
        })
    }

    /// Power-on, and all that follows until the power goes.
    fn boot(&mut self) -> End {
        let Some(boot) = self.node.boot() else {
            self.ledger().broke("nothing boots: there is no UKI");
            return End::Broken;
        };
        let mut known = Vec::new();
        for name in self.node.ukis() {
            let uki = self.node.uki(name).unwrap();
            let Some(number) = self.number_of(name.slot, &uki) else {
                self.ledger().broke(format!("{name} is no UKI of a release"));
                return End::Broken;
            };
            known.push((name, number));
            if !self.release(number).0.is_whole(&self.node, name.slot) {
                self.ledger().broke(format!("{name} is there, and its slot is not whole"));
                return End::Broken;
            }
        }
        let number = known.iter().find(|(name, _)| *name == boot.name).map_or(0, |known| known.1);
        self.ledger().boot(&known, boot.name);
        self.check_last_good(&known);
        if !self.ledger().broken.is_empty() {
            return End::Broken;
        }
        self.node.name_host(HOST);
        self.node.pass(START);
        self.now += START;
        let (release, behaviour) = self.release(number);
        if behaviour == Behaviour::Panics {
            return self.die();
        }
        self.node.append(marks::DOCUMENT, &format!("{}\n", boot.boot_id));
        if behaviour == Behaviour::DiesBeforeSlipwayd {
            return self.die();
        }
        let booted = BootedSlot::forged_for_a_test(boot.name.slot);
        if !matches!(settings::load(&self.node, booted), Ok(Some(_))) {
            self.ledger().broke(format!("slot {} boots without settings", boot.name.slot));
            return End::Broken;
        }
        self.node.set_wellness(behaviour.wellness());
        self.disturb();
        self.serve(release, behaviour, boot.name)
    }

    fn check_last_good(&self, known: &[(UkiName, usize)]) {
        let good = self.ledger().last_good;
        let is_there = |(name, _): &(UkiName, usize)| good == Some((*name).into());
        if good.is_some() && !known.iter().any(is_there) {
            self.ledger().broke("the last release that was found good has no UKI");
        }
    }

    /// The boot ends by itself, as a cut does.
    fn die(&mut self) -> End {
        self.node.cut_power_after(0);
        self.ledger().lose_power();
        End::Off
    }

    /// Runs the daemon until the power goes.
    fn serve(&mut self, release: &Release, behaviour: Behaviour, name: UkiName) -> End {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap();
        let node = self.node.clone();
        let end = runtime.block_on(LocalSet::new().run_until(async {
            node.run_clock();
            let begun = Instant::now();
            self.ledger().running = (behaviour, begun);
            let (daemon, running) =
                Daemon::start(&node, release, name.slot, self.run.path().into());
            let end = tokio::select! {
                biased;
                () = node.off() => End::Off,
                () = running => {
                    self.ledger().broke("the daemon ended");
                    End::Broken
                }
                end = self.watch(&daemon, behaviour) => end,
            };
            node.stop_clock();
            self.now += begun.elapsed();
            end
        }));
        self.hear();
        self.answers.clear();
        if let End::Off = end {
            let mut ledger = self.ledger();
            ledger.lose_power();
            let was_cut = !self.node.has_restarted();
            if let Some(trial) = ledger.trials.get_mut(&name.into()).filter(|_| was_cut) {
                trial.cut_short += 1;
            }
        }
        end
    }

    /// Lets happen what happens, and looks at the node now and then.
    async fn watch(&mut self, daemon: &Daemon, behaviour: Behaviour) -> End {
        let (begun, start) = (Instant::now(), self.now);
        let dies = (behaviour == Behaviour::DiesWhileJudged).then_some(Duration::from_secs(20));
        let boot_id = self.node.boot_id().to_string();
        loop {
            let now = start + begun.elapsed();
            if dies.is_some_and(|dies| begun.elapsed() >= dies) {
                return self.die();
            }
            if self.script.is_in_cluster && !self.web.api_server.is_silent() {
                self.web.api_server.report(&boot_id, self.node.is_well());
            }
            while let Some((at, event)) = self.script.events.get(self.happened).cloned()
                && at <= now
            {
                self.happened += 1;
                if let Event::Cut = event {
                    return self.die();
                }
                self.happen(event, daemon);
            }
            self.hear();
            if !self.ledger().broken.is_empty() {
                return End::Broken;
            }
            if now >= self.script.calm() {
                self.is_calm.store(true, Ordering::Relaxed);
                self.node.spare();
                self.web.heal();
                if end::is_reached(self, daemon) {
                    return End::Settled;
                }
                if now >= self.script.calm() + PATIENCE {
                    let why = end::why_not(self, daemon);
                    self.ledger().broke(format!("the node does not get there: {why}"));
                    return End::Broken;
                }
            }
            let next = self.script.events.get(self.happened).map(|(at, _)| at.saturating_sub(now));
            sleep(next.unwrap_or(LOOK).clamp(Duration::from_millis(1), LOOK)).await;
        }
    }

    fn happen(&mut self, event: Event, daemon: &Daemon) {
        match event {
            Event::Publish(number) => {
                let (release, _) = self.release(number);
                self.channel.point(release);
                self.channel.publish(&self.web);
            }
            Event::Pause(is_paused) => {
                self.channel.pause(is_paused);
                self.channel.publish(&self.web);
            }
            Event::Order(action) => {
                if action == Action::Rollback {
                    self.ledger().may_go_back();
                }
                if let Some(answer) = daemon.ask(action.clone()) {
                    self.answers.push((action, answer));
                }
            }
            Event::Settings(mode) => daemon.set(self.settings(mode)),
            Event::Web(manners) => self.web.misbehave(manners),
            Event::Line(is_up) => self.web.set_down(!is_up),
            Event::Silence(is_silent) => {
                self.web.api_server.set_silent(is_silent);
                let why = "the API server was silent";
                self.ledger().may_forgive = true;
                self.ledger().excused.extend((1..=NUMBERS).map(|number| (number, why)));
            }
            Event::Cut => {}
        }
    }

    /// What operators were answered.
    fn hear(&mut self) {
        for (action, mut answer) in std::mem::take(&mut self.answers) {
            match answer.try_recv() {
                Ok(Ok(_)) => self.accepted(&action),
                Err(TryRecvError::Empty) => self.answers.push((action, answer)),
                Ok(Err(_)) | Err(TryRecvError::Closed) => {}
            }
        }
    }

    fn accepted(&mut self, action: &Action) {
        let mut ledger = self.ledger();
        match action {
            Action::Clear(_) => ledger.failed.clear(),
            Action::Rollback => {
                let booted = ledger.booted;
                let from = ledger.newest(booted);
                ledger.failed.extend(from);
                ledger.excused.extend(from.map(|from| (from, "an operator went back from it")));
            }
            _ => {}
        }
    }

    /// Sets up cuts and faults for this boot.
    fn disturb(&mut self) {
        let done = self.node.effects_done();
        let is_calm = self.is_calm.clone();
        if let Some(cut) = self.script.cuts.iter().find(|cut| **cut > done)
            && !is_calm.load(Ordering::Relaxed)
        {
            self.node.cut_power_after(cut - done);
        }
        let (ledger, faults) = (self.ledger.clone(), self.script.faults.clone());
        self.node.disturb(move |effect| {
            let mut ledger = ledger.lock().unwrap();
            ledger.effects += 1;
            let fault = faults.get(&ledger.effects).copied();
            let fault =
                fault.filter(|fault| fits(*fault, effect) && !is_calm.load(Ordering::Relaxed));
            if fault.is_none() {
                ledger.note(effect);
            }
            fault
        });
        if self.script.bad_readings > 0 {
            let (percent, mut dice) = (self.script.bad_readings, Dice::new(self.script.seed ^ 2));
            let is_calm = self.is_calm.clone();
            self.node.disturb_reading(move |what| {
                let bit = dice.below(1 << 15);
                let fault = dice.pick(&[Fault::Device, Fault::Lies(bit)]);
                match what {
                    _ if is_calm.load(Ordering::Relaxed) || !dice.percent(percent) => None,
                    Reading::Document | Reading::Names => Some(Fault::Device),
                    Reading::Target(_) | Reading::Booted(_) | Reading::Temporary => Some(fault),
                }
            });
        }
    }
}

/// Short writes and lies are for what is written; documents are checked by nobody.
fn fits(fault: Fault, effect: &Effect) -> bool {
    let is_write = matches!(effect, Effect::WriteTarget { .. } | Effect::WriteTemporary { .. });
    match fault {
        Fault::Short(_) | Fault::Lies(_) => is_write,
        Fault::Device => true,
        Fault::Full => !matches!(effect, Effect::SyncTarget | Effect::SyncEsp | Effect::Reboot),
    }
}

/// A folder in memory, where there is one.
fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}
