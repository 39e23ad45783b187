//! What happens in one run: everything that a seed decides.
//!
//! In: a seed. Out: releases and how they behave, what the channel and operators do and when, and
//! what goes wrong. **Invariant:** whatever goes wrong ends: after [`Script::calm`] all is well, so
//! that it can be seen where the node ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::node::api::Action;

use super::release::{Behaviour, NUMBERS};
use crate::effects::fake::{Dice, Fault, MANNERS, Manner};

/// Effects in which a seed's faults and cuts lie: about two updates.
const EFFECTS: usize = 160;
/// Time in which events lie.
const EVENTS: Duration = Duration::from_secs(40 * 60);

/// What the node is at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A disk that was never booted.
    Fresh,
    /// Release 1 was found good.
    Blessed,
}

/// How the node does what its channel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By itself.
    Automatic,
    /// It waits for an operator with the restart.
    StagedOnly,
    /// It waits for an operator.
    Manual,
}

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub enum Event {
    /// The channel offers this release.
    Publish(usize),
    /// The channel is paused, or goes on.
    Pause(bool),
    /// An operator asks for something.
    Order(Action),
    /// An operator sets another mode.
    Settings(Mode),
    /// The next requests are answered so.
    Web(Vec<Manner>),
    /// The line to the mirrors is cut, or mended.
    Line(bool),
    /// The API server falls silent, or answers again.
    Silence(bool),
    /// The power is cut at a time rather than at an effect.
    Cut,
    /// It is cut, and then again soon after each of the next so many starts.
    DoomedStarts(usize),
    /// A block of the root of what runs rots, when it was found good: the kernel panics when it
    /// reads it, which is at each start.
    RotOfRunning(usize),
}

/// Bits that flip by themselves in what is staged and not armed yet, at an offset in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rot {
    /// In the target slot's root.
    Root(usize),
    /// In its hash tree.
    Verity(usize),
    /// In the temporary file.
    Uki(usize),
}

/// A run.
#[derive(Debug, Clone)]
pub struct Script {
    /// What chance decides beside: what a power cut leaves.
    pub seed: u64,
    /// See [`Start`].
    pub start: Start,
    /// How each release behaves, by number.
    pub behaviours: BTreeMap<usize, Behaviour>,
    /// The mode of the first settings.
    pub mode: Mode,
    /// The node is in a cluster, whose group drains it.
    pub is_in_cluster: bool,
    /// Numbers of releases that may not be skipped.
    pub floors: BTreeSet<usize>,
    /// The channel has the floors' offers.
    pub has_floors: bool,
    /// Numbers of releases that must not be taken.
    pub blocked: BTreeSet<usize>,
    /// Minutes between two looks at the channel.
    pub poll: usize,
    /// What happens, in order.
    pub events: Vec<(Duration, Event)>,
    /// Counts of effects after which the power goes, ascending.
    pub cuts: Vec<usize>,
    /// Effects that fail, by number.
    pub faults: BTreeMap<usize, Fault>,
    /// Of a hundred readings of devices so many fail or lie, until it is calm.
    pub bad_readings: usize,
    /// Happens when a release was staged, once.
    pub rot: Option<Rot>,
}

impl Script {
    /// One update to a release that behaves so, on a node that runs a good one.
    pub fn update(seed: u64, start: Start, behaviour: Behaviour) -> Self {
        let behaviours = (1..=NUMBERS).map(|number| (number, Behaviour::Good)).collect();
        let mut script = Self {
            seed,
            start,
            behaviours,
            mode: Mode::Automatic,
            is_in_cluster: false,
            floors: BTreeSet::new(),
            has_floors: true,
            blocked: BTreeSet::new(),
            poll: 2,
            events: vec![(Duration::from_secs(150), Event::Publish(2))],
            cuts: Vec::new(),
            faults: BTreeMap::new(),
            bad_readings: 0,
            rot: None,
        };
        script.behaviours.insert(2, behaviour);
        script
    }

    /// An update of a disk's first boot, which is cut short twice, at these effects.
    pub fn early_update(seed: u64, behaviour: Behaviour, cuts: [usize; 2]) -> Self {
        let mut script = Self::update(seed, Start::Fresh, behaviour);
        script.events = vec![(Duration::ZERO, Event::Publish(2))];
        script.cuts.extend(cuts);
        script
    }

