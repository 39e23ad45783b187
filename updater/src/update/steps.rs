//! The steps of an update, each of which takes the proof of the one before.
//!
//! In: a plan, or a verdict. Out: the next state. The comments say what a power cut between
//! two effects leaves behind. **Invariant:** each effect on the EFI system partition is one
//! name, and is synced before the next step.

use std::io;

use contract::UkiName;
use contract::release::uki_name::{FIRST_TRIES, MAX_GENERATION, Tries};

use super::UpdateError;
use super::journal::{Happening, Installation, Journal, Phase, SlotRecord};
use super::machine::Machine;
use super::proof::{Armed, Blessed, Condemnation, Pending, Plan};
use super::refusal::{Cause, Failure, Refusal};
use super::release_id::ReleaseId;
use super::settle::fallback;
use crate::effects::{BootedSlot, Disarmed, TargetSlot};
use crate::planted::{Planted, is_planted};
use crate::secure_boot::{self, Uki};
use crate::staging::{Confirmed, Staged};

/// Copies the settings of the running slot for the one that is to boot.
pub type CarrySettings<'a> = &'a dyn Fn(BootedSlot, TargetSlot) -> io::Result<()>;

impl Machine {
    /// Takes the target slot out of the loader's sight, so that it can be written.
    ///
    /// # Errors
    /// When the release is refused, when the slot is still needed as a fallback, or when a
    /// partition fails. The running slot is as it was.
    pub fn disarm_target(&mut self, plan: &Plan) -> Result<Disarmed, UpdateError> {
        if let Some(refusal) = self.journal.refusal(&plan.release) {
            return Err(UpdateError::Refused(Box::new(refusal.clone())));
        }
        let ukis = self.list()?;
        let unproven = self.facts.slot.uki(&ukis).is_some_and(|name| name.is_on_trial());
        if unproven && fallback(&ukis, self.facts.slot).is_some() {
            return Err(UpdateError::NotYetJudged);
        }
        let mut journal = self.journal.clone();
        journal.phase = Phase::Staging { release: plan.release.clone() };
        journal.slots.remove(&self.target_slot());
        // A cut after this: nothing is lost but the record of what the slot held.
        self.save(journal)?;
        // What runs may have been found good, and its new name not have been synced. It must last
        // before another goes: FAT keeps either, whichever came first.
        self.effects.esp.sync().map_err(UpdateError::esp("sync"))?;
        // A cut in here: some of the slot's UKIs are gone, and its content is still whole.
        let target = self.facts.slot.target();
        let failed = UpdateError::esp(format!("remove the UKIs of slot {}", target.slot()));
        let disarmed = Disarmed::disarm(self.effects.esp.as_ref(), target).map_err(failed)?;
        self.lapsed = None;
        Ok(disarmed)
    }

    /// Notes that the target slot holds a release, so that an operator sees it.
    ///
    /// # Errors
    /// When something else is under way, or the journal cannot be saved.
    pub fn record_staged(&mut self, staged: &Staged) -> Result<(), UpdateError> {
        let release = self.release_of(staged)?;
        let mut journal = self.journal.clone();
        let phase = Phase::Staged { release: release.clone(), uki: staged.uki() };
        if journal.phase != phase {
            journal.phase = phase;
            journal.record(self.effects.clock.now(), &release, Happening::Staged);
        }
        self.save(journal)
    }

    /// Gives the staged UKI its name: the loader takes it at the next restart.
    ///
    /// # Errors
    /// When something else is under way, a partition fails, or no generation is left. The
    /// running slot is as it was; what was staged must be verified again.
    pub fn arm(
        &mut self,
        confirmed: Confirmed,
        carry: CarrySettings<'_>,
    ) -> Result<Armed, UpdateError> {
        let staged = confirmed.into_staged();
        let release = self.release_of(&staged)?;
        let ukis = self.list()?;
        let generation = self.next_generation(&ukis)?;
        let (booted, target) = (self.facts.slot, staged.target());
        // A cut after this: the target has settings that nobody reads before it is armed.
        if !is_planted(Planted::SettingsNotCarried) {
            carry(booted, target)
                .map_err(|source| UpdateError::Settings { slot: target.slot(), source })?;
        }
        self.become_fallback(&ukis)?;
        let slot = target.slot();
        let mut journal = self.journal.clone();
        let record =
            SlotRecord { release: release.clone(), uki: Some(staged.uki()), blessed: None };
        journal.slots.insert(slot, record);
        journal.record(self.effects.clock.now(), &release, Happening::Armed { generation });
        let installation = Installation { release, slot, generation, armed_in: self.facts.boot_id };
        self.announce(journal, installation)?;
        // A cut after this: the journal says armed and no UKI has the generation, so the next
        // boot, of this slot, stages again.
        let name = UkiName::on_trial(generation, slot);
        let failed = UpdateError::esp(format!("name the staged UKI {name}"));
        self.effects.esp.rename_temporary(&name).map_err(failed)?;
        // A cut after this: the new name lasted, and slot and UKI are whole; or it did not.
        self.effects.esp.sync().map_err(UpdateError::esp("sync"))?;
        Ok(Armed { name })
    }

