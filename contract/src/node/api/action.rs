//! What an operator asks a node to do, and what it answers.

use serde::{Deserialize, Serialize};

use super::paths;
use crate::ReleaseVersion;

/// A wish of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the channel, and follow what it says as policy allows.
    Check,
    /// Write the wanted release to the other slot, without waiting for its wave.
    Stage,
    /// Stage it, and restart into it, without waiting for wave or window.
    Update,
    /// Restart into what the other slot holds.
    Rollback,
    /// Run this release, whatever channel and group say.
    Pin(ReleaseVersion),
    /// Follow channel and group again.
    Unpin,
    /// Forget that a release was bad: this one, or all.
    Clear(Option<ReleaseVersion>),
}

impl Action {
    /// The route that takes it.
    pub fn path(&self) -> &'static str {
        match self {
            Action::Check => paths::CHECK,
            Action::Stage => paths::STAGE,
            Action::Update => paths::UPDATE,
            Action::Rollback => paths::ROLLBACK,
            Action::Pin(_) => paths::PIN,
            Action::Unpin => paths::UNPIN,
            Action::Clear(_) => paths::CLEAR,
        }
    }
}

/// Body of `POST /v1/pin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PinBody {
    /// The release.
    pub version: ReleaseVersion,
}

/// Body of `POST /v1/clear`; an empty one forgets all bad releases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClearBody {
    /// Only this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<ReleaseVersion>,
}

/// The answer to an action. What is started goes on after the answer: see the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Accepted {
    /// Is anything under way?
    pub started: Started,
    /// The release that it leads to.
    pub target: Option<ReleaseVersion>,
    /// In words.
    pub message: String,
}

/// Is anything under way?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Started {
    /// It is under way, or done already.
    Yes,
    /// The node is where it was asked to be.
    NothingToDo,
    /// Of a later generation of this software.
    #[serde(other)]
    Unknown,
}

/// What becomes of settings that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsMode {
    /// They are checked, kept and applied.
    Apply,
    /// They are only checked.
    DryRun,
}

/// The answer to settings that were sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SettingsOutcome {
    /// Fields that differ from those in force, such as `channel.mirrors`.
    pub changed: Vec<String>,
    /// Services that restart for them, such as `kubelet.service`.
    #[serde(default)]
    pub restarts: Vec<String>,
    /// In words.
    pub message: String,
}
