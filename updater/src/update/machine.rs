//! The machine as updates see it: what runs, what the other slot holds, what was decided.
//!
//! In: the effects and the facts of this boot. Out: [`Standing`], which says what to do first,
//! and afterwards the steps (see `steps.rs`). **Invariant:** the journal is saved before the
//! effect that it announces, so that whoever boots next can explain what it finds.

use contract::{Digest, RootHash, Slot, UkiName};

use super::UpdateError;
use super::journal::{Happening, Journal, JournalCondition, SlotRecord};
use super::marks::Marks;
use super::proof::{Armed, Pending, Standing, Unproven};
use super::refusal::Refusal;
use super::release_id::ReleaseId;
use super::settle::{Evidence, Next, Settled, fallback};
use crate::effects::boot::BootFacts;
use crate::effects::{BootedSlot, Effects};
use crate::planted::{Planted, is_planted};

/// The machine.
pub struct Machine {
    pub(super) effects: Effects,
    pub(super) facts: BootFacts,
    pub(super) journal: Journal,
    /// The journal in memory is ahead of the saved one.
    unsaved: bool,
    fell_back: bool,
    /// The other slot's blessed UKI, which used up its tries.
    pub(super) lapsed: Option<UkiName>,
}

impl Machine {
    /// Reads the journal and brings it up to what this boot shows: a fallback is recorded, and
    /// what must not boot is removed.
    ///
    /// # Errors
    /// [`UpdateError`]; nothing that boots was changed then.
    pub fn open(effects: Effects, facts: BootFacts) -> Result<(Self, Standing), UpdateError> {
        let (journal, condition) = Journal::load(effects.state.as_ref())?;
        if effects.esp.list().is_err() {
            effects.esp.mount().map_err(UpdateError::esp("list UKIs"))?;
        }
        let mut machine =
            Self { effects, facts, journal, unsaved: false, fell_back: false, lapsed: None };
        if condition == JournalCondition::Damaged {
            let release = machine.booted_release();
            let at = machine.effects.clock.now();
            machine.journal.record(at, &release, Happening::JournalDamaged);
            machine.unsaved = true;
        }
        let standing = machine.standing()?;
        Ok((machine, standing))
    }

    /// What to do now. After a step that failed this tells where the machine stands.
    ///
    /// # Errors
    /// As [`Machine::open`].
    pub fn standing(&mut self) -> Result<Standing, UpdateError> {
        let ukis = self.list()?;
        // They only explain: a bad block in them must not stop updates.
        let marks = Marks::load(self.effects.state.as_ref()).unwrap_or_else(|error| {
            tracing::warn!(%error, "the initrds' marks cannot be read");
            Marks::default()
        });
        let (journal, facts) = (&self.journal, &self.facts);
        let settled = Evidence { journal, ukis: &ukis, facts, marks: &marks }.settle();
        let can_fall_back = fallback(&ukis, facts.slot).is_some();
        let adopted = self.adopted(&settled, &ukis);
        // No partition must keep a boot from being judged.
        let is_judged = matches!(settled.next, Next::Judge(_) | Next::Condemn(..));
        // Record first: if the power goes now, the next boot removes what is still there.
        match self.save(adopted.clone()) {
            Ok(()) => {}
            Err(_) if is_judged => {
                self.journal = adopted;
                self.unsaved = true;
            }
            Err(error) => return Err(error),
        }
        self.fell_back |= settled.fell_back.is_some();
        self.lapsed = settled.lapsed;
        match self.remove(&settled.remove) {
            Err(error) if is_judged => {
                tracing::warn!(%error, "a UKI that failed stays");
            }
            removed => removed?,
        }
        let mut renewed = settled.lapsed.and_then(|lapsed| self.share_tries(&ukis, lapsed));
        if let Next::Stand(name) = settled.next {
            renewed = renewed.or_else(|| self.count(name));
            self.spare_a_try(&ukis, name);
        }
        if !self.unsaved
            && let Err(error) = marks.trim(self.effects.state.as_ref())
        {
            tracing::warn!(%error, "the initrds' marks cannot be cut");
        }
        let other_lapsed = settled.lapsed.is_some();
        let pending = |name| Pending { name: renewed.unwrap_or(name), can_fall_back, other_lapsed };
        Ok(match settled.next {
            Next::Rest => Standing::Steady,
            Next::Stand(name) => Standing::Unproven(Unproven { name: renewed.unwrap_or(name) }),
            Next::Restart(name) => Standing::Armed(Armed { name }),
            Next::Judge(name) => Standing::Pending(pending(name)),
            Next::Condemn(name, failure) => Standing::Condemned(pending(name), failure),
        })
    }

