//! What a channel says to this node, and nothing that it does not say under signatures.
//!
//! In: mirrors and the initial root from the settings, what the node remembers, and a clock
//! that can be trusted. Out: [`Found`]: the group's document, the channel's, and the offer of
//! the wanted release, each [`Verified`].
//!
//! Metadata is that of The Update Framework, by `tough`, with three things done here instead:
//! - *Expiry* is judged by [`clock::trusted_now`]: `tough` would ask the system's clock, which
//!   may stand in 1970, and refuse for ever once it had been far ahead.
//! - *Memory* is one document that is saved in one step, see [`memory`].
//! - *The newest root* is where the next look starts. `tough` compares the keys of the root
//!   that it is given with those of the newest: started from the initial root, it would drop
//!   its memory at each look once keys have been rotated, and old documents would pass.
//!
//! **Invariant:** a [`Verified`] is made in this module only, from a target whose digest was
//! signed by a role that may, under metadata that has not expired and is not older than any
//! that was believed before.

use std::path::PathBuf;
use std::sync::Arc;

use contract::channel::route::Marks;
use contract::channel::{self as channel_document, group as group_document, targets};
use contract::node::settings::Settings;
use contract::release::offer;
use contract::{
    Architecture, ChannelDocument, ChannelName, Digest, GroupName, NodeGroup, Offer, ReleaseVersion,
};
use jiff::Timestamp;
use reqwest::Url;
use tough::{IntoVec, Repository, TargetName};

use crate::effects::{Http, StateStore};
use crate::planted::{Planted, is_planted};
use crate::policy::{self, Documents, OfferFacts, Source, UnmetDocument};

pub mod clock;
mod error;
mod load;
mod memory;
mod transport;
mod watch;

pub use clock::{ClockError, ClockReading};
pub use error::ChannelError;
pub use watch::Watch;

/// A document that the channel signed, by a role that may sign it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// What the running image says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningImage {
    /// What it runs on.
    pub architecture: Architecture,
    /// It was signed with throw-away keys.
    pub is_development: bool,
    /// When it was built: no time before this one can be right.
    pub built: Timestamp,
}

/// What a client works with, beside the settings.
#[derive(Clone)]
pub struct Surroundings {
    /// For the mirrors.
    pub http: Arc<dyn Http>,
    /// Where the memory is.
    pub state: Arc<dyn StateStore>,
    /// A folder in memory that is this client's alone, such as `/run/slipway/tuf`.
    pub scratch: PathBuf,
    /// The running image.
    pub image: RunningImage,
}

/// Reads the channel of the settings.
pub struct ChannelClient {
    surroundings: Surroundings,
    mirrors: Vec<Url>,
    initial_root: Vec<u8>,
    initial: Digest,
    settings: contract::node::settings::ChannelSettings,
    time_servers: String,
    lane: tokio::sync::Mutex<()>,
}

/// What a channel says to this node.
#[derive(Debug, Clone)]
pub struct Found {
    /// The mirror that said it.
    pub mirror: Url,
    /// The document of the node's group, when there is one.
    pub group: Option<Verified<NodeGroup>>,
    /// The document of the channel that is followed; none for a pin.
    pub channel: Option<Verified<ChannelDocument>>,
    /// What the channels that count for this node mark.
    pub marks: Marks,
    /// The next release on the way to the wanted one; none when the channel does not have it, when
    /// nothing says which, or when there is no way.
    pub offer: Option<Verified<Offer>>,
    /// Documents that are meant for a later slipwayd.
    pub unmet: Vec<UnmetDocument>,
    /// When the first of the documents expires.
    pub expires: Timestamp,
    /// Part of the memory was damaged, and the node is protected from documents that are
    /// older than the part that was left.
    pub is_memory_damaged: bool,
}

impl Found {
    /// The same for [`policy::decide`].
    pub fn documents(&self) -> Documents<'_> {
        Documents {
            group: self.group.as_deref(),
            channel: self.channel.as_deref(),
            marks: &self.marks,
            offer: self.offer.as_deref().map(OfferFacts::from),
            unmet: &self.unmet,
            expires: self.expires,
        }
    }
}

