//! Why a channel is not believed, or not reached: one sentence each.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use contract::channel::InvalidChannel;
use contract::channel::group::InvalidGroupJson;
use contract::release::offer::InvalidOffer;
use contract::{Architecture, ChannelName, GroupName, ReleaseVersion};
use jiff::Timestamp;
use reqwest::Url;
use tough::error::Error as Tuf;

use super::clock::ClockError;
use super::transport::HttpRefusal;
use crate::chain;
use crate::policy::{Lacking, UnmetDocument};

/// Why a channel is not believed, or not reached.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Nobody knows what time it is, so nobody knows what has expired.
    #[error("{reason}: waiting for a time server ({servers}), see `network.timeServers`")]
    Clock {
        /// What is wrong with the clock.
        reason: ClockError,
        /// Who is asked for the time.
        servers: String,
    },
    /// The state partition.
    #[error("what the node remembers of the channel cannot be kept: check the state partition")]
    State(#[source] io::Error),
    /// The channel does not answer.
    #[error("the channel {mirror} cannot be reached: check network, proxy and `channel.mirrors`")]
    Network {
        /// Which mirror.
        mirror: String,
        /// What the network says.
        #[source]
        source: Box<Tuf>,
    },
    /// The server answers, and has no channel.
    #[error(
        "there is no channel at {mirror}: check `channel.mirrors`, or run `slipway channel init`"
    )]
    Absent {
        /// Which mirror.
        mirror: String,
        /// What is missing.
        #[source]
        source: Box<Tuf>,
    },
    /// A signed document is too old: nobody refreshed it, or somebody keeps newer ones back.
    #[error(
        "the {role} document of {mirror} expired at {since:.0} (freeze), the clock reads {now:.0}: \
         run `slipway channel refresh`"
    )]
    Expired {
        /// Which mirror.
        mirror: String,
        /// Which TUF role.
        role: String,
        /// When it expired.
        since: Timestamp,
        /// The time on this node.
        now: Timestamp,
    },
    /// A signed document is older than one that was seen before.
    #[error("{mirror} serves older documents than before (rollback): bring it up to date")]
    RolledBack {
        /// Which mirror.
        mirror: String,
        /// Which document.
        #[source]
        source: Box<Tuf>,
    },
    /// A document that is not signed by those who may, or is not the one that was signed.
    #[error(
        "{mirror} serves documents that are not signed as they must be: run `slipway channel verify`"
    )]
    Signature {
        /// Which mirror.
        mirror: String,
        /// Which document.
        #[source]
        source: Box<Tuf>,
    },
    /// The root of the settings is none.
    #[error("`channel.root` in the settings is no valid root: put in the channel's `root.json`")]
    InitialRoot(#[source] Box<Tuf>),
    /// A document that cannot be read.
    #[error("{mirror} serves metadata that cannot be read: run `slipway channel verify`")]
    Malformed {
        /// Which mirror.
        mirror: String,
        /// What is wrong.
        #[source]
        source: Box<Tuf>,
    },
    /// A document over its bound.
    #[error("the document {target} has {bytes} bytes: at most {limit} are allowed")]
    TooLarge {
        /// Which document.
        target: String,
        /// Its size.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// There is no document for the channel that is followed.
    #[error("the channel has no document {target}: run `slipway channel set`")]
    NoDocument {
        /// Which document.
        target: String,
    },
    /// A signed group document that cannot be used.
    #[error("the document {target} cannot be used: correct it with `slipway group set`")]
    Group {
        /// Whose.
        name: GroupName,
        /// Which document.
        target: String,
        /// What is wrong.
        #[source]
        source: InvalidGroupJson,
    },
    /// A signed channel document that cannot be used.
    #[error("the document {target} cannot be used: correct it with `slipway channel set`")]
    Channel {
        /// Whose.
        name: ChannelName,
        /// Which document.
        target: String,
        /// What is wrong.
        #[source]
        source: InvalidChannel,
    },
    /// A signed offer that cannot be used.
    #[error("the document {target} cannot be used: publish the release again under a new version")]
    Offer {
        /// Of which release.
        version: ReleaseVersion,
        /// Which document.
        target: String,
        /// What is wrong.
        #[source]
        source: InvalidOffer,
    },
    /// An offer that stands in another one's place.
    #[error(
        "the offer of release {version} for {architecture} describes release {found_version} for \
         {found_architecture}: publish it again under a new version"
    )]
    OtherRelease {
        /// Version that was asked for.
        version: ReleaseVersion,
        /// Architecture of this node.
        architecture: Architecture,
        /// Version in the offer.
        found_version: ReleaseVersion,
        /// Architecture in the offer.
        found_architecture: Architecture,
    },
    /// A release that was signed with throw-away keys.
    #[error(
        "release {version} is a development build, which this node or channel does not take: \
         build it with real keys"
    )]
    Development {
        /// Its version.
        version: ReleaseVersion,
    },
}

