//! Proofs that a release is whole in the target slot.
//!
//! In: what staging has read back. Out: [`Staged`] and [`Confirmed`]. **Invariant:** only the code
//! beside this file, which reads the devices, makes either; everybody else can only hand them on.

use contract::{Digest, RootHash};

use crate::effects::{Disarmed, TargetSlot};

/// Proof that a release is whole in the target slot, and its UKI in the temporary file: both
/// were read back from the devices after a sync, and compared with the verified offer.
#[derive(Debug)]
#[must_use]
pub struct Staged {
    target: TargetSlot,
    root_hash: RootHash,
    uki: Digest,
}

impl Staged {
    /// What was read back, after a sync, from the slot that was disarmed.
    pub(super) fn read_back(disarmed: &Disarmed, root_hash: RootHash, uki: Digest) -> Self {
        Self { target: disarmed.target(), root_hash, uki }
    }

    /// One that nobody read.
    #[cfg(test)]
    pub fn forged_for_a_test(disarmed: &Disarmed, root_hash: RootHash, uki: Digest) -> Self {
        Self::read_back(disarmed, root_hash, uki)
    }

    /// The slot that holds the release.
    pub fn target(&self) -> TargetSlot {
        self.target
    }

    /// Root hash of what the slot holds.
    pub fn root_hash(&self) -> RootHash {
        self.root_hash
    }

    /// SHA-256 of the temporary file.
    pub fn uki(&self) -> Digest {
        self.uki
    }

    /// Says that all of it was read once more, and is as it was.
    pub(super) fn confirmed(self) -> Confirmed {
        Confirmed(self)
    }

    /// The same without reading anything.
    #[cfg(test)]
    pub fn confirmed_for_a_test(self) -> Confirmed {
        self.confirmed()
    }
}

/// Proof that a staged release, which may have waited for days, was read once more a moment ago
/// and is whole: it may be armed.
#[derive(Debug)]
#[must_use]
pub struct Confirmed(Staged);

impl Confirmed {
    /// Root hash of what the slot holds.
    pub fn root_hash(&self) -> RootHash {
        self.0.root_hash
    }

    /// Back to what must be read again before it is armed.
    pub fn into_staged(self) -> Staged {
        self.0
    }
}
