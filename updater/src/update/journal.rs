//! `update.json`: what both slots know of updates, across restarts.
//!
//! In: the document as an earlier boot, perhaps of another release, left it. Out: the same,
//! one step further. **Invariant:** a document of a later schema is never overwritten. So a
//! release that raises [`SCHEMA`] must write the old one until it is blessed, or its fallback
//! cannot read what happened. A field that a later release added is passed over, for the same
//! reason; a phase, an event or a cause that it added needs another schema.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use contract::{Digest, RootHash, Slot};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::refusal::{Cause, Failure, Refusal};
use super::release_id::ReleaseId;
use crate::effects::StateStore;
use crate::effects::boot::BootId;

/// Name of the document on the state partition.
pub const DOCUMENT: &str = "update.json";
/// Where a document goes that is no journal at all.
pub const DAMAGED: &str = "update.json.damaged";
/// Where a document goes that an operator gave up.
pub const GIVEN_UP: &str = "update.json.given-up";
/// The schema that is read and written.
pub const SCHEMA: u32 = 1;
/// Number of events that are kept.
pub const MAX_EVENTS: usize = 100;
/// Number of refusals that are kept; the oldest go.
pub const MAX_REFUSALS: usize = 50;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read.
    #[error(
        "cannot read {DOCUMENT} on the state partition: give it up with `slipway node clear`, or \
         install the node anew when its disk fails"
    )]
    Load(#[source] io::Error),
    /// It is of a later generation of this software. It stays as it is.
    #[error(
        "{DOCUMENT} has schema {found}, this slipwayd reads {SCHEMA}: update to a release that \
         reads it, or give it up with `slipway node clear`"
    )]
    Schema {
        /// What was found.
        found: u32,
    },
    /// It cannot be saved.
    #[error("cannot save {DOCUMENT} on the state partition: free some room on it")]
    Save(#[source] io::Error),
}

/// A release in a slot under a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// The release.
    pub release: ReleaseId,
    /// The slot that holds it.
    pub slot: Slot,
    /// The generation of its UKI.
    pub generation: u32,
    /// The boot that armed it.
    pub armed_in: BootId,
}

/// Where an update stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing is under way.
    Steady,
    /// The target slot is being written; what it holds has no meaning.
    Staging {
        /// What is written.
        release: ReleaseId,
    },
    /// The target slot was verified, and its UKI waits in the temporary file. After a restart
    /// this is a hint only: the slot must be verified again.
    Staged {
        /// What it holds.
        release: ReleaseId,
        /// SHA-256 of the UKI.
        uki: Digest,
    },
    /// The UKI has its name, or gets it next.
    Armed {
        /// What boots next.
        installation: Installation,
    },
    /// It booted, and slipwayd is judging it.
    Pending {
        /// What is judged.
        installation: Installation,
        /// What is wrong with a boot that cannot fall back, and so goes on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failing: Option<Failure>,
    },
    /// It was found bad; the restart into the other slot comes next.
    Condemned {
        /// What was found bad.
        installation: Installation,
        /// Why.
        failure: Failure,
    },
}

/// What is known of a slot's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// The release that it holds.
    pub release: ReleaseId,
    /// SHA-256 of its UKI; unknown for what an image file brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uki: Option<Digest>,
    /// When it was found good; `None` as long as it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blessed: Option<Timestamp>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happening {
    /// The other slot was verified.
    Staged,
    /// It boots next.
    Armed {
        /// Under this generation.
        generation: u32,
    },
    /// An operator goes back to it.
    RollingBack {
        /// Under this generation.
        generation: u32,
    },
    /// Its boot was found good.
    Blessed,
    /// Its boot was found bad.
    Condemned {
        /// Why.
        failure: Failure,
    },
    /// The node came back from it.
    FellBack {
        /// Why, and how far it got.
        cause: Cause,
    },
    /// It may be tried again.
    Cleared,
    /// The journal was unreadable and began anew; the release is the running one.
    JournalDamaged,
}

/// An entry of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When, by the node's clock, right or wrong.
    pub at: Timestamp,
    /// To which release.
    pub release: ReleaseId,
    /// What.
    pub what: Happening,
}

