//! A world with one node: disk, network, channel, cluster and operators, driven by a script.
//!
//! In: a [`Script`]. Out: [`Outcome`], with everything that was broken on the way. **Invariant:**
//! one thread and a paused clock: the same script gives the same run.

use std::collections::BTreeSet;
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
use super::ledger::{Ledger, is_blessed};
use super::release::{Behaviour, NUMBERS, Release, db, release};
use super::script::{Event, Mode, Rot, Script, Start};
use crate::effects::fake::{Dice, Effect, FakeNode, Fault, Reading, Sizes, Web};
use crate::effects::off_thread::in_line;
use crate::effects::{Area, BootedSlot, Variable};
use crate::settings::{self, NodeSettings};
use crate::update::{Cause, Happening, Journal, marks};

/// More boots than any script needs.
const MOST_BOOTS: usize = 60;
/// How long after the last event the node may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// Time between two looks of the world at the node.
const LOOK: Duration = Duration::from_secs(20);
/// How long a release lives that dies once it was found good.
const LIFE: Duration = Duration::from_mins(3);
/// In that time a boot says why it is that of the older release.
const TIME_TO_SAY: Duration = Duration::from_mins(1);
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
    /// So many of the next starts are cut short.
    doomed: usize,
    /// Releases of which the node has to say that they did not stand.
    to_be_said: BTreeSet<usize>,
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
        let channel = Channel::new(&script);
        channel.publish(&web);
        if script.is_in_cluster {
            node.join(b"certificate and key");
            web.api_server.run_pod("web", 1);
        }
        let mut ledger = Ledger::new();
        let is_late = |(number, it): (&usize, &Behaviour)| it.needs_later().then_some(*number);
        ledger.forbidden = script.behaviours.iter().filter_map(is_late).collect();
        ledger.forbidden.extend(&script.blocked);
        ledger.floors = script.floors.clone();
        ledger.may_take_lapsed = script.has_bad_devices();
        let world = Self {
            node,
            web,
            channel,
            happened: 0,
            now: Duration::ZERO,
            ledger: Arc::new(Mutex::new(ledger)),
            is_calm: Arc::default(),
            doomed: 0,
            to_be_said: BTreeSet::new(),
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
                if self.could_run() {
                    let what = format!("the node restarts again and again: {boots} boots");
                    self.ledger().broke(what);
                }
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

    /// Whether a slot is left that would run, were it started. Of two without tries the loader takes
    /// the newer one, and of one whose starts are not counted always: when its slipwayd never starts,
    /// nobody can change that.
    fn could_run(&self) -> bool {
        let ledger = self.ledger();
        let names = self.node.ukis();
        let behaves = |name: UkiName| {
            let number = self.node.uki(name).and_then(|uki| self.number_of(name.slot, &uki));
            let behaviour = number.map(|number| self.script.behaviours[&number]);
            behaviour.filter(|_| !ledger.rotten.contains(&name.into()))
        };
        let Some(newest) = names.iter().max_by_key(|name| name.generation).copied() else {
            return false;
        };
        let is_helpless = behaves(newest).is_none_or(|it| it.dies_before_slipwayd(newest));
        names.into_iter().any(|name| {
            let is_passed = name.is_exhausted() || newest.tries.is_none();
            behaves(name) == Some(Behaviour::Good) && !(is_passed && is_helpless)
        })
    }

    /// A release that did not stand, which the journal of updates does not say.
    pub fn unsaid(&self) -> Option<usize> {
        if self.script.has_bad_devices() {
            return None;
        }
        let journal = Journal::load(&self.node).ok()?.0;
        let says = |number: &usize| {
            journal.history.iter().any(|event| {
                let lapsed =
                    |cause: &Cause| matches!(cause, Cause::Userspace { blessed: true, .. });
                event.release.version == self.release(*number).0.version
                    && matches!(&event.what, Happening::FellBack { cause } if lapsed(cause))
            })
        };
        self.to_be_said.iter().copied().find(|number| !says(number))
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
            let is_rotten = self.ledger().rotten.contains(&name.into());
            if !is_rotten && !self.release(number).0.is_whole(&self.node, name.slot) {
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
        let is_rotten = self.ledger().rotten.contains(&boot.name.into());
        let dies_early = behaviour.dies_before_slipwayd(boot.name);
        if is_rotten || dies_early && behaviour != Behaviour::DiesBeforeSlipwayd {
            return self.die();
        }
        if self.doomed > 0 {
            self.doomed -= 1;
            self.ledger().cut_short(boot.name);
            return self.die();
        }
        self.node.append(marks::DOCUMENT, &format!("{}\n", boot.boot_id));
        if dies_early {
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
            if !self.node.has_restarted() {
                ledger.cut_short(name);
            }
        }
        end
    }

    /// Lets happen what happens, and looks at the node now and then.
    async fn watch(&mut self, daemon: &Daemon, behaviour: Behaviour) -> End {
        let (begun, start) = (Instant::now(), self.now);
        let name = self.ledger().booted;
        let dies_soon = behaviour == Behaviour::DiesWhileJudged
            || behaviour == Behaviour::DiesOnceBlessed && is_blessed(name);
        let dies = dies_soon.then_some(Duration::from_secs(20));
        let newer = |other: &UkiName| other.generation > name.generation && other.has_lapsed();
        let lapsed = self.node.ukis().into_iter().find(newer);
        let boot_id = self.node.boot_id().to_string();
        loop {
            let now = start + begun.elapsed();
            if dies.is_some_and(|dies| begun.elapsed() >= dies) {
                return self.die();
            }
            let has_been_good = self.ledger().last_good == Some(name.into());
            if behaviour.dies_once_blessed() && has_been_good && begun.elapsed() >= LIFE {
                return self.die();
            }
            if begun.elapsed() >= TIME_TO_SAY
                && let Some(lapsed) = lapsed
            {
                let ledger = self.ledger();
                let number = ledger.trials.get(&lapsed.into()).map(|trial| trial.number);
                drop(ledger);
                self.to_be_said.extend(number);
            }
            if self.web.api_server.is_silent() && !is_blessed(name) {
                let mut ledger = self.ledger();
                let number = ledger.number;
                ledger.silenced.insert(number);
            }
            if self.script.is_in_cluster && !self.web.api_server.is_silent() {
                self.web.api_server.report(&boot_id, self.node.is_well());
            }
            while let Some((at, event)) = self.script.events.get(self.happened).cloned()
                && at <= now
            {
                self.happened += 1;
                match event {
                    Event::Cut => return self.die(),
                    Event::DoomedStarts(starts) => {
                        self.doomed += starts;
                        return self.die();
                    }
                    Event::RotOfRunning(place) if is_blessed(self.ledger().booted) => {
                        self.node.flip_bit(name.slot, Area::Root, place);
                        self.ledger().rotten.insert(name.into());
                        return self.die();
                    }
                    event => self.happen(event, daemon),
                }
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
                let mut ledger = self.ledger();
                ledger.may_take_lapsed |= ledger.number_of_last_good() != Some(number);
                drop(ledger);
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
                self.ledger().may_take_lapsed |= action != Action::Check;
                if let Some(answer) = daemon.ask(action.clone()) {
                    self.answers.push((action, answer));
                }
            }
            Event::Settings(mode) => daemon.set(self.settings(mode)),
            Event::Web(manners) => self.web.misbehave(manners),
            Event::Line(is_up) => self.web.set_down(!is_up),
            Event::Silence(is_silent) => {
                self.web.api_server.set_silent(is_silent);
                let mut ledger = self.ledger();
                if is_silent && !is_blessed(ledger.booted) {
                    let number = ledger.number;
                    ledger.silenced.insert(number);
                }
            }
            Event::Cut | Event::DoomedStarts(_) | Event::RotOfRunning(_) => {}
        }
    }

    /// What operators were answered.
    fn hear(&mut self) {
        for (action, mut answer) in std::mem::take(&mut self.answers) {
            match answer.try_recv() {
                Ok(Ok(_)) => self.accepted(&action),
                Err(TryRecvError::Empty) => self.answers.push((action, answer)),
                Ok(Err(_)) => {}
                // It may have been done, and the power have gone before the answer left.
                Err(TryRecvError::Closed) => {
                    if let Action::Clear(_) = action {
                        self.ledger().failed.clear();
                    }
                }
            }
        }
    }

    fn accepted(&mut self, action: &Action) {
        let mut ledger = self.ledger();
        match action {
            Action::Clear(_) => ledger.failed.clear(),
            Action::Rollback => {
                let booted = ledger.booted.slot;
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
