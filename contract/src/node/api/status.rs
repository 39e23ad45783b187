//! `GET /v1/status`: everything that a node says of itself, in one answer.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Check, Drift, Fallback, Follows, Hold, Probe, Problem, RefusedRelease};
use crate::{ReleaseVersion, RootHash, Slot};

/// The state of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// Machine id, 32 hexadecimal digits.
    pub machine_id: String,
    /// Host name.
    pub hostname: String,
    /// Addresses under which others may reach the node.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
    /// What runs.
    pub running: Running,
    /// The other slot, when it could be started.
    pub other: Option<OtherSlot>,
    /// How far an update is.
    pub phase: Phase,
    /// The release that the update leads to.
    pub target: Option<ReleaseVersion>,
    /// Bytes so far, while staging.
    pub progress: Option<Progress>,
    /// What each probe said last.
    pub health: Vec<Probe>,
    /// Whom the node follows.
    pub follows: Follows,
    /// Each rule that holds the node where it is.
    pub holds: Vec<Hold>,
    /// The last time that the channel was asked.
    pub last_check: Option<Check>,
    /// What the last attempt failed with, until one succeeds.
    pub problem: Option<Problem>,
    /// The last time that a release was given up.
    pub fallback: Option<Fallback>,
    /// Releases that the node does not try again by itself.
    pub refused: Vec<RefusedRelease>,
    /// The last comparison with what was signed.
    pub drift: Option<Drift>,
    /// The settings in force; none before there are any.
    pub settings: Option<SettingsState>,
    /// Time on the node.
    pub clock: NodeClock,
    /// Version of `slipwayd`.
    pub updater: String,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Running {
    /// Name of the image.
    pub image: Option<String>,
    /// Version of the release.
    pub version: Option<ReleaseVersion>,
    /// Root hash as the kernel was started with it.
    pub root_hash: Option<RootHash>,
    /// Slot.
    pub slot: Slot,
    /// Number of the installation.
    pub generation: u32,
    /// Is this boot known to be good?
    pub boot: Boot,
    /// Starts that the loader still grants; none where they are not counted.
    pub tries_left: Option<u32>,
}

/// Is this boot known to be good?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Boot {
    /// Yes, for good.
    Blessed,
    /// It is being judged.
    Pending,
    /// No: the node is about to restart into the other slot.
    Condemned,
    /// Of a later generation of this software.
    #[serde(other)]
    Unknown,
}

/// The slot that does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OtherSlot {
    /// Which one.
    pub slot: Slot,
    /// Number of its installation.
    pub generation: u32,
    /// Version, when known.
    pub version: Option<ReleaseVersion>,
}

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Phase {
    /// None is under way.
    Idle,
    /// Bytes move into the other slot.
    Staging,
    /// The other slot is written and verified; it would not be started yet.
    Staged,
    /// The node's pods leave, before it restarts into what is staged.
    Draining,
    /// The next start takes the other slot.
    Armed,
    /// The new release runs and is being judged.
    Pending,
    /// The verdict was bad: the node restarts into the old slot.
    FallingBack,
    /// Of a later generation of this software.
    #[serde(other)]
    Unknown,
}

impl Phase {
    /// All phases that this generation knows.
    pub const ALL: [Phase; 7] = [
        Phase::Idle,
        Phase::Staging,
        Phase::Staged,
        Phase::Draining,
        Phase::Armed,
        Phase::Pending,
        Phase::FallingBack,
    ];

    /// The name in JSON and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Staging => "staging",
            Phase::Staged => "staged",
            Phase::Draining => "draining",
            Phase::Armed => "armed",
            Phase::Pending => "pending",
            Phase::FallingBack => "falling-back",
            Phase::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::FallingBack => "falling back",
            other => other.name(),
        })
    }
}

/// Bytes so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// How the bytes move.
    pub way: Option<TransferWay>,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
}

/// A step of staging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Step {
    /// The root file system is written.
    WritingRoot,
    /// It is read back and verified.
    CheckingRoot,
    /// The UKI is written.
    WritingUki,
    /// It is read back and verified.
    CheckingUki,
    /// Of a later generation of this software.
    #[serde(other)]
    Unknown,
}

/// How bytes move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TransferWay {
    /// All of them.
    Full,
    /// Blocks that the node does not have.
    Blocks,
    /// A difference.
    Patch,
    /// Of a later generation of this software.
    #[serde(other)]
    Unknown,
}

impl TransferWay {
    /// The name in JSON and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            TransferWay::Full => "full",
            TransferWay::Blocks => "blocks",
            TransferWay::Patch => "patch",
            TransferWay::Unknown => "unknown",
        }
    }
}

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SettingsState {
    /// Schema of the document as it was given; a release that knows it can read them.
    pub schema: u32,
    /// Where they came from.
    pub source: String,
}

/// Time on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeClock {
    /// The system's clock, right or wrong.
    pub now: Timestamp,
    /// True once a time server has set it in this boot.
    pub synchronized: bool,
    /// Seconds since the kernel started.
    pub uptime_seconds: u64,
}
