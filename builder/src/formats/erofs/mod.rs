//! erofs, uncompressed: the root file system.
//!
//! In: a [`Tree`](crate::formats::tree::Tree). Out: an image whose bytes depend on the tree and
//! [`Options`] alone. Uncompressed on purpose: updates are small because equal blocks stay
//! equal. The format is that of the kernel's `fs/erofs/erofs_fs.h`.

mod format;
mod plan;
mod read;
mod write;

use std::io;

use crate::formats::tree::TreePath;

pub use read::{ReadEntry, ReadError, ReadKind, read};
pub use write::write;

/// What the bytes depend on besides the tree.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// UUID of the file system.
    pub uuid: [u8; 16],
    /// Modification time of every entry, in seconds since 1970.
    pub time: u64,
}

/// Why no image was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// An entry whose folder is not in the tree.
    #[error("{0} has no folder above it in the tree")]
    NoParent(TreePath),
    /// A hard link to something that is no regular file.
    #[error("the hard link {path} names {target}, which is not a file of the tree")]
    HardLink {
        /// The link.
        path: TreePath,
        /// What it names.
        target: TreePath,
    },
    /// An extended attribute that erofs cannot hold.
    #[error("{path} has the extended attribute {name}, which erofs cannot hold")]
    Attribute {
        /// The entry.
        path: TreePath,
        /// Attribute name.
        name: String,
    },
    /// Over what 32-bit block numbers reach.
    #[error("the tree needs more than 16 TiB")]
    TooLarge,
    /// A file of the tree cannot be read.
    #[error("cannot read the content of {path}: clear the cache and build again")]
    Content {
        /// The entry.
        path: TreePath,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file of the tree has other bytes than it had.
    #[error("the content of {0} has changed in the cache: clear the cache and build again")]
    Changed(TreePath),
    /// The image cannot be written.
    #[error("cannot write the root file system: check that the disk is not full")]
    Write(#[source] io::Error),
}
