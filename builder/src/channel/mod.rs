//! Channels: folders of static files that nodes follow.
//!
//! In: release folders, names that operators give, keys. Out: blobs, documents, and metadata
//! of The Update Framework that says which of them count. Each command locks the folder, checks
//! what is there as a node would, makes the next state in memory, asks a client whether it
//! would take it, and only then writes.
//!
//! **Invariant:** a reader sees the state before a command or the one after it.
//! **Invariant:** nothing that a node would refuse is written.

pub mod client;
pub mod commit;
mod documents;
mod error;
pub mod folder;
pub mod group_file;
mod init;
mod marks;
pub mod metadata;
pub mod payload;
mod prune;
mod publish;
mod refresh;
pub mod release_folder;
pub mod roles;
mod rotate;
pub mod state;
mod strict;
mod verify;

use std::path::Path;

pub use commit::Lifetimes;
pub use documents::{
    ChannelSet, ChannelSetting, Pause, Since, remove_channel, remove_group, set_channel, set_group,
};
pub use error::ChannelError;
pub use folder::Folder;
pub use init::{RootKeys, create, init, root};
pub use marks::{MarkChange, MarkError};
pub use prune::{PruneRequest, Pruned, prune};
pub use publish::{DEFAULT_LEVEL, MINIMUM_UPDATER, PublishRequest, PublishedRelease, publish};
pub use refresh::refresh;
pub use rotate::{RotateRequest, rotate};
pub use state::State;
pub use verify::{Verified, verify};

/// Locks the folder of a channel.
///
/// # Errors
/// [`ChannelError::NotAChannel`], [`ChannelError::Locked`].
pub fn open(path: &Path) -> Result<Folder, ChannelError> {
    if !path.join(state::TIMESTAMP_FILE).is_file() {
        return Err(ChannelError::NotAChannel(path.into()));
    }
    Folder::lock(path)
}
