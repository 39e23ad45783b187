//! What is proven between two steps of an update: each step takes the proof of the one before.
//!
//! **Invariant:** a proof is made by the step that earned it, in this folder alone.

use contract::UkiName;

use super::UpdateError;
use super::journal::SlotRecord;
use super::refusal::Failure;
use super::release_id::ReleaseId;

/// What is to be installed: the decision of policy or of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The release.
    pub release: ReleaseId,
}

/// The other slot boots next: all that is missing is the restart.
#[derive(Debug)]
#[must_use]
pub struct Armed {
    pub(super) name: UkiName,
}

impl Armed {
    /// The UKI that boots next.
    pub fn name(&self) -> UkiName {
        self.name
    }
}

/// This boot is not yet judged.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    pub(super) name: UkiName,
    pub(super) can_fall_back: bool,
    pub(super) other_lapsed: bool,
}

impl Pending {
    /// The UKI that is on trial.
    pub fn name(&self) -> UkiName {
        self.name
    }

    /// Whether the other slot could take over. Without it a boot is judged without a deadline.
    pub fn can_fall_back(&self) -> bool {
        self.can_fall_back
    }

    /// Whether the other slot holds a blessed release that used up its tries: it is gone back to
    /// once this boot has stood, although it was never found good.
    pub fn other_lapsed(&self) -> bool {
        self.other_lapsed
    }
}

/// This boot was found good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blessed {
    pub(super) name: UkiName,
}

impl Blessed {
    /// The UKI, which has all its tries.
    pub fn name(&self) -> UkiName {
        self.name
    }
}

/// What became of a bad verdict.
#[derive(Debug)]
#[must_use]
pub enum Condemnation {
    /// The node restarts into the other slot.
    Restarting {
        /// What could not be saved about it; the other slot then knows less of the cause.
        unrecorded: Option<UpdateError>,
    },
    /// There is nothing to fall back to: go on judging.
    NoFallback(Pending),
}

/// What to do first.
#[derive(Debug)]
#[must_use]
pub enum Standing {
    /// A proven release runs and nothing is under way.
    Steady,
    /// The same, in a boot that has not stood yet.
    Unproven(Unproven),
    /// The other slot was armed in this boot: restart when it may be.
    Armed(Armed),
    /// Judge this boot.
    Pending(Pending),
    /// This boot was found bad and the power went before the restart: condemn it.
    Condemned(Pending, Failure),
}

/// A blessed release runs, and this boot has not stood yet.
#[derive(Debug)]
#[must_use]
pub struct Unproven {
    pub(super) name: UkiName,
}

impl Unproven {
    /// The UKI that runs.
    pub fn name(&self) -> UkiName {
        self.name
    }
}

/// The other slot's blessed release, which the loader would prefer had it not used up its tries.
#[derive(Debug)]
#[must_use]
pub struct Lapsed {
    pub(super) name: UkiName,
    pub(super) record: Option<SlotRecord>,
}

impl Lapsed {
    /// Its UKI.
    pub fn name(&self) -> UkiName {
        self.name
    }

    /// What the journal knows of it.
    pub fn record(&self) -> Option<&SlotRecord> {
        self.record.as_ref()
    }
}
