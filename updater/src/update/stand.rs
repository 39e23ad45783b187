//! A blessed release whose every boot is counted: the tries that a boot gives back once it has
//! stood, and what becomes of the other slot's release when it used up its own.
//!
//! In: the proof that this boot has stood. Out: names with all their tries, and the way back to the
//! newer release. **Invariant:** a blessed release goes back to being tried only by a boot that has
//! stood, once; it is removed only when it used up those tries too, or is rotten.

use contract::UkiName;
use contract::release::uki_name::Trust;

use super::UpdateError;
use super::journal::{Happening, Journal, SlotRecord};
use super::machine::Machine;
use super::proof::{Armed, Lapsed, Unproven};
use super::refusal::{Cause, Refusal};
use super::settle::{lapsed, tired_fallback};
use crate::planted::{Planted, is_planted};

/// What is to become of the other slot.
#[derive(Debug)]
#[must_use]
pub enum Other {
    /// Nothing: it is a fallback, or empty.
    Rests,
    /// Its release was blessed and used up its tries for the first time.
    MayGoBack(Lapsed),
    /// Its release used up the tries that it got back: it is refused, and its UKI is gone.
    GivenUp(UkiName),
}

impl Machine {
    /// This boot has stood: its UKI gets all tries back, and so does a fallback.
    ///
    /// # Errors
    /// When the EFI system partition fails; [`Machine::standing`] then gives the proof back.
    pub fn stood(&mut self, unproven: Unproven) -> Result<(), UpdateError> {
        let ukis = self.list()?;
        // Somebody may have taken it away meanwhile.
        if let Some(name) = self.booted().uki(&ukis).filter(|name| *name == unproven.name)
            && !is_planted(Planted::TriesNotGivenBack)
        {
            self.rename(&name, &name.blessed())?;
        }
        // A cut after this: the next boot that stands does the same to the fallback.
        self.renew_fallback()
    }

    /// Gives a blessed fallback all its tries.
    pub(super) fn renew_fallback(&self) -> Result<(), UpdateError> {
        match tired_fallback(&self.list()?, self.booted()) {
            Some(name) => self.rename(&name, &name.blessed()),
            None => Ok(()),
        }
    }

    /// What is to become of the other slot, once this boot has stood. A release that used up the
    /// tries it got back is refused and removed here.
    ///
    /// # Errors
    /// When a partition fails; the same answer comes again then.
    pub fn weigh_other(&mut self) -> Result<Other, UpdateError> {
        let Some(name) = lapsed(&self.list()?, self.booted()) else {
            return Ok(Other::Rests);
        };
        if is_planted(Planted::LapseStays) {
            return Ok(Other::Rests);
        }
        let record = self.journal.slots.get(&name.slot).cloned();
        let refused =
            record.as_ref().is_some_and(|record| self.journal.refusal(&record.release).is_some());
        let is_first = name.trust() != Trust::GivenBack || is_planted(Planted::GoneBackAgain);
        if is_first && !refused && !is_planted(Planted::LapseRefused) {
            return Ok(Other::MayGoBack(Lapsed { name, record }));
        }
        let mut journal = self.journal.clone();
        if let Some(SlotRecord { release, .. }) = record.filter(|_| !refused) {
            let at = self.effects.clock.now();
            journal.refuse(Refusal { release, cause: lapse(&name), at });
        }
        // A cut after this: it is refused, still has no tries, and goes in the next boot.
        self.save(journal)?;
        self.drop_other(name)?;
        Ok(Other::GivenUp(name))
    }

    /// Gives the other slot's release its tries back, which makes it the next to boot.
    ///
    /// # Errors
    /// When a partition fails; the running slot is as it was.
    pub fn go_back(&mut self, lapsed: Lapsed) -> Result<Armed, UpdateError> {
        let Lapsed { name, record } = lapsed;
        if let Some(SlotRecord { release, .. }) = record {
            let mut journal = self.journal.clone();
            let armed = Happening::Armed { generation: name.generation };
            journal.record(self.effects.clock.now(), &release, armed);
            self.save(journal)?;
        }
        // A cut after this: the other slot still has no tries, and this one goes back once more.
        let back = name.given_back();
        self.rename(&name, &back)?;
        Ok(Armed { name: back })
    }

