//! Where things are in a channel's folder, as TUF target names and paths below its address.

use crate::{Architecture, ChannelName, Digest, GroupName, ReleaseVersion};

/// Folder of the TUF metadata.
pub const METADATA_DIR: &str = "metadata";
/// Folder of the TUF targets.
pub const TARGETS_DIR: &str = "targets";
/// Folder of the content-addressed blobs.
pub const BLOBS_DIR: &str = "blobs";

/// Delegated TUF role that signs offers: CI.
pub const RELEASES_ROLE: &str = "releases";
/// The only targets that [`RELEASES_ROLE`] may sign.
pub const RELEASES_PATTERN: &str = "releases/*/*/offer.json";
/// Delegated TUF role that signs node groups: operators.
pub const GROUPS_ROLE: &str = "groups";
/// The only targets that [`GROUPS_ROLE`] may sign.
pub const GROUPS_PATTERN: &str = "groups/*.json";

/// Target of a release's offer.
pub fn offer(version: &ReleaseVersion, architecture: Architecture) -> String {
    format!("releases/{version}/{architecture}/offer.json")
}

/// Target of a channel's document.
pub fn channel(name: &ChannelName) -> String {
    format!("channels/{name}.json")
}

/// Target of a node group.
pub fn group(name: &GroupName) -> String {
    format!("groups/{name}.json")
}

/// Path of a blob below the channel's address.
pub fn blob(sha256: &Digest) -> String {
    format!("{BLOBS_DIR}/{sha256}")
}
