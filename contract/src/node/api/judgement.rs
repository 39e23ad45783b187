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
    /// The release, or a document, needs a newer `slipwayd`.
    MinimumUpdater,
    /// The wanted release is blocked in the channel, or a floor on the way to it.
    Blocked,
    /// The release that runs is blocked in the channel.
    RunsBlocked,
    /// A release that may not be skipped comes first.
    Floor,
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
    /// The journal of updates, or the EFI system partition, cannot be used.
    Journal,
    /// This release runs in the place of a blessed one that used up its tries.
    Lapsed,
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
    /// What was attempted; `unknown` from a node that did not say.
    #[serde(default)]
    pub kind: ProblemKind,
    /// When.
    pub at: Timestamp,
    /// What failed.
    pub message: String,
    /// What to do.
    pub next: String,
}

/// What a node attempted when it met a problem.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ProblemKind {
    /// To take settings from one of their sources.
    Settings,
    /// To put the network settings into force.
    Network,
    /// To write what the settings say for the node's services.
    Services,
    /// To read or write the journal of updates.
    Journal,
    /// To write a release to the other slot.
    Staging,
    /// To let pods leave the node before an update that an operator asked for.
    Draining,
    /// To give a staged release the name that boots next.
    Arming,
    /// To keep a boot that was found good.
    Blessing,
    /// To end a boot that was found bad.
    FallingBack,
    /// To restart.
    Restarting,
    /// Of another generation of this software.
    #[default]
    #[serde(other)]
    Unknown,
}

impl ProblemKind {
    /// All kinds that this generation knows.
    pub const ALL: [ProblemKind; 10] = [
        ProblemKind::Settings,
        ProblemKind::Network,
        ProblemKind::Services,
        ProblemKind::Journal,
        ProblemKind::Staging,
        ProblemKind::Draining,
        ProblemKind::Arming,
        ProblemKind::Blessing,
        ProblemKind::FallingBack,
        ProblemKind::Restarting,
    ];

    /// The name in JSON and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            ProblemKind::Settings => "settings",
            ProblemKind::Network => "network",
            ProblemKind::Services => "services",
            ProblemKind::Journal => "journal",
            ProblemKind::Staging => "staging",
            ProblemKind::Draining => "draining",
            ProblemKind::Arming => "arming",
            ProblemKind::Blessing => "blessing",
            ProblemKind::FallingBack => "falling-back",
            ProblemKind::Restarting => "restarting",
            ProblemKind::Unknown => "unknown",
        }
    }
}

/// Why a release was given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CauseKind {
    /// The loader did not start it, or could not count.
    Loader,
    /// No boot came as far as the state partition.
    Kernel,
    /// The initrd did its work, and slipwayd did not begin to judge.
    Userspace,
    /// It died while slipwayd was judging it.
    Judging,
    /// A probe failed until the deadline.
    Probe,
    /// It was blessed, and then did not stand in any of the starts that the loader counted.
    Lapsed,
    /// An operator went back to the release before.
    RolledBack,
    /// Of another generation of this software.
    #[default]
    #[serde(other)]
    Unknown,
}

impl CauseKind {
    /// All kinds that this generation knows.
    pub const ALL: [CauseKind; 7] = [
        CauseKind::Loader,
        CauseKind::Kernel,
        CauseKind::Userspace,
        CauseKind::Judging,
        CauseKind::Probe,
        CauseKind::Lapsed,
        CauseKind::RolledBack,
    ];

    /// The name in JSON and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            CauseKind::Loader => "loader",
            CauseKind::Kernel => "kernel",
            CauseKind::Userspace => "userspace",
            CauseKind::Judging => "judging",
            CauseKind::Probe => "probe",
            CauseKind::Lapsed => "lapsed",
            CauseKind::RolledBack => "rolled-back",
            CauseKind::Unknown => "unknown",
        }
    }
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
    /// Why; `unknown` from a node that did not say.
    #[serde(default)]
    pub kind: CauseKind,
    /// The probe that failed, when one did.
    pub probe: Option<String>,
    /// Other probes that failed with it, as far as they are known.
    #[serde(default)]
    pub also: Vec<String>,
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
    /// Why; `unknown` from a node that did not say.
    #[serde(default)]
    pub kind: CauseKind,
    /// The probe that failed, when one did.
    pub probe: Option<String>,
    /// Other probes that failed with it, as far as they are known.
    #[serde(default)]
    pub also: Vec<String>,
    /// Why, in words.
    pub cause: String,
}
