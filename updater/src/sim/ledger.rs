//! What must not happen while a run goes on, and what has happened so far.
//!
//! In: every effect, in order, and what each boot finds. Out: what was broken. **Invariant:** the
//! ledger goes by what lasts: a release counts as found good once its name was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contract::release::uki_name::Trust;
use contract::{Slot, UkiName};
use tokio::time::Instant;

use super::release::Behaviour;
use crate::effects::fake::Effect;

/// Time that a boot must be well before it is found good.
pub const SETTLE: Duration = Duration::from_secs(30);

/// An installation: slot and generation, whatever tries its name has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Installation {
    /// Generation of its UKI.
    pub generation: u32,
    /// Its slot.
    pub slot: Slot,
}

impl From<UkiName> for Installation {
    fn from(name: UkiName) -> Self {
        Self { generation: name.generation, slot: name.slot }
    }
}

/// What one installation went through.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Number of its release.
    pub number: usize,
    /// Boots of it.
    pub boots: usize,
    /// Boots that ended by something that was not its own doing.
    pub cut_short: usize,
    /// The loader took an older one after it.
    has_failed: bool,
}

/// What has happened.
#[derive(Debug)]
pub struct Ledger {
    /// What was broken, in words.
    pub broken: Vec<String>,
    /// What runs.
    pub booted: UkiName,
    /// The number of its release.
    pub number: usize,
    /// How what runs behaves, and when it started.
    pub running: (Behaviour, Instant),
    /// The newest installation that was found good.
    pub last_good: Option<Installation>,
    /// Its name has no counter any more, which does not last yet.
    blessing: Option<Installation>,
    /// Every installation that was seen.
    pub trials: BTreeMap<Installation, Trial>,
    /// Releases that failed, or that an operator went back from: they are not tried again.
    pub failed: BTreeSet<usize>,
    /// Releases that an operator went back from, or whose channel or node had bad luck, and why.
    pub excused: BTreeMap<usize, &'static str>,
    /// Releases that were on trial while the API server was silent: they may fail for that, and may
    /// then be tried again.
    pub silenced: BTreeSet<usize>,
    /// Releases that must not be taken: blocked, or meant for a later slipwayd.
    pub forbidden: BTreeSet<usize>,
    /// Releases that may not be skipped.
    pub floors: BTreeSet<usize>,
    /// Installations whose slot rotted after they were found good.
    pub rotten: BTreeSet<Installation>,
    /// Something else is wanted of the other slot than a release that ran out of tries there, or
    /// devices fail.
    pub may_take_lapsed: bool,
    /// Effects so far.
    pub effects: usize,
}

/// True of a name that says that its release was found good.
pub fn is_blessed(name: UkiName) -> bool {
    !name.is_on_trial()
}

impl Ledger {
    /// Nothing has happened.
    pub fn new() -> Self {
        Self {
            broken: Vec::new(),
            booted: UkiName::first(),
            number: 1,
            running: (Behaviour::Good, Instant::now()),
            last_good: None,
            blessing: None,
            trials: BTreeMap::new(),
            failed: BTreeSet::new(),
            excused: BTreeMap::new(),
            silenced: BTreeSet::new(),
            forbidden: BTreeSet::new(),
            floors: BTreeSet::new(),
            rotten: BTreeSet::new(),
            may_take_lapsed: false,
            effects: 0,
        }
    }

    /// Something that must not happen.
    pub fn broke(&mut self, what: impl Into<String>) {
        self.broken.push(what.into());
    }

    /// An effect that happens.
    pub fn note(&mut self, effect: &Effect) {
        match effect {
            Effect::Rename(from, to) if is_blessed(*to) && !is_blessed(*from) => self.bless(*to),
            Effect::Rename(from, to) if to.trust() == Trust::GivenBack && to.starts() == 0 => {
                self.goes_back(*from);
            }
            Effect::Rename(from, to) if self.last_good == Some((*from).into()) => {
                self.rename_last_good(*from, *to);
            }
            Effect::Remove(name) if self.last_good == Some((*name).into()) => self.lose(*name),
            Effect::WriteTarget { .. }
                if self.last_good.is_some_and(|good| good.slot != self.booted.slot) =>
            {
                self.broke("the slot of the last release that was found good is written");
            }
            Effect::SyncEsp => self.last_good = self.blessing.take().or(self.last_good),
            _ => {}
        }
    }

    /// The other slot's release gets its tries back.
    fn goes_back(&mut self, from: UkiName) {
        if !from.has_lapsed() {
            self.broke(format!("{from} gets tries back, and has not used up its own"));
        } else if from.trust() == Trust::GivenBack {
            self.broke(format!("{from} gets its tries back a second time"));
        } else if from.slot == self.booted.slot {
            self.broke(format!("{from} gets its tries back from itself"));
        }
    }