    /// Restarts into the armed slot.
    ///
    /// # Errors
    /// When the system manager refuses.
    pub fn restart(&self, _armed: &Armed) -> Result<(), UpdateError> {
        self.effects.power.reboot().map_err(UpdateError::Reboot)
    }

    /// This boot is good: its UKI gets the counter of a blessed release.
    ///
    /// # Errors
    /// When a partition fails; [`Machine::standing`] then gives the pending boot back.
    pub fn bless(&mut self, pending: Pending) -> Result<Blessed, UpdateError> {
        let name = pending.name.blessed();
        self.rename(&pending.name, &name)?;
        // A cut after this: the next boot finds a blessed name, and blesses in the journal.
        let mut journal = self.journal.clone();
        match &journal.phase {
            Phase::Steady | Phase::Staging { .. } | Phase::Staged { .. } => {}
            Phase::Armed { .. } | Phase::Pending { .. } | Phase::Condemned { .. } => {
                journal.phase = Phase::Steady;
            }
        }
        let release = self.booted_release();
        let at = self.effects.clock.now();
        journal.permit(&release.root_hash);
        if let Some(record) = journal.slots.get_mut(&name.slot) {
            record.blessed = Some(at);
        }
        journal.record(at, &release, Happening::Blessed);
        self.save(journal)?;
        if let Err(error) = self.renew_fallback() {
            tracing::warn!(%error, "the fallback does not get all its tries");
        }
        Ok(Blessed { name })
    }

    /// This boot is bad: saves the cause, takes the remaining tries away, and restarts. With
    /// nothing to fall back to, it only notes what is wrong.
    ///
    /// # Errors
    /// When the system manager refuses the restart, or without a fallback when the journal
    /// cannot be saved.
    pub fn condemn(
        &mut self,
        pending: Pending,
        failure: Failure,
    ) -> Result<Condemnation, UpdateError> {
        let installation = self.booted_installation(&pending.name);
        let mut journal = self.journal.clone();
        if !pending.can_fall_back {
            if let Phase::Steady | Phase::Pending { .. } | Phase::Condemned { .. } = journal.phase {
                journal.phase = Phase::Pending { installation, failing: Some(failure) };
                self.save(journal)?;
            }
            return Ok(Condemnation::NoFallback(pending));
        }
        let at = self.effects.clock.now();
        let release = installation.release.clone();
        journal.record(at, &release, Happening::Condemned { failure: failure.clone() });
        journal.phase = Phase::Condemned { installation, failure };
        // Coming back matters more than knowing why: whatever fails here, restart. The loader
        // then counts the remaining tries down.
        let mut unrecorded = self.save(journal).err();
        // A cut after this: the loader may take this slot again, which finds its verdict.
        let done = pending.name.tries.map_or(0, |tries| tries.done);
        let name = UkiName { tries: Some(Tries { left: 0, done }), ..pending.name };
        if let Err(error) = self.rename(&pending.name, &name) {
            unrecorded = unrecorded.or(Some(error));
        }
        self.effects.power.reboot().map_err(UpdateError::Reboot)?;
        Ok(Condemnation::Restarting { unrecorded })
    }

