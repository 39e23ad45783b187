//! `channels/<name>.json`: which release a channel points at, since when, and how fast the
//! fleet follows. A TUF target of the role `targets`.

pub mod group;
pub mod names;
pub mod route;
pub mod targets;
pub mod waves;
pub mod window;

use jiff::Timestamp;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::route::{Mark, Marks};
use self::waves::Waves;
use crate::head::{self, Document, Feature, Unmet, Unreadable};
use crate::{ChannelName, ReleaseVersion};

/// The schema that this crate writes.
pub const SCHEMA: u32 = 1;
/// Largest channel document that is read, in bytes.
pub const MAX_CHANNEL_BYTES: u64 = 64 << 10;

/// The reason of a mark that gives none which is understood.
const UNTOLD: &str = "for a reason that this slipwayd does not understand";

/// What a channel points at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelDocument {
    /// Format version, [`SCHEMA`].
    pub schema: u32,
    /// The oldest `slipwayd` that may act on the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_updater: Option<Version>,
    /// Features that its reader must know; see [`ChannelDocument::depending`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Feature>,
    /// The channel's own name, so that one document cannot stand in for another.
    pub channel: ChannelName,
    /// The release that nodes of this channel run.
    pub release: ReleaseVersion,
    /// When the waves start.
    pub since: Timestamp,
    /// Which share of the nodes may start when; a group's own waves come before these.
    #[serde(default, skip_serializing_if = "Waves::is_empty")]
    pub waves: Waves,
    /// Why no node may start an update at present; absent when they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// Releases that may not be skipped on the way up, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<Mark>,
    /// Releases that must not be taken, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<Mark>,
}

impl InvalidChannel {
    /// What the reader lacks, when that is all that is wrong.
    pub fn unmet(&self) -> Option<&Unmet> {
        match self {
            InvalidChannel::Read(error) => error.unmet(),
            _ => None,
        }
    }
}

impl Document for ChannelDocument {
    const MAX_BYTES: u64 = MAX_CHANNEL_BYTES;
}

/// Why a channel document was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidChannel {
    /// It cannot be read.
    #[error("the channel document cannot be read")]
    Read(#[from] Unreadable),
    /// It belongs to another channel.
    #[error("this is the document of channel `{found}`, not of `{expected}`")]
    Name {
        /// Whose document was asked for.
        expected: ChannelName,
        /// Whose it is.
        found: ChannelName,
    },
}

impl ChannelDocument {
    /// Parses and checks the document of channel `name`.
    ///
    /// # Errors
    /// [`InvalidChannel`].
    pub fn from_json(name: &ChannelName, bytes: &[u8]) -> Result<Self, InvalidChannel> {
        let document: Self = head::read(bytes)?;
        if document.channel != *name {
            let (expected, found) = (name.clone(), document.channel);
            return Err(InvalidChannel::Name { expected, found });
        }
        Ok(document)
    }

    /// What it marks.
    pub fn marks(&self) -> Marks {
        Marks { floors: self.floors.clone(), blocked: self.blocked.clone() }
    }

    /// What a document marks, as far as that can be read of one that is meant for a later reader:
    /// one mark that is not understood takes none of the others away, and one without a reason of
    /// ours counts too.
    pub fn glimpse(bytes: &[u8]) -> Marks {
        let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let mark = |mark: &Value| {
            let release = ReleaseVersion::deserialize(mark.get("release").unwrap_or(mark)).ok()?;
            let reason = mark.get("reason").and_then(Value::as_str).unwrap_or(UNTOLD);
            Some(Mark { release, reason: reason.to_owned() })
        };
        let marks = |field: &str| -> Vec<Mark> {
            document[field].as_array().into_iter().flatten().filter_map(mark).collect()
        };
        Marks { floors: marks(head::FLOORS), blocked: marks(head::BLOCKED) }
    }

    /// The same, with `requires` naming each feature that its content depends on.
    #[must_use]
    pub fn depending(mut self) -> Self {
        self.requires.retain(|feature| !feature.is_known());
        let used = [(head::FLOORS, &self.floors), (head::BLOCKED, &self.blocked)];
        let used = used.into_iter().filter(|(_, marks)| !marks.is_empty());
        self.requires.extend(used.map(|(name, _)| Feature::known(name)));
        self
    }

    /// The text that is published.
    ///
    /// # Errors
    /// Only when serialisation fails, which no value of this type causes.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"schema":1,"channel":"stable","release":"1.4.0",
        "since":"2026-11-25T12:00:00Z","waves":[{"share":0.1,"after":"0s"},{"share":1.0,"after":"4h"}]}"#;

    #[test]
    fn survives_a_round_trip() {
        let name = "stable".parse().unwrap();
        let document = ChannelDocument::from_json(&name, TEXT.as_bytes()).unwrap();
        let text = document.to_json().unwrap();
        assert_eq!(ChannelDocument::from_json(&name, text.as_bytes()).unwrap(), document);
    }

    #[test]
    fn a_mark_that_is_not_understood_takes_no_other_away() {
        let text = r#"{"requires": ["cohorts"], "release": {"of": "cohorts"},
            "floors": {"by": "cohort"},
            "blocked": [{"release": "1.8.0", "reason": "loses volumes", "for": "blue"}, 7,
                {"release": "latest"}, {"release": "1.9.0", "reason": {"de": "x"}}, "2.0.0"]}"#;
        let marks = ChannelDocument::glimpse(text.as_bytes());
        let blocked: Vec<_> = marks.blocked.iter().map(|mark| mark.release.to_string()).collect();
        assert_eq!(blocked, ["1.8.0", "1.9.0", "2.0.0"]);
        assert_eq!(marks.blocked[0].reason, "loses volumes");
        assert_eq!((marks.floors.len(), marks.blocked[1].reason.as_str()), (0, UNTOLD));
        assert_eq!(ChannelDocument::glimpse(b"[1, 2"), Marks::default());
    }

    #[test]
    fn another_channels_document_is_refused() {
        let name = "beta".parse().unwrap();
        let result = ChannelDocument::from_json(&name, TEXT.as_bytes());
        assert!(matches!(result, Err(InvalidChannel::Name { .. })));
    }
}