/// What both slots know of updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Format version, [`SCHEMA`].
    pub schema: u32,
    /// The highest generation that was ever given.
    pub generation: u32,
    /// Where an update stands.
    pub phase: Phase,
    /// What the slots hold, as far as it is known.
    pub slots: BTreeMap<Slot, SlotRecord>,
    /// Releases that are not taken again, oldest first.
    pub refusals: Vec<Refusal>,
    /// The last [`MAX_EVENTS`] events, oldest first.
    pub history: VecDeque<HistoryEntry>,
}

impl Journal {
    /// The journal of a node on which nothing happened yet.
    pub fn new() -> Self {
        Self {
            schema: SCHEMA,
            generation: 0,
            phase: Phase::Steady,
            slots: BTreeMap::new(),
            refusals: Vec::new(),
            history: VecDeque::new(),
        }
    }

    /// Reads the journal. One that is no journal at all is set aside; the second value then
    /// says so.
    ///
    /// # Errors
    /// [`JournalError::Load`]; [`JournalError::Schema`] for one of a later generation, which stays as it is.
    pub fn load(store: &dyn StateStore) -> Result<(Self, JournalCondition), JournalError> {
        let Some(bytes) = store.load(DOCUMENT).map_err(JournalError::Load)? else {
            return Ok((Self::new(), JournalCondition::Good));
        };
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        if let Ok(Head { schema }) = serde_json::from_slice(&bytes)
            && schema > SCHEMA
        {
            return Err(JournalError::Schema { found: schema });
        }
        match serde_json::from_slice(&bytes) {
            Ok(journal) => Ok((journal, JournalCondition::Good)),
            Err(_) => {
                // A full partition must not keep a boot from being judged.
                if let Err(error) = store.save(DAMAGED, &bytes) {
                    tracing::warn!(%error, "the damaged journal has no copy");
                }
                Ok((Self::new(), JournalCondition::Damaged))
            }
        }
    }

    /// Moves a journal aside that this program cannot read, so that the node starts afresh; one
    /// that the device cannot read goes without a copy. Refusals are lost with it.
    ///
    /// # Errors
    /// When the state partition fails.
    pub fn give_up(store: &dyn StateStore) -> Result<(), JournalError> {
        match store.load(DOCUMENT) {
            Ok(None) => return Ok(()),
            Ok(Some(bytes)) => store.save(GIVEN_UP, &bytes).map_err(JournalError::Save)?,
            Err(error) => tracing::warn!(%error, "the journal that is given up has no copy"),
        }
        store.remove(DOCUMENT).map_err(JournalError::Save)
    }

    /// Saves the journal.
    ///
    /// # Errors
    /// [`JournalError::Save`]; the old one is then still there.
    pub fn save(&self, store: &dyn StateStore) -> Result<(), JournalError> {
        let text = serde_json::to_vec(self).map_err(|error| JournalError::Save(error.into()))?;
        store.save(DOCUMENT, &text).map_err(JournalError::Save)
    }

    /// The refusal of a release, if there is one.
    pub fn refusal(&self, release: &ReleaseId) -> Option<&Refusal> {
        self.refusals.iter().find(|refusal| refusal.release.root_hash == release.root_hash)
    }

    /// Adds a refusal, in memory; it takes the place of an earlier one of the same release.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.permit(&refusal.release.root_hash);
        self.refusals.push(refusal);
        let surplus = self.refusals.len().saturating_sub(MAX_REFUSALS);
        self.refusals.drain(..surplus);
    }

    /// Drops the refusal of a root, in memory.
    pub(super) fn permit(&mut self, root_hash: &RootHash) {
        self.refusals.retain(|refusal| refusal.release.root_hash != *root_hash);
    }

    /// Adds an event, in memory; the oldest go.
    pub(super) fn record(&mut self, at: Timestamp, release: &ReleaseId, what: Happening) {
        self.history.push_back(HistoryEntry { at, release: release.clone(), what });
        let surplus = self.history.len().saturating_sub(MAX_EVENTS);
        self.history.drain(..surplus);
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

/// How a journal was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalCondition {
    /// Whole, or absent.
    Good,
    /// Unreadable, and set aside.
    Damaged,
}
