//! Faults that a test plants in the code that ships, one at a time, to see whether the simulator
//! finds them.
//!
//! In: a fault's name at the place that it would be in. Out: whether it is planted there.
//! **Invariant:** outside of tests the answer is a constant, and what would be wrong is in no
//! program.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// A slot is written before the removal of its UKIs lasts.
    DisarmNotSynced,
    /// The target slot is not synced before it is read back.
    TargetNotSynced,
    /// A UKI's new name is not synced.
    RenameNotSynced,
    /// The root hash is not compared with the offer's.
    RootHashNotCompared,
    /// The hash tree is not written.
    TreeNotWritten,
    /// What was staged is armed without having been read once more.
    NotConfirmed,
    /// The verdict reaches nobody, and the proof that it was for is dropped.
    VerdictDropped,
    /// The verdict comes before the boot has settled.
    BlessedAtOnce,
    /// A boot has no deadline.
    DeadlineIgnored,
    /// A release that failed is not remembered.
    RefusalForgotten,
    /// The release that an operator went back from is not refused.
    RollbackNotRefused,
    /// Two installations get the same generation.
    GenerationReused,
    /// A boot that was never found good keeps the tries that it has left.
    TriesNotRenewed,
    /// The slot that is armed gets no settings.
    SettingsNotCarried,
    /// Policy does not look at refusals.
    RefusalsNotWeighed,
    /// A boot that has stood does not get its tries back.
    TriesNotGivenBack,
    /// A blessed release that used up its tries is refused at once.
    LapseRefused,
    /// It is never gone back to.
    LapseStays,
    /// It is gone back to again and again.
    GoneBackAgain,
    /// Nothing says that it did not stand.
    LapseNotSaid,
    /// Its slot is not read before it is gone back to.
    RotNotRead,
    /// A channel's floors count for nothing.
    FloorsSkipped,
    /// Its blocked releases count for nothing.
    BlocksPassed,
    /// They do not count for an operator's pin.
    PinPassesBlocks,
    /// The slipwayd that a release needs is not compared with the one that runs.
    UpdaterNotCompared,
}

/// Whether this fault is planted.
#[cfg(not(test))]
#[inline(always)]
pub const fn is_planted(_: Planted) -> bool {
    false
}

#[cfg(test)]
pub use planting::{is_planted, with};

#[cfg(test)]
mod planting {
    use std::cell::Cell;

    use super::Planted;

    thread_local! {
        static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    /// Whether this fault is planted on this thread.
    pub fn is_planted(fault: Planted) -> bool {
        PLANTED.get() == Some(fault)
    }

    /// Runs `work` on this thread with a fault.
    pub fn with<T>(fault: Option<Planted>, work: impl FnOnce() -> T) -> T {
        let before = PLANTED.replace(fault);
        let result = work();
        PLANTED.set(before);
        result
    }
}