    /// The journal with what the evidence says.
    fn adopted(&self, settled: &Settled, ukis: &[UkiName]) -> Journal {
        let at = self.effects.clock.now();
        let mut journal = self.journal.clone();
        let highest = ukis.iter().map(|name| name.generation).max().unwrap_or_default();
        journal.generation = journal.generation.max(highest);
        journal.phase = settled.phase.clone();
        if let Some((release, cause)) = &settled.fell_back
            && !is_planted(Planted::RefusalForgotten)
        {
            journal.refuse(Refusal { release: release.clone(), cause: cause.clone(), at });
            journal.record(at, release, Happening::FellBack { cause: cause.clone() });
        }
        if let Some(lapsed) = &settled.lapsed {
            self.note_lapse(&mut journal, lapsed);
        }
        let target = self.target_slot();
        let stays = |name: &UkiName| name.slot == target && !settled.remove.contains(name);
        if !ukis.iter().any(stays) {
            journal.slots.remove(&target);
        }
        // What runs is known from the kernel, whatever the journal says.
        let (slot, release) = (self.facts.slot.slot(), self.booted_release());
        let known = journal.slots.remove(&slot).filter(|record| record.release == release);
        let mut record = known.unwrap_or(SlotRecord { release, uki: None, blessed: None });
        if self.facts.slot.uki(ukis).is_some_and(|name| !name.is_on_trial()) {
            // One that runs only until the other one can again, or until the restart, may have been
            // rolled back.
            let stays = !matches!(settled.next, Next::Restart(_));
            if settled.lapsed.is_none() && stays {
                journal.permit(&self.facts.root_hash);
            }
            if record.blessed.is_none() {
                record.blessed = Some(at);
                journal.record(at, &record.release, Happening::Blessed);
            }
        }
        journal.slots.insert(slot, record);
        journal
    }

    pub(super) fn remove(&self, names: &[UkiName]) -> Result<(), UpdateError> {
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            let failed = UpdateError::esp(format!("remove {name}"));
            self.effects.esp.remove(name).map_err(failed)?;
        }
        self.effects.esp.sync().map_err(UpdateError::esp("sync"))
    }

    /// Whether this boot was found good, or has nothing to fall back to. A boot of which this
    /// is false long after the deadline has no working slipwayd.
    ///
    /// # Errors
    /// When the EFI system partition cannot be read.
    pub fn is_judged(effects: &Effects, booted: BootedSlot) -> Result<bool, UpdateError> {
        let ukis = effects.esp.list().map_err(UpdateError::esp("list UKIs"))?;
        let proven = booted.uki(&ukis).is_none_or(|name| !name.is_on_trial());
        Ok(proven || fallback(&ukis, booted).is_none())
    }

    /// Whether it was found, since this was opened, that the release before this boot was given up.
    pub fn has_fallen_back(&self) -> bool {
        self.fell_back
    }

    /// The other slot's blessed UKI that used up its tries, in whose place this boot is.
    pub fn lapsed(&self) -> Option<UkiName> {
        self.lapsed
    }

    /// What the journal knows of the other slot.
    pub fn other(&self) -> Option<&SlotRecord> {
        self.journal.slots.get(&self.target_slot())
    }

    /// True while the journal in memory could not be saved.
    pub fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// What both slots know of updates: phase, refusals, history.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What is booted.
    pub fn facts(&self) -> &BootFacts {
        &self.facts
    }

    /// The running slot.
    pub fn booted(&self) -> BootedSlot {
        self.facts.slot
    }

    /// The release that runs.
    pub fn booted_release(&self) -> ReleaseId {
        ReleaseId { version: self.facts.version.clone(), root_hash: self.facts.root_hash }
    }

    /// SHA-256 of the running UKI, where the journal knows it.
    pub fn booted_uki(&self) -> Option<Digest> {
        self.journal.slots.get(&self.facts.slot.slot())?.uki
    }

    /// Lets refused releases be tried again: the one with this root hash, or all. Gives back
    /// what was refused.
    ///
    /// # Errors
    /// When the journal cannot be saved.
    pub fn forget(&mut self, root_hash: Option<&RootHash>) -> Result<Vec<Refusal>, UpdateError> {
        let chosen =
            |refusal: &Refusal| root_hash.is_none_or(|hash| refusal.release.root_hash == *hash);
        let mut journal = self.journal.clone();
        let forgotten: Vec<_> = journal.refusals.extract_if(.., |one| chosen(one)).collect();
        let at = self.effects.clock.now();
        for refusal in &forgotten {
            journal.record(at, &refusal.release, Happening::Cleared);
        }
        self.save(journal)?;
        Ok(forgotten)
    }

    pub(super) fn target_slot(&self) -> Slot {
        self.facts.slot.target().slot()
    }

    pub(super) fn list(&self) -> Result<Vec<UkiName>, UpdateError> {
        self.effects.esp.list().map_err(UpdateError::esp("list UKIs"))
    }

    /// Saves a changed journal; in memory it changes only when it is saved.
    pub(super) fn save(&mut self, journal: Journal) -> Result<(), UpdateError> {
        if journal != self.journal || self.unsaved {
            journal.save(self.effects.state.as_ref())?;
            self.journal = journal;
            self.unsaved = false;
        }
        Ok(())
    }
}
