//! What the journal of earlier boots means for this one.
//!
//! In: the phase that was saved, the UKIs on the EFI system partition, what is booted, and
//! the initrds' marks. Out: the phase from which to go on, what the node is to do next, the
//! release that it came back from, and the UKIs that must go. **Invariant:** no effects, no phase
//! is left out, and no blessed release goes for what is found here.

use contract::UkiName;

use super::journal::{Installation, Journal, Phase};
use super::marks::Marks;
use super::refusal::{Cause, Failure};
use super::release_id::ReleaseId;
use crate::effects::BootedSlot;
use crate::effects::boot::BootFacts;

/// Everything that is known at the start.
pub(super) struct Evidence<'a> {
    pub journal: &'a Journal,
    pub ukis: &'a [UkiName],
    pub facts: &'a BootFacts,
    pub marks: &'a Marks,
}

/// The UKI that the loader would take if this slot had no tries left.
pub(super) fn fallback(ukis: &[UkiName], booted: BootedSlot) -> Option<UkiName> {
    let other = ukis.iter().filter(|name| name.slot == booted.target().slot());
    other.filter(|name| !name.is_exhausted()).max().copied()
}

/// The other slot's blessed UKI, which the loader would prefer had it not used up its tries.
pub(super) fn lapsed(ukis: &[UkiName], booted: BootedSlot) -> Option<UkiName> {
    let generation = booted.uki(ukis).map_or(0, |name| name.generation);
    let newest = booted.target().uki(ukis)?;
    (newest.generation > generation && newest.has_lapsed()).then_some(newest)
}

/// The other slot's blessed UKI, when it is older than the own one and lacks tries.
pub(super) fn tired_fallback(ukis: &[UkiName], booted: BootedSlot) -> Option<UkiName> {
    let generation = booted.uki(ukis)?.generation;
    let newest = booted.target().uki(ukis)?;
    let tired = !newest.is_on_trial() && newest != newest.blessed();
    (newest.generation < generation && tired).then_some(newest)
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for work.
    Rest,
    /// A blessed release runs, and this boot is to get its tries back once it has stood.
    Stand(UkiName),
    /// Restart into the armed slot.
    Restart(UkiName),
    /// Judge this boot.
    Judge(UkiName),
    /// Carry out the verdict that was saved before the power went.
    Condemn(UkiName, Failure),
}

/// What the evidence says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub phase: Phase,
    pub next: Next,
    /// The release that this boot came back from.
    pub fell_back: Option<(ReleaseId, Cause)>,
    /// UKIs that must not be tried again.
    pub remove: Vec<UkiName>,
    /// The other slot's blessed UKI, which used up its tries.
    pub lapsed: Option<UkiName>,
}

