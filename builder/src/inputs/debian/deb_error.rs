//! Why a `.deb` is refused.

use std::io;

/// Why a package is refused; its name is added by the caller.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// Not a `.deb`, or cut off.
    #[error("it is not a whole Debian package: {0}")]
    Format(String),
    /// More than any honest package needs.
    #[error("it unpacks to more than {0}")]
    TooLarge(String),
    /// An entry that has no place in an image.
    #[error("its entry `{path}` {reason}")]
    Entry {
        /// As written in the package, shortened.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The unpacked files cannot be written.
    #[error("its files cannot be written")]
    Write(#[source] io::Error),
}