    /// The run of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let start = dice.pick(&[Start::Fresh, Start::Blessed, Start::Blessed]);
        let mut script = Self::update(dice.roll(), start, Behaviour::Good);
        for number in 2..=NUMBERS {
            if dice.percent(40) {
                script.behaviours.insert(number, dice.pick(&Behaviour::BAD));
            }
        }
        if dice.percent(30) {
            script.events = vec![(Duration::ZERO, Event::Publish(2))];
        }
        script.is_in_cluster = dice.percent(25);
        script.poll = dice.pick(&[3, 10, 15, 20, 30]);
        if dice.percent(15) {
            script.mode = dice.pick(&[Mode::StagedOnly, Mode::Manual]);
        }
        script.mark(&mut dice);
        script.publish(&mut dice);
        script.order(&mut dice);
        if dice.percent(75) {
            script.go_wrong(&mut dice);
        }
        script.events.sort_by_key(|(at, _)| *at);
        script
    }

    fn at(&mut self, dice: &mut Dice, event: Event) -> Duration {
        let at = Duration::from_millis(dice.below(EVENTS.as_millis() as usize) as u64);
        self.events.push((at, event));
        at
    }

    fn mark(&mut self, dice: &mut Dice) {
        if dice.percent(25) {
            self.floors = (2..NUMBERS).filter(|_| dice.percent(40)).collect();
            self.has_floors = dice.percent(85);
        }
        if dice.percent(20) {
            self.blocked = [2 + dice.below(NUMBERS - 1)].into();
        }
    }

    fn publish(&mut self, dice: &mut Dice) {
        let mut newest = 2;
        for _ in 0..dice.below(3) {
            newest = if dice.percent(85) { newest + 1 } else { 1 + dice.below(newest) };
            let number = newest.min(NUMBERS);
            self.at(dice, Event::Publish(number));
        }
        if dice.percent(10) {
            self.at(dice, Event::Pause(true));
            self.at(dice, Event::Pause(false));
        }
    }

    fn order(&mut self, dice: &mut Dice) {
        if dice.percent(50) {
            return;
        }
        for _ in 0..1 + dice.below(4) {
            let version = format!("{}.0.0", 1 + dice.below(NUMBERS)).parse().unwrap();
            let event = match dice.below(10) {
                0 => Event::Order(Action::Check),
                1 => Event::Order(Action::Stage),
                2 | 3 => Event::Order(Action::Update),
                4 | 5 => Event::Order(Action::Rollback),
                6 => Event::Order(Action::Pin(version)),
                7 => Event::Order(Action::Unpin),
                8 => Event::Order(Action::Clear(None)),
                _ => Event::Settings(dice.pick(&[Mode::Automatic, Mode::StagedOnly, Mode::Manual])),
            };
            self.at(dice, event);
        }
    }

    fn go_wrong(&mut self, dice: &mut Dice) {
        if dice.percent(50) {
            let cuts = 1 + dice.below(4);
            self.cuts = (0..cuts).map(|_| 1 + dice.below(EFFECTS)).collect();
            self.cuts.sort_unstable();
        }
        if dice.percent(10) {
            self.at(dice, Event::Cut);
        }
        if dice.percent(12) {
            let starts = 1 + dice.below(9);
            self.at(dice, Event::DoomedStarts(starts));
        }
        if dice.percent(10) {
            let place = dice.below(1 << 17);
            self.at(dice, Event::RotOfRunning(place));
        }
        if dice.percent(30) {
            for _ in 0..1 + dice.below(4) {
                let bit = dice.below(1 << 20);
                let faults =
                    [Fault::Device, Fault::Full, Fault::Short(bit % 9000), Fault::Lies(bit)];
                let number = 1 + dice.below(EFFECTS);
                self.faults.insert(number, dice.pick(&faults));
            }
        }
        if dice.percent(15) {
            self.bad_readings = 1 + dice.below(5);
        }
        if dice.percent(40) {
            for _ in 0..1 + dice.below(3) {
                let manners = (0..1 + dice.below(8)).map(|_| dice.pick(&MANNERS)).collect();
                self.at(dice, Event::Web(manners));
            }
        }
        if dice.percent(10) {
            let at = self.at(dice, Event::Line(false));
            let outage = Duration::from_secs(dice.below(1800) as u64);
            self.events.push((at + outage, Event::Line(true)));
        }
        if self.is_in_cluster && dice.percent(50) {
            let at = self.at(dice, Event::Silence(true));
            let outage = Duration::from_secs(dice.below(2400) as u64);
            self.events.push((at + outage, Event::Silence(false)));
        }
        if dice.percent(20) {
            let place = dice.below(1 << 17);
            let rots = [Rot::Root(place), Rot::Verity(place % 8192), Rot::Uki(place % 12000)];
            self.rot = Some(dice.pick(&rots));
        }
    }

    /// When nothing goes wrong any more, and nobody asks for anything.
    pub fn calm(&self) -> Duration {
        let last = self.events.last().map_or(Duration::ZERO, |(at, _)| *at);
        last + Duration::from_secs(60)
    }

    /// True of a run in which a device may lie.
    pub fn has_bad_devices(&self) -> bool {
        !self.faults.is_empty() || self.bad_readings > 0
    }
}