    /// Goes back to the release in the other slot, if it was ever found good. The release that
    /// runs is refused from then on.
    ///
    /// # Errors
    /// When there is nothing good to go back to, the firmware would not start it any more, a
    /// partition fails, or no generation is left.
    pub fn roll_back(&mut self) -> Result<Armed, UpdateError> {
        let ukis = self.list()?;
        let slot = self.target_slot();
        let blessed = |name: &&UkiName| name.slot == slot && !name.is_on_trial();
        let old = ukis.iter().find(blessed).copied();
        let record = self.journal.slots.get(&slot).filter(|record| record.blessed.is_some());
        let (Some(old), Some(record)) = (old, record) else {
            return Err(UpdateError::NothingToRollBackTo);
        };
        let (release, generation) = (record.release.clone(), self.next_generation(&ukis)?);
        secure_boot::check(&self.effects, Uki::Named(old), self.facts.slot.target())
            .map_err(|source| UpdateError::Firmware { version: release.version.clone(), source })?;
        self.become_fallback(&ukis)?;
        let at = self.effects.clock.now();
        let mut journal = self.journal.clone();
        journal.record(at, &release, Happening::RollingBack { generation });
        journal.permit(&release.root_hash);
        if !is_planted(Planted::RollbackNotRefused) {
            journal.refuse(Refusal {
                release: self.booted_release(),
                cause: Cause::RolledBack,
                at,
            });
        }
        self.announce(
            journal,
            Installation { release, slot, generation, armed_in: self.facts.boot_id },
        )?;
        // A cut after this: this slot boots again, and what runs is not refused.
        let name = UkiName::on_trial(generation, slot);
        self.rename(&old, &name)?;
        Ok(Armed { name })
    }

    /// Saves that an installation is about to get its name.
    fn announce(
        &mut self,
        mut journal: Journal,
        installation: Installation,
    ) -> Result<(), UpdateError> {
        journal.generation = installation.generation;
        journal.phase = Phase::Armed { installation };
        self.save(journal)
    }

    /// The release that is being staged, if that is what the proof is about.
    fn release_of(&self, staged: &Staged) -> Result<ReleaseId, UpdateError> {
        match &self.journal.phase {
            Phase::Staging { release } | Phase::Staged { release, .. }
                if release.root_hash == staged.root_hash() =>
            {
                Ok(release.clone())
            }
            Phase::Staging { .. }
            | Phase::Staged { .. }
            | Phase::Steady
            | Phase::Armed { .. }
            | Phase::Pending { .. }
            | Phase::Condemned { .. } => Err(UpdateError::NotStaged { found: staged.root_hash() }),
        }
    }

    /// What runs is to be the fallback of what is armed. Never found good, it gets all its tries:
    /// without any it would rank behind a newer one that fails too, and what is able to update must
    /// stay a fallback. Blessed, it is not counted, because an armed release of before counts as
    /// blessed only what has no counter, and would remove it; the first boot that stands counts it.
    fn become_fallback(&self, ukis: &[UkiName]) -> Result<(), UpdateError> {
        // Without a UKI of its own this slot is no fallback, and an update the only cure.
        match self.facts.slot.uki(ukis) {
            _ if is_planted(Planted::TriesNotRenewed) => Ok(()),
            Some(name) if !name.is_on_trial() => self.rename(&name, &name.uncounted()),
            Some(name) if name.tries.is_some_and(|tries| tries.left < FIRST_TRIES) => {
                self.rename(&name, &UkiName::on_trial(name.generation, name.slot))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn rename(&self, from: &UkiName, to: &UkiName) -> Result<(), UpdateError> {
        if from != to {
            let failed = UpdateError::esp(format!("rename {from} to {to}"));
            self.effects.esp.rename(from, to).map_err(failed)?;
        }
        if is_planted(Planted::RenameNotSynced) {
            return Ok(());
        }
        self.effects.esp.sync().map_err(UpdateError::esp("sync"))
    }

    fn next_generation(&self, ukis: &[UkiName]) -> Result<u32, UpdateError> {
        let highest = ukis.iter().map(|name| name.generation).max().unwrap_or_default();
        match highest.max(self.journal.generation) {
            last if last >= MAX_GENERATION => Err(UpdateError::GenerationsExhausted),
            last if is_planted(Planted::GenerationReused) => Ok(last),
            last => Ok(last + 1),
        }
    }

    /// The installation that runs, as the journal knows it or else as the UKI's name says.
    fn booted_installation(&self, name: &UkiName) -> Installation {
        let known = match &self.journal.phase {
            Phase::Armed { installation }
            | Phase::Pending { installation, .. }
            | Phase::Condemned { installation, .. } => Some(installation),
            Phase::Steady | Phase::Staging { .. } | Phase::Staged { .. } => None,
        };
        let same = |one: &&Installation| one.generation == name.generation && one.slot == name.slot;
        known.filter(same).cloned().unwrap_or_else(|| Installation {
            release: self.booted_release(),
            slot: name.slot,
            generation: name.generation,
            armed_in: self.facts.boot_id,
        })
    }
}