    /// Removes the other slot's UKI, whose slot is not what was installed: the release has to be
    /// staged afresh. It is not refused.
    ///
    /// # Errors
    /// When a partition fails.
    pub fn discard(&mut self, lapsed: Lapsed) -> Result<(), UpdateError> {
        self.drop_other(lapsed.name)
    }

    fn drop_other(&mut self, name: UkiName) -> Result<(), UpdateError> {
        self.remove(&[name])?;
        self.lapsed = None;
        let mut journal = self.journal.clone();
        journal.slots.remove(&name.slot);
        self.save(journal)
    }

    /// Adds, in memory, that the node is here because the other slot's release did not stand.
    pub(super) fn note_lapse(&self, journal: &mut Journal, name: &UkiName) -> bool {
        let Some(SlotRecord { release, .. }) = journal.slots.get(&name.slot).cloned() else {
            return false;
        };
        if is_planted(Planted::LapseNotSaid) {
            return false;
        }
        let of_release = journal.history.iter().rev().find(|event| event.release == release);
        let known = |cause: &Cause| matches!(cause, Cause::Userspace { blessed: true, .. });
        if of_release.is_some_and(
            |event| matches!(&event.what, Happening::FellBack { cause } if known(cause)),
        ) {
            return false;
        }
        let fell_back = Happening::FellBack { cause: lapse(name) };
        journal.record(self.effects.clock.now(), &release, fell_back);
        true
    }

    /// Two slots without tries: the loader would start the newer for ever. Before it comes to that
    /// the running one gets tries, and then the other a single one. Gives the running one's name
    /// when it changed.
    pub(super) fn share_tries(&self, ukis: &[UkiName], lapsed: UkiName) -> Option<UkiName> {
        let tired = |name: &UkiName| name.tries.is_some_and(|tries| tries.left <= 1);
        let name = self.booted().uki(ukis).filter(tired)?;
        let renewed = name.started_once();
        if let Err(error) = self.rename(&name, &renewed) {
            tracing::warn!(%error, "the running slot gets no tries");
            return None;
        }
        // A cut after this: this slot starts again, and has tries.
        if let Err(error) = self.rename(&lapsed, &lapsed.with_a_try()) {
            tracing::warn!(%error, "the other slot gets no try");
        }
        Some(renewed)
    }

    /// A blessed release whose starts are not counted, because a cut came between that and the
    /// arming of another, is counted from this start on. Gives its name when it changed.
    pub(super) fn count(&self, running: UkiName) -> Option<UkiName> {
        let counted = running.tries.is_none().then(|| running.started_once())?;
        if let Err(error) = self.rename(&running, &counted) {
            tracing::warn!(%error, "the starts of the running slot are not counted");
            return None;
        }
        Some(counted)
    }

    /// The newer of two slots without tries runs, which the loader would start for ever. It may be
    /// the one that dies, so the older gets a try.
    pub(super) fn spare_a_try(&self, ukis: &[UkiName], running: UkiName) {
        let older = tired_fallback(ukis, self.booted()).filter(UkiName::is_exhausted);
        // A cut after this: the older slot boots, and goes back to this one if it stands.
        if let Some(older) = older.filter(|_| running.is_exhausted())
            && let Err(error) = self.rename(&older, &older.with_a_try())
        {
            tracing::warn!(%error, "the other slot gets no try");
        }
    }
}

/// Why the node came back from a blessed release.
fn lapse(name: &UkiName) -> Cause {
    Cause::Userspace { tries: name.starts(), judging: false, blessed: true }
}
