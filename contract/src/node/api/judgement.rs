//! What a node was told to follow, what holds it, and what it thinks of releases.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ChannelName, GroupName, ReleaseVersion, RootHash};

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// What it says.
    pub state: ProbeState,
    /// In words, when it does not pass.
    pub message: Option<String>,
}

/// What a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ProbeState {
    /// Well.
    Passing,
    /// Not well.
    Failing,
    /// It was not asked yet.
    #[serde(other)]
    Unknown,
}

/// Whom the node follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Follows {
    /// Node group.
    pub group: Option<GroupName>,
    /// Channel.
    pub channel: Option<ChannelName>,
    /// One release, whatever the channel says.
    pub pin: Option<Pin>,
    /// No newer release than this.
    pub maximum_version: Option<ReleaseVersion>,
}

/// A node that is held at one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pin {
    /// The release.
    pub version: ReleaseVersion,
    /// Who pinned it.
    pub by: PinnedBy,
}

/// Who pinned a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PinnedBy {
    /// The document of the node's group.
    Group,
    /// An operator, through this API.
    Operator,
    /// Of a later generation of this software.
    #[serde(other)]
    Unknown,
}

/// A rule that holds the node where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hold {
    /// Which rule.
    pub rule: Rule,
    /// What it says, in one sentence.
    pub sentence: String,
    /// When it ends, when that is known.
    pub ends: Option<Timestamp>,
}

/// The rules that can hold a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Rule {
    /// It runs what it should run.
    UpToDate,
    /// Channel or group is paused.
    Paused,
    /// The group allows no newer release.
    MaximumVersion,
    /// The node's wave has not come.
    Wave,
    /// Outside of the maintenance windows.
    Window,
    /// The release needs a newer `slipwayd`.
    MinimumUpdater,
    /// The EFI system partition is too full.
    EspRoom,
    /// The release could not be written to the other slot.
    StageFailed,
    /// The release's kubelet and the API server do not go together, or the latter is silent.
    VersionSkew,
    /// The release was bad on this node.
    Refused,
    /// The clock cannot be trusted.
    Clock,
    /// There are no settings.
    NoSettings,
    /// The group has no document.
    NoGroup,
    /// The channel cannot be reached, or what it says cannot be trusted.
    Channel,
    /// A release is staged and waits.
    Staged,
    /// Pods have not left the node.
    Drain,
    /// The node acts only when told to.
    Manual,
    /// An operator pinned a release.
    Pinned,
    /// This boot is being judged.
    Judging,
    /// A rule of a later generation of this software.
    #[serde(other)]
    Unknown,
}

/// One look at the channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Check {
    /// When.
    pub at: Timestamp,
    /// How it went.
    pub outcome: CheckOutcome,
    /// In words.
    pub message: String,
}

/// How a look at the channel went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CheckOutcome {
    /// The channel answered and is trusted.
    Succeeded,
    /// It did not answer, or is not trusted.
    Failed,
    /// Of a later generation of this software.
    #[serde(other)]
    Unknown,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// When.
    pub at: Timestamp,
    /// What failed.
    pub message: String,
    /// What to do.
    pub next: String,
}

/// How far a release got before it was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Reached {
    /// Firmware or loader did not start it.
    Loader,
    /// The kernel was started; the initrd left no trace.
    Kernel,
    /// The initrd did its work; nothing judged the boot.
    Userspace,
    /// A probe failed.
    Probe,
    /// Of a later generation of this software.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reached::Loader => "the loader",
            Reached::Kernel => "kernel or initrd",
            Reached::Userspace => "userspace",
            Reached::Probe => "a probe",
            Reached::Unknown => "an unknown step",
        })
    }
}

/// A release that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fallback {
    /// Its version, when known.
    pub version: Option<ReleaseVersion>,
    /// Number of its installation.
    pub generation: u32,
    /// When the old slot found out.
    pub at: Timestamp,
    /// How far it got.
    pub reached: Reached,
    /// Why, in words.
    pub cause: String,
}

/// A release that the node does not try again by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefusedRelease {
    /// Its version, when known.
    pub version: Option<ReleaseVersion>,
    /// Its root hash: this is what is refused, under any version.
    pub root_hash: RootHash,
    /// Since when.
    pub since: Timestamp,
    /// How far it got.
    pub reached: Reached,
    /// Why, in words.
    pub cause: String,
}
