//! What must not happen while a run goes on, and what has happened so far.
//!
//! In: every effect, in order, and what each boot finds. Out: what was broken. **Invariant:** the
//! ledger goes by what lasts: a release counts as found good once its name was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
    /// The slot that runs.
    pub booted: Slot,
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
    /// Releases that the node may have to refuse though they are good, and why.
    pub excused: BTreeMap<usize, &'static str>,
    /// The API server was silent: what failed meanwhile may be tried again.
    pub may_forgive: bool,
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
            booted: Slot::A,
            running: (Behaviour::Good, Instant::now()),
            last_good: None,
            blessing: None,
            trials: BTreeMap::new(),
            failed: BTreeSet::new(),
            excused: BTreeMap::new(),
            may_forgive: false,
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
            Effect::Remove(name) if self.last_good == Some((*name).into()) => {
                self.broke(format!("{name}, the last one that was found good, is removed"));
            }
            Effect::WriteTarget { .. }
                if self.last_good.is_some_and(|good| good.slot != self.booted) =>
            {
                self.broke("the slot of the last release that was found good is written");
            }
            Effect::SyncEsp => self.last_good = self.blessing.take().or(self.last_good),
            _ => {}
        }
    }

    fn bless(&mut self, name: UkiName) {
        let (behaviour, since) = self.running;
        if name.slot != self.booted {
            self.broke(format!("{name} is found good, and does not run"));
        } else if behaviour != Behaviour::Good {
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

    /// The release that was installed last in a slot.
    pub fn newest(&self, slot: Slot) -> Option<usize> {
        let newest = self.trials.iter().rfind(|(one, _)| one.slot == slot);
        newest.map(|(_, trial)| trial.number)
    }

    /// An operator asks for the release before, which may then be tried again.
    pub fn may_go_back(&mut self) {
        let other = if self.booted == Slot::A { Slot::B } else { Slot::A };
        let to = self.newest(other);
        self.failed.retain(|number| Some(*number) != to);
    }

    /// What is on the EFI system partition when the power comes on, with the number of each
    /// release, and the one that the loader takes.
    pub fn boot(&mut self, names: &[(UkiName, usize)], chosen: UkiName) {
        for (name, number) in names {
            let installation = (*name).into();
            if !self.trials.contains_key(&installation) {
                if self.failed.contains(number) && !self.may_forgive {
                    self.broke(format!("release {number} is tried again, as {name}"));
                }
                let trial = Trial { number: *number, boots: 0, cut_short: 0, has_failed: false };
                self.trials.insert(installation, trial);
            }
            if is_blessed(*name) && self.last_good.is_none_or(|good| good < installation) {
                self.last_good = Some(installation);
            }
        }
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
        }
        self.booted = chosen.slot;
    }
}
