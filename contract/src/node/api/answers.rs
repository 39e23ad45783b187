//! The other answers: why a node stays where it is, what happened, and what differs from
//! what was signed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Hold;
use crate::ReleaseVersion;

/// `GET /v1/why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Why {
    /// The release that runs.
    pub running: Option<ReleaseVersion>,
    /// The release that should run.
    pub wanted: Option<ReleaseVersion>,
    /// The releases to take, one after the other; the last is the wanted one. Empty when no way is
    /// known, and from a node that does not say.
    #[serde(default)]
    pub way: Vec<ReleaseVersion>,
    /// Each rule that holds the node where it is.
    pub holds: Vec<Hold>,
}

/// `GET /v1/history`: the newest event last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// What happened.
    pub events: Vec<Event>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// When, by the node's clock.
    pub at: Timestamp,
    /// What.
    pub kind: EventKind,
    /// The release that it is about.
    pub version: Option<ReleaseVersion>,
    /// Number of the installation that it is about.
    pub generation: Option<u32>,
    /// In words.
    pub message: String,
}

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs)]
pub enum EventKind {
    Staged,
    StageFailed,
    Armed,
    Booted,
    Blessed,
    Condemned,
    FellBack,
    RolledBack,
    Pinned,
    Unpinned,
    Cleared,
    SettingsChanged,
    JournalDamaged,
    #[serde(other)]
    Unknown,
}

impl EventKind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Staged => "staged",
            EventKind::StageFailed => "stage failed",
            EventKind::Armed => "armed",
            EventKind::Booted => "booted",
            EventKind::Blessed => "blessed",
            EventKind::Condemned => "condemned",
            EventKind::FellBack => "fell back",
            EventKind::RolledBack => "rolled back",
            EventKind::Pinned => "pinned",
            EventKind::Unpinned => "unpinned",
            EventKind::Cleared => "cleared",
            EventKind::SettingsChanged => "settings changed",
            EventKind::JournalDamaged => "journal damaged",
            EventKind::Unknown => "other",
        }
    }
}

/// How much is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Depth {
    /// Hash trees, UKIs and names: a few MiB are read.
    #[default]
    Quick,
    /// Every byte of both slots.
    Full,
}

/// `GET /v1/drift`: the node beside what was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Drift {
    /// When it was compared.
    pub at: Timestamp,
    /// How much.
    pub depth: Depth,
    /// What was compared, each with its outcome.
    pub items: Vec<DriftItem>,
}

impl Drift {
    /// What differs.
    pub fn differing(&self) -> impl Iterator<Item = &DriftItem> {
        self.items.iter().filter(|item| item.outcome == Outcome::Differs)
    }

    /// What could not be compared.
    pub fn unknown(&self) -> impl Iterator<Item = &DriftItem> {
        self.items.iter().filter(|item| item.outcome == Outcome::Unknown)
    }
}

/// One thing that was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DriftItem {
    /// What.
    pub subject: Subject,
    /// Which one, such as `slot a` or a path.
    pub name: String,
    /// How it compares.
    pub outcome: Outcome,
    /// In words, with both sides where they differ.
    pub detail: String,
}

/// What can drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Subject {
    /// The root hash that the kernel was started with.
    RootHash,
    /// The device that the root is mounted from.
    RootDevice,
    /// A UKI on the EFI system partition.
    Uki,
    /// Hash tree of a slot.
    HashTree,
    /// Content of a slot.
    Slot,
    /// A file in a folder where network add-ons may write.
    File,
    /// A mount over a folder of the image.
    Mount,
    /// Of a later generation of this software.
    #[serde(other)]
    Unknown,
}

/// How something compares with what was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Outcome {
    /// As it was signed.
    Same,
    /// Not as it was signed.
    Differs,
    /// Not part of what was signed, in a place where others may write.
    Added,
    /// It could not be compared.
    #[serde(other)]
    Unknown,
}

/// What `GET /v1/logs` takes. The answer is one JSON object for each journal entry, a line
/// each, with journald's field names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogsQuery {
    /// Only this systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Only entries of the last so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// The newest so many entries; 100 when not given, at most [`super::MAX_LOG_LINES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// Go on with new entries as they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
    /// Boot: 0 is this one, -1 the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<i32>,
}