impl ChannelClient {
    /// Makes a client; none for settings without a channel.
    pub fn new(settings: &Settings, surroundings: Surroundings) -> Option<Self> {
        let channel = settings.channel.clone()?;
        // A JSON value always serialises; an empty root would be refused when it is used.
        let initial_root = serde_json::to_vec(&channel.root).unwrap_or_default();
        let servers = &settings.network.time_servers;
        let time_servers =
            if servers.is_empty() { "those of the image".to_owned() } else { servers.join(", ") };
        Some(Self {
            surroundings,
            mirrors: crate::effects::http::mirrors(&channel),
            initial: Digest::of(&initial_root),
            initial_root,
            settings: channel,
            time_servers,
            lane: tokio::sync::Mutex::default(),
        })
    }

    /// Looks what the channel says to a node that runs the release `running`. `pin` is the release
    /// that an operator pinned.
    ///
    /// # Errors
    /// [`ChannelError`]; of several mirrors, that of the first which answered something wrong,
    /// or else of the first.
    pub async fn look(
        &self,
        reading: &ClockReading,
        running: &ReleaseVersion,
        pin: Option<&ReleaseVersion>,
    ) -> Result<Found, ChannelError> {
        let view = self.open(reading).await?;
        let mut unmet = Vec::new();
        let group = match &self.settings.group {
            Some(name) => met(view.group(name).await, &mut unmet)?.flatten(),
            None => None,
        };
        // Without the group's document only an operator's pin says what this node is to run.
        let is_known = unmet.is_empty() || pin.is_some();
        let source = policy::source(pin, group.as_deref(), &self.settings);
        let source = source.ok().filter(|_| is_known);
        let channel = match &source {
            Some(Source::Channel(name)) => met(view.channel(name).await, &mut unmet)?,
            _ => None,
        };
        let mut marks = match (&channel, &source) {
            (Some(channel), _) => channel.marks(),
            (None, Some(_)) => view.marks(policy::guide(group.as_deref(), &self.settings)).await?,
            (None, None) => Marks::default(),
        };
        if is_planted(Planted::FloorsSkipped) {
            marks.floors.clear();
        }
        let is_pinned = pin.is_some() && is_planted(Planted::PinPassesBlocks);
        if is_pinned || is_planted(Planted::BlocksPassed) {
            marks.blocked.clear();
        }
        let wanted = source.and_then(|source| source.version(channel.as_deref()));
        let next = wanted.and_then(|wanted| marks.route(running, &wanted).ok()?.into_iter().next());
        let offer = match next {
            Some(version) => match view.offer(&version).await {
                Ok(offer) => offer,
                Err(error) => {
                    let unfit = error.unfit(&version).ok_or(error)?;
                    tracing::warn!(
                        "slipway: the offer of release {version} cannot be used: {}",
                        unfit.cause
                    );
                    unmet.push(unfit);
                    None
                }
            },
            None => None,
        };
        let View { mirror, expires, is_memory_damaged, .. } = view;
        Ok(Found { mirror, group, channel, marks, offer, unmet, expires, is_memory_damaged })
    }
}

/// What could be read, or none and a note of what this slipwayd lacks for it.
fn met<T>(
    read: Result<T, ChannelError>,
    unmet: &mut Vec<UnmetDocument>,
) -> Result<Option<T>, ChannelError> {
    match read {
        Ok(document) => Ok(Some(document)),
        Err(error) => {
            unmet.push(error.unmet().ok_or(error)?);
            Ok(None)
        }
    }
}

/// The documents of a channel as they were at one moment.
pub struct View {
    repository: Repository,
    image: RunningImage,
    mirror: Url,
    expires: Timestamp,
    is_memory_damaged: bool,
}

impl View {
    /// The document of a group; none when the channel has none.
    ///
    /// # Errors
    /// [`ChannelError`] when there is one that cannot be fetched, or used.
    pub async fn group(
        &self,
        name: &GroupName,
    ) -> Result<Option<Verified<NodeGroup>>, ChannelError> {
        let target = targets::group(name);
        let Some(bytes) = self.target(&target, group_document::MAX_GROUP_BYTES).await? else {
            return Ok(None);
        };
        match NodeGroup::from_json(name, &bytes) {
            Ok(group) => Ok(Some(Verified(group))),
            Err(source) => Err(ChannelError::Group { name: name.clone(), target, source }),
        }
    }

