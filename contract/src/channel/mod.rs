//! `channels/<name>.json`: which release a channel points at, since when, and how fast the
//! fleet follows. A TUF target of the role `targets`.

pub mod group;
pub mod names;
pub mod targets;
pub mod waves;
pub mod window;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::waves::Waves;
use crate::{ChannelName, ReleaseVersion};

/// The schema that this crate writes and reads.
pub const SCHEMA: u32 = 1;
/// Largest channel document that is read, in bytes.
pub const MAX_CHANNEL_BYTES: u64 = 64 << 10;

/// What a channel points at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelDocument {
    /// Format version, [`SCHEMA`].
    pub schema: u32,
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
}

/// Why a channel document was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidChannel {
    /// Not JSON, or not this shape.
    #[error("not a channel document")]
    Json(#[from] serde_json::Error),
    /// Written by another generation of this software.
    #[error("the channel document has schema {0}, this program reads {SCHEMA}")]
    Schema(u32),
    /// Over [`MAX_CHANNEL_BYTES`].
    #[error("the channel document has {0} bytes, more than the allowed {MAX_CHANNEL_BYTES}")]
    TooLarge(u64),
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
        if bytes.len() as u64 > MAX_CHANNEL_BYTES {
            return Err(InvalidChannel::TooLarge(bytes.len() as u64));
        }
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let head: Head = serde_json::from_slice(bytes)?;
        if head.schema != SCHEMA {
            return Err(InvalidChannel::Schema(head.schema));
        }
        let document: Self = serde_json::from_slice(bytes)?;
        if document.channel != *name {
            let (expected, found) = (name.clone(), document.channel);
            return Err(InvalidChannel::Name { expected, found });
        }
        Ok(document)
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
    fn another_channels_document_is_refused() {
        let name = "beta".parse().unwrap();
        let result = ChannelDocument::from_json(&name, TEXT.as_bytes());
        assert!(matches!(result, Err(InvalidChannel::Name { .. })));
    }
}