    /// The last release that was found good gets another name.
    fn rename_last_good(&mut self, from: UkiName, to: UkiName) {
        if Installation::from(from) != to.into() {
            // An operator goes back to a release that used up its tries.
            if !from.has_lapsed() || !self.may_take_lapsed {
                self.broke(format!("{from}, the last one that was found good, becomes {to}"));
            }
            if self.rotten.contains(&from.into()) {
                self.rotten.insert(to.into());
                let number = self.trials.get(&from.into()).map(|trial| trial.number);
                let why = "an operator went back to it, and its slot was rotten";
                self.excused.extend(number.map(|number| (number, why)));
            }
            self.last_good = self.good_that_runs();
        } else if from.slot == self.booted.slot && to == to.blessed() {
            let since = self.running.1.elapsed();
            if since < SETTLE {
                self.broke(format!("{from} gets its tries back after {since:?}"));
            }
        }
    }

    /// The UKI of the last release that was found good is removed: that is right when it used up
    /// the tries that it got back, when its slot is rotten, or when the slot is wanted for another.
    fn lose(&mut self, name: UkiName) {
        let is_given_up = name.has_lapsed() && name.trust() == Trust::GivenBack;
        let is_rotten = self.rotten.contains(&name.into());
        let may_go = is_given_up || is_rotten || (name.has_lapsed() && self.may_take_lapsed);
        if !may_go {
            self.broke(format!("{name}, the last one that was found good, is removed"));
        }
        let trial = self.trials.get_mut(&name.into());
        let number = trial.map(|trial| {
            trial.has_failed = true;
            trial.number
        });
        if is_given_up && !is_rotten && !self.may_take_lapsed {
            self.failed.extend(number);
        }
        self.last_good = self.good_that_runs();
    }

    fn good_that_runs(&self) -> Option<Installation> {
        is_blessed(self.booted).then(|| self.booted.into())
    }

    fn bless(&mut self, name: UkiName) {
        let (behaviour, since) = self.running;
        if name.slot != self.booted.slot {
            self.broke(format!("{name} is found good, and does not run"));
        } else if !behaviour.may_be_found_good() {
            self.broke(format!("{name} is found good, and is of a release that {behaviour:?}"));
        } else if since.elapsed() < SETTLE {
            self.broke(format!("{name} is found good after {:?}", since.elapsed()));
        }
        self.blessing = Some(name.into());
    }

    /// The power went before a name lasted: what it says is known at the next boot.
    pub fn lose_power(&mut self) {
        self.blessing = None;
    }

    /// A boot of this ended by something that was not its own doing.
    pub fn cut_short(&mut self, name: UkiName) {
        if let Some(trial) = self.trials.get_mut(&name.into()) {
            trial.cut_short += 1;
        }
    }

    /// The number of the last release that was found good.
    pub fn number_of_last_good(&self) -> Option<usize> {
        Some(self.trials.get(&self.last_good?)?.number)
    }

    /// The release that was installed last in a slot.
    pub fn newest(&self, slot: Slot) -> Option<usize> {
        let newest = self.trials.iter().rfind(|(one, _)| one.slot == slot);
        newest.map(|(_, trial)| trial.number)
    }

    /// An operator asks for the release before, which may then be tried again.
    pub fn may_go_back(&mut self) {
        let other = if self.booted.slot == Slot::A { Slot::B } else { Slot::A };
        let to = self.newest(other);
        self.failed.retain(|number| Some(*number) != to);
    }

    /// A release was armed in the boot before.
    fn check_installed(&mut self, name: UkiName, number: usize) {
        if self.failed.contains(&number) && !self.silenced.contains(&number) {
            self.broke(format!("release {number} is tried again, as {name}"));
        }
        if self.forbidden.contains(&number) && number != 1 {
            self.broke(format!("release {number} must not be taken, and is, as {name}"));
        }
        let skipped = (self.number + 1..number).find(|between| self.floors.contains(between));
        if let Some(floor) = skipped {
            let from = self.number;
            self.broke(format!("the floor {floor} is skipped from {from} to {number}"));
        }
    }

    /// What is on the EFI system partition when the power comes on, with the number of each
    /// release, and the one that the loader takes.
    pub fn boot(&mut self, names: &[(UkiName, usize)], chosen: UkiName) {
        for (name, number) in names {
            let installation = (*name).into();
            if !self.trials.contains_key(&installation) {
                self.check_installed(*name, *number);
                let trial = Trial { number: *number, boots: 0, cut_short: 0, has_failed: false };
                self.trials.insert(installation, trial);
            }
            if is_blessed(*name) && self.last_good.is_none_or(|good| good < installation) {
                self.last_good = Some(installation);
            }
        }
        self.booted = chosen;
        let chosen = chosen.into();
        // What was tried, is newer and was not found good has failed.
        let good = self.last_good;
        for (one, trial) in &mut self.trials {
            let is_newer = *one > chosen && good.is_none_or(|good| *one > good);
            if is_newer && trial.boots > 0 && !trial.has_failed {
                trial.has_failed = true;
                self.failed.insert(trial.number);
            }
        }
        if let Some(trial) = self.trials.get_mut(&chosen) {
            trial.boots += 1;
            self.number = trial.number;
        }
    }
}
