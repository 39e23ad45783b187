//! Which document says what this node runs.
//!
//! In: the operator's pin, the group's document, the settings. Out: a [`Source`], or the rule
//! that leaves the node without one. **Invariant:** an operator's pin goes before the group's,
//! and a group's document before the channel that the settings name.

use contract::node::settings::ChannelSettings;
use contract::{ChannelDocument, ChannelName, NodeGroup, ReleaseVersion};

use super::hold::Hold;

/// Where the wanted version is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An operator pinned it on this node.
    OperatorPin(ReleaseVersion),
    /// The group's document pins it.
    GroupPin(ReleaseVersion),
    /// In the document of a channel.
    Channel(ChannelName),
}

impl Source {
    /// The wanted version; none when it takes the channel's document, and that is not given or
    /// another channel's.
    pub fn version(&self, channel: Option<&ChannelDocument>) -> Option<ReleaseVersion> {
        match self {
            Source::OperatorPin(version) | Source::GroupPin(version) => Some(version.clone()),
            Source::Channel(name) => channel
                .filter(|document| document.channel == *name)
                .map(|document| document.release.clone()),
        }
    }
}

/// The channel whose floors and blocked releases count for a pin: the one that the node would
/// follow without it. None when nothing names one, and then those of every channel count.
pub fn guide<'a>(
    group: Option<&'a NodeGroup>,
    settings: &'a ChannelSettings,
) -> Option<&'a ChannelName> {
    group.and_then(|group| group.spec.channel.as_ref()).or(settings.follow.as_ref())
}

/// Finds where the wanted version is written.
///
/// # Errors
/// [`Hold::NoGroup`] when there is neither a pin, nor a document for the group, nor a channel
/// in the settings.
pub fn source(
    pin: Option<&ReleaseVersion>,
    group: Option<&NodeGroup>,
    settings: &ChannelSettings,
) -> Result<Source, Hold> {
    if let Some(version) = pin {
        return Ok(Source::OperatorPin(version.clone()));
    }
    let spec = group.map(|group| &group.spec);
    if let Some(version) = spec.and_then(|spec| spec.release.as_ref()) {
        return Ok(Source::GroupPin(version.clone()));
    }
    match guide(group, settings) {
        Some(channel) => Ok(Source::Channel(channel.clone())),
        None => Err(Hold::NoGroup { group: settings.group.clone() }),
    }
}
