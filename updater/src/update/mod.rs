//! An update as a chain of states: `Facts → Plan → Staged → Armed → Pending → Blessed`.
//!
//! In: what is booted, what the EFI system partition holds, and the journal of earlier boots.
//! Out: a machine in which each step takes the proof of the one before. Steps inside one
//! process are types; those across a restart are the persisted [`journal::Phase`].
//!
//! **Invariant:** the running slot is never written and keeps its UKI, the target slot has no
//! UKI while it is written, and whatever is saved here, the names on the EFI system partition
//! alone decide what boots. The journal explains; it never has to be right for a node to boot.

pub mod carried;
#[cfg(test)]
mod counted;
mod error;
pub mod journal;
pub mod machine;
pub mod marks;
#[cfg(test)]
mod power_cuts;
mod proof;
pub mod refusal;
mod release_id;
mod settle;
mod stand;
mod steps;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod written_once;

pub use error::UpdateError;
pub use journal::{
    Happening, HistoryEntry, Installation, Journal, JournalError, Phase, SlotRecord,
};
pub use machine::Machine;
pub use proof::{Armed, Blessed, Condemnation, Lapsed, Pending, Plan, Standing, Unproven};
pub use refusal::{Cause, Failure, MAX_TEXT, Refusal};
pub use release_id::ReleaseId;
pub use stand::Other;