impl Evidence<'_> {
    fn own(&self) -> Option<UkiName> {
        self.facts.slot.uki(self.ukis)
    }

    fn booted_release(&self) -> ReleaseId {
        let facts = self.facts;
        ReleaseId { version: facts.version.clone(), root_hash: facts.root_hash }
    }

    /// Whether this boot is that of an installation.
    fn runs(&self, installation: &Installation) -> bool {
        let generation = self.own().map(|name| name.generation);
        installation.slot == self.facts.slot.slot() && generation == Some(installation.generation)
    }

    fn uki_of(&self, installation: &Installation) -> Option<UkiName> {
        let same = |name: &&UkiName| {
            name.generation == installation.generation && name.slot == installation.slot
        };
        self.ukis.iter().find(same).copied()
    }

    pub fn settle(&self) -> Settled {
        match &self.journal.phase {
            Phase::Steady | Phase::Staging { .. } => self.at_rest(Phase::Steady),
            Phase::Staged { .. } => self.at_rest(self.journal.phase.clone()),
            Phase::Armed { installation } if self.runs(installation) => self.booted(installation),
            Phase::Armed { installation } => match self.uki_of(installation) {
                // The rename did not outlast a power cut, or somebody removed the UKI.
                None => self.at_rest(Phase::Steady),
                Some(uki) if installation.armed_in == self.facts.boot_id => Settled {
                    phase: self.journal.phase.clone(),
                    next: Next::Restart(uki),
                    fell_back: None,
                    remove: Vec::new(),
                    lapsed: None,
                },
                Some(uki) => self.back_from(installation, self.traces(installation, &uki)),
            },
            Phase::Pending { installation, .. } if self.runs(installation) => {
                self.booted(installation)
            }
            Phase::Pending { installation, .. } => {
                let tries = self.tries_done(installation);
                self.back_from(
                    installation,
                    Cause::Userspace { tries, judging: true, blessed: false },
                )
            }
            Phase::Condemned { installation, failure } if self.runs(installation) => {
                let mut settled = self.booted(installation);
                if let (Next::Judge(name), Some(_)) =
                    (&settled.next, fallback(self.ukis, self.facts.slot))
                {
                    settled.phase = self.journal.phase.clone();
                    settled.next = Next::Condemn(*name, failure.clone());
                }
                settled
            }
            Phase::Condemned { installation, failure } => {
                self.back_from(installation, Cause::Verdict(failure.clone()))
            }
        }
    }

    fn tries_done(&self, installation: &Installation) -> u32 {
        let tries = self.uki_of(installation).and_then(|name| name.tries);
        tries.map_or(0, |tries| tries.done)
    }

    /// How far an installation got of which no word is in the journal.
    fn traces(&self, installation: &Installation, uki: &UkiName) -> Cause {
        let tries = uki.tries.map_or(0, |tries| tries.done);
        if tries == 0 {
            Cause::Loader
        } else if self.marks.between(installation.armed_in, self.facts.boot_id) {
            Cause::Userspace { tries, judging: false, blessed: false }
        } else {
            Cause::Kernel { tries }
        }
    }

    /// Newer UKIs that have failed on trial: once `own` has no tries left either, the loader would
    /// take the newest.
    fn exhausted_above(&self, own: UkiName) -> Vec<UkiName> {
        let exhausted = |name: &&UkiName| {
            name.generation > own.generation && name.is_exhausted() && name.is_on_trial()
        };
        self.ukis.iter().filter(exhausted).copied().collect()
    }

    /// The boot of an installation that the journal knows.
    fn booted(&self, installation: &Installation) -> Settled {
        let (phase, next, remove) = match self.own() {
            Some(name) if name.is_on_trial() => {
                let failing = match &self.journal.phase {
                    Phase::Pending { failing, .. } => failing.clone(),
                    _ => None,
                };
                let phase = Phase::Pending { installation: installation.clone(), failing };
                (phase, Next::Judge(name), self.exhausted_above(name))
            }
            _ => (Phase::Steady, self.rest(), Vec::new()),
        };
        Settled { phase, next, fell_back: None, remove, lapsed: self.lapsed() }
    }

    fn lapsed(&self) -> Option<UkiName> {
        lapsed(self.ukis, self.facts.slot)
    }

    /// Nothing is to be judged. The loader takes a try at each start, so a name with all of them is
    /// that of a boot that has stood.
    fn rest(&self) -> Next {
        match self.own() {
            Some(name) if name != name.blessed() || self.lapsed().is_some() => Next::Stand(name),
            Some(_) | None => Next::Rest,
        }
    }

    /// The other slot came back from an installation: it is not tried again.
    fn back_from(&self, installation: &Installation, cause: Cause) -> Settled {
        let blessed = self.uki_of(installation).is_some_and(|name| !name.is_on_trial());
        let mut settled = self.at_rest(Phase::Steady);
        // A blessed one was good: somebody chose this slot at the loader's menu.
        if !blessed {
            settled.fell_back = Some((installation.release.clone(), cause));
        }
        settled
    }

    /// Nothing is under way, but this boot may still have to be judged: the first one of an
    /// image file, or one whose journal is gone.
    fn at_rest(&self, phase: Phase) -> Settled {
        let own = self.own().filter(UkiName::is_on_trial);
        let target = self.facts.slot.target().slot();
        let untested = |name: &&UkiName| name.slot == target && name.is_on_trial();
        match own {
            Some(name) => {
                let installation = Installation {
                    release: self.booted_release(),
                    slot: name.slot,
                    generation: name.generation,
                    armed_in: self.facts.boot_id,
                };
                let phase = match phase {
                    Phase::Steady => Phase::Pending { installation, failing: None },
                    other => other,
                };
                let remove = self.exhausted_above(name);
                let next = Next::Judge(name);
                Settled { phase, next, fell_back: None, remove, lapsed: self.lapsed() }
            }
            // A proven slot runs. A UKI of the other one that is neither proven nor armed
            // would be taken at the next restart: it must go.
            None => Settled {
                phase,
                next: self.rest(),
                fell_back: None,
                remove: self.ukis.iter().filter(untested).copied().collect(),
                lapsed: self.lapsed(),
            },
        }
    }
}