    /// The document of a channel.
    ///
    /// # Errors
    /// [`ChannelError`] when there is none, or it cannot be fetched, or used.
    pub async fn channel(
        &self,
        name: &ChannelName,
    ) -> Result<Verified<ChannelDocument>, ChannelError> {
        let target = targets::channel(name);
        let Some(bytes) = self.target(&target, channel_document::MAX_CHANNEL_BYTES).await? else {
            return Err(ChannelError::NoDocument { target });
        };
        match ChannelDocument::from_json(name, &bytes) {
            Ok(channel) => Ok(Verified(channel)),
            Err(source) => Err(ChannelError::Channel { name: name.clone(), target, source }),
        }
    }

    /// What a channel marks, or all of them, as far as that can be read. Who asks does not follow
    /// the channel: one that is not there, or meant for a later slipwayd, keeps nobody from a pin.
    ///
    /// # Errors
    /// [`ChannelError`] when a document cannot be fetched.
    async fn marks(&self, channel: Option<&ChannelName>) -> Result<Marks, ChannelError> {
        let listed = self.repository.targets().signed.targets.keys();
        let listed = listed.filter_map(|name| targets::parse_channel(name.raw()));
        let names: Vec<ChannelName> = match channel {
            Some(name) => vec![name.clone()],
            None => listed.collect(),
        };
        let mut marks = Marks::default();
        for name in names {
            let target = targets::channel(&name);
            if let Some(bytes) = self.target(&target, channel_document::MAX_CHANNEL_BYTES).await? {
                marks.add(ChannelDocument::glimpse(&bytes));
            }
        }
        Ok(marks)
    }

    /// The offer of a release for this node's architecture; none when there is none.
    ///
    /// # Errors
    /// [`ChannelError`] when there is one that cannot be fetched, or is not for this node.
    pub async fn offer(
        &self,
        version: &ReleaseVersion,
    ) -> Result<Option<Verified<Offer>>, ChannelError> {
        let architecture = self.image.architecture;
        let target = targets::offer(version, architecture);
        let Some(bytes) = self.target(&target, offer::MAX_OFFER_BYTES).await? else {
            return Ok(None);
        };
        let offer = match Offer::from_json(&bytes) {
            Ok(offer) => offer,
            Err(source) => {
                let version = version.clone();
                return Err(ChannelError::Offer { version, target, source });
            }
        };
        let release = &offer.release;
        if release.version != *version || release.architecture != architecture {
            return Err(ChannelError::OtherRelease {
                version: version.clone(),
                architecture,
                found_version: release.version.clone(),
                found_architecture: release.architecture,
            });
        }
        if release.development && !self.takes_development() {
            return Err(ChannelError::Development { version: version.clone() });
        }
        Ok(Some(Verified(offer)))
    }

    /// Throw-away keys on both sides: the node's image, and the channel's root.
    fn takes_development(&self) -> bool {
        let root = &self.repository.root().signed;
        let marked = root._extra.get(targets::DEVELOPMENT_FIELD) == Some(&true.into());
        self.image.is_development && marked
    }

    /// The bytes of a target, whose digest is that of the signed metadata.
    async fn target(&self, target: &str, limit: u64) -> Result<Option<Vec<u8>>, ChannelError> {
        let failed = |error| ChannelError::from_tuf(&self.mirror, error);
        let name = TargetName::new(target).map_err(failed)?;
        let Ok(entry) = self.repository.targets().signed.find_target(&name, false) else {
            return Ok(None);
        };
        if entry.length > limit {
            let (target, bytes) = (target.to_owned(), entry.length);
            return Err(ChannelError::TooLarge { target, bytes, limit });
        }
        match self.repository.read_target(&name).await.map_err(failed)? {
            Some(stream) => Ok(Some(stream.into_vec().await.map_err(failed)?)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
