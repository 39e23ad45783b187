//! Documents that are meant for a later slipwayd.

use contract::{ChannelName, GroupName, ReleaseVersion};
use semver::Version;

/// A document that this slipwayd cannot act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmetDocument {
    /// Which one.
    pub document: Lacking,
    /// The oldest slipwayd that can, when it says so.
    pub needed: Option<Version>,
    /// What this one lacks.
    pub cause: String,
}

/// Which document asks for a later slipwayd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lacking {
    /// Of the node's group.
    Group(GroupName),
    /// Of the channel.
    Channel(ChannelName),
    /// The offer of a release.
    Release(ReleaseVersion),
}
