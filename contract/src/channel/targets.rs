//! Where things are in a channel's folder, as TUF target names and paths below its address.

use crate::{Architecture, ChannelName, Digest, GroupName, ReleaseVersion};

/// Folder of the TUF metadata.
pub const METADATA_DIR: &str = "metadata";
/// Folder of the TUF targets.
pub const TARGETS_DIR: &str = "targets";
/// Folder of the content-addressed blobs.
pub const BLOBS_DIR: &str = "blobs";

/// Largest file of metadata that a node takes, in bytes: the list of some ten thousand releases.
pub const MAX_METADATA_BYTES: u64 = 4 << 20;
/// Largest root, timestamp and snapshot, in bytes.
pub const MAX_SMALL_METADATA_BYTES: u64 = 256 << 10;
/// Most new roots that are followed at a time.
pub const MAX_ROOT_UPDATES: u64 = 256;

/// Field of the TUF root that is `true` when its keys are throw-away ones. A channel without
/// it carries no development release, and its nodes take none.
pub const DEVELOPMENT_FIELD: &str = "slipway-development";

/// Delegated TUF role that signs offers: CI.
pub const RELEASES_ROLE: &str = "releases";
/// The only targets that [`RELEASES_ROLE`] may sign.
pub const RELEASES_PATTERN: &str = "releases/*/*/offer.json";
/// Delegated TUF role that signs node groups: operators.
pub const GROUPS_ROLE: &str = "groups";
/// The only targets that [`GROUPS_ROLE`] may sign.
pub const GROUPS_PATTERN: &str = "groups/*.json";

/// Where TUF's consistent snapshots keep the target `name` with this content, below
/// [`TARGETS_DIR`].
pub fn file(name: &str, sha256: &Digest) -> String {
    format!("{sha256}.{name}")
}

/// Target of a release's offer.
pub fn offer(version: &ReleaseVersion, architecture: Architecture) -> String {
    format!("releases/{version}/{architecture}/offer.json")
}

/// Version and architecture of a target that is an offer.
pub fn parse_offer(target: &str) -> Option<(ReleaseVersion, Architecture)> {
    let (version, architecture) =
        target.strip_prefix("releases/")?.strip_suffix("/offer.json")?.split_once('/')?;
    let version: ReleaseVersion = version.parse().ok()?;
    let architecture =
        Architecture::ALL.into_iter().find(|known| known.to_string() == architecture)?;
    (offer(&version, architecture) == target).then_some((version, architecture))
}

/// Name of the channel whose document a target is.
pub fn parse_channel(target: &str) -> Option<ChannelName> {
    target.strip_prefix("channels/")?.strip_suffix(".json")?.parse().ok()
}

/// Name of the group whose document a target is.
pub fn parse_group(target: &str) -> Option<GroupName> {
    target.strip_prefix("groups/")?.strip_suffix(".json")?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_parsed_is_the_target_that_is_made() {
        let version: ReleaseVersion = "1.4.0-rc.1".parse().unwrap();
        let target = offer(&version, Architecture::X86_64);
        assert_eq!(parse_offer(&target), Some((version, Architecture::X86_64)));
        let (stable, workers) = ("stable".parse().unwrap(), "workers".parse().unwrap());
        assert_eq!(parse_channel(&channel(&stable)), Some(stable));
        assert_eq!(parse_group(&group(&workers)), Some(workers));
    }

    #[test]
    fn foreign_targets_are_no_offers_channels_or_groups() {
        for target in [
            "releases/1.0.0/x86_64/release.json",
            "releases/1.0.0/riscv/offer.json",
            "releases/one/x86_64/offer.json",
            "releases/1.0.0/x86_64/more/offer.json",
            "channels/../groups/a.json",
            "groups/a/b.json",
            "offer.json",
        ] {
            assert_eq!(parse_offer(target), None, "{target}");
            assert_eq!(parse_channel(target), None, "{target}");
            assert_eq!(parse_group(target), None, "{target}");
        }
    }
}
