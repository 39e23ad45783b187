//! Which release it is, as a node tells it.

use std::fmt;

use contract::{ReleaseVersion, RootHash};
use serde::{Deserialize, Serialize};

/// A release as this node tells it from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseId {
    /// Its version.
    pub version: ReleaseVersion,
    /// Its root hash.
    pub root_hash: RootHash,
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)
    }
}