impl ChannelError {
    /// One sentence for operators, with the innermost cause.
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        let mut innermost = None;
        while let Some(error) = cause {
            innermost = Some(error.to_string());
            cause = error.source();
        }
        // An address keeps its form.
        if let Some(first) = text.get(..1).filter(|_| !text.starts_with("http")) {
            text = first.to_uppercase() + text.get(1..).unwrap_or_default();
        }
        match innermost {
            Some(cause) => format!("{text} ({}).", cause.trim_end_matches('.')),
            None => text + ".",
        }
    }

    /// What this slipwayd lacks for a document, when that is all that is wrong with it.
    pub fn unmet(&self) -> Option<UnmetDocument> {
        let (document, source) = match self {
            ChannelError::Group { name, source, .. } => {
                (Lacking::Group(name.clone()), source.unmet())
            }
            ChannelError::Channel { name, source, .. } => {
                (Lacking::Channel(name.clone()), source.unmet().cloned())
            }
            ChannelError::Offer { version, source, .. } => {
                (Lacking::Release(version.clone()), source.unmet().cloned())
            }
            _ => return None,
        };
        let unmet = source?;
        let needed = unmet.minimum_updater.clone();
        Some(UnmetDocument { document, needed, cause: unmet.to_string() })
    }

    /// The same of an offer that was read and is not for this node: it must not keep what group and
    /// channel say, such as a block, from counting.
    pub(super) fn unfit(&self, version: &ReleaseVersion) -> Option<UnmetDocument> {
        match self {
            ChannelError::Offer { .. }
            | ChannelError::OtherRelease { .. }
            | ChannelError::Development { .. }
            | ChannelError::TooLarge { .. } => self.unmet().or_else(|| {
                let document = Lacking::Release(version.clone());
                Some(UnmetDocument { document, needed: None, cause: chain(self) })
            }),
            _ => None,
        }
    }

    /// How long the server asked to be left alone, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(refusal) = error.downcast_ref::<HttpRefusal>() {
                return refusal.retry_after;
            }
            cause = error.source();
        }
        None
    }

    /// True when the clock is the reason.
    pub fn is_clock(&self) -> bool {
        matches!(self, ChannelError::Clock { .. })
    }

    /// True when another mirror may do better, and nobody did anything wrong.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, ChannelError::Network { .. } | ChannelError::Absent { .. })
    }

    /// Sorts what `tough` says when it talks to a mirror.
    pub(super) fn from_tuf(mirror: &Url, error: Tuf) -> Self {
        let mirror = mirror.to_string();
        let kind = Kind::of(&error);
        let source = Box::new(error);
        match kind {
            Kind::Absent => Self::Absent { mirror, source },
            Kind::Network => Self::Network { mirror, source },
            Kind::RolledBack => Self::RolledBack { mirror, source },
            Kind::Signature => Self::Signature { mirror, source },
            Kind::InitialRoot => Self::InitialRoot(source),
            Kind::Malformed => Self::Malformed { mirror, source },
            Kind::State => Self::State(io::Error::other(source)),
        }
    }
}

enum Kind {
    Absent,
    Network,
    RolledBack,
    Signature,
    InitialRoot,
    Malformed,
    State,
}

impl Kind {
    fn of(error: &Tuf) -> Self {
        match error {
            Tuf::Transport { source, .. } => match source.source() {
                // A digest that does not fit, or too many bytes, comes out of the stream.
                Some(inner) if inner.downcast_ref::<Tuf>().is_some() => Self::Signature,
                _ if source.kind() == tough::TransportErrorKind::FileNotFound => Self::Absent,
                _ => Self::Network,
            },
            Tuf::OlderMetadata { .. }
            | Tuf::OlderSnapshotInTimestamp { .. }
            | Tuf::SnapshotRoleMissing { .. }
            | Tuf::SnapshotRoleRollback { .. } => Self::RolledBack,
            Tuf::VerifyMetadata { .. }
            | Tuf::VerifyRoleMetadata { .. }
            | Tuf::VersionMismatch { .. }
            | Tuf::HashMismatch { .. }
            | Tuf::MaxSizeExceeded { .. }
            | Tuf::InvalidPath { .. } => Self::Signature,
            Tuf::ParseTrustedMetadata { .. } | Tuf::VerifyTrustedMetadata { .. } => {
                Self::InitialRoot
            }
            // The working folder is in memory; a clock that steps back between two reads of
            // one look is as rare, and as well met by looking again.
            Tuf::DatastoreInit { .. }
            | Tuf::DatastoreOpen { .. }
            | Tuf::DatastoreCreate { .. }
            | Tuf::DatastoreRemove { .. }
            | Tuf::DatastoreSerialize { .. }
            | Tuf::SystemTimeSteppedBackward { .. } => Self::State,
            _ => Self::Malformed,
        }
    }
}
