//! Why a step of an update failed.

use std::io;

use contract::release::uki_name::MAX_GENERATION;
use contract::{ReleaseVersion, RootHash, Slot};

use super::journal::JournalError;
use super::refusal::Refusal;
use crate::secure_boot::SecureBootError;

/// Why a step of an update failed. Whatever it was, the running slot is as it was.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The EFI system partition fails.
    #[error(
        "cannot {action} on the EFI system partition: see `slipway node logs --unit efi.mount`"
    )]
    Esp {
        /// What was tried.
        action: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The settings cannot be handed to the target slot.
    #[error("cannot copy the settings for slot {slot}")]
    Settings {
        /// The slot that is to boot.
        slot: Slot,
        /// What the store says.
        #[source]
        source: io::Error,
    },
    /// The system manager does not restart.
    #[error("cannot restart the node: see `systemctl list-jobs`")]
    Reboot(#[source] io::Error),
    /// A thread of this program ended early; what it had begun may be done or not.
    #[error("a step of slipwayd ended early: report this, with the journal of the node")]
    Stopped(#[source] tokio::task::JoinError),
    /// The release failed here before.
    #[error("{0}; `slipway node clear` lets it be tried again")]
    Refused(Box<Refusal>),
    /// This boot still has to prove itself, and the other slot is what it would fall back to.
    #[error(
        "this boot is not yet found good, and the other slot is its fallback: wait for the \
             verdict (`slipway node status`)"
    )]
    NotYetJudged,
    /// What was staged is not what is to be armed.
    #[error(
        "the slot holds a root with hash {found}, which is not what is being installed: \
             stage the release again"
    )]
    NotStaged {
        /// Root hash of the slot.
        found: RootHash,
    },
    /// No generation is left for another installation.
    #[error("generation {MAX_GENERATION} is the last one: write the disk image anew to go on")]
    GenerationsExhausted,
    /// Roll back to what?
    #[error(
        "the other slot holds no release that ran here before: choose one with \
             `slipway node pin`"
    )]
    NothingToRollBackTo,
    /// The firmware got other keys since the release before ran.
    #[error("release {version} in the other slot cannot be started")]
    Firmware {
        /// The release.
        version: ReleaseVersion,
        /// What the firmware would say.
        #[source]
        source: SecureBootError,
    },
}

impl UpdateError {
    /// An error of the EFI system partition.
    pub(super) fn esp(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| UpdateError::Esp { action, source }
    }
}
