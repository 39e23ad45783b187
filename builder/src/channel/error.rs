//! Why a command on a channel did not do what it should.

use std::io;
use std::path::PathBuf;

use contract::{ChannelName, Digest, GroupName, ReleaseVersion, RootHash};
use jiff::Timestamp;

use super::client::ClientError;
use super::metadata::MetadataError;
use crate::fault::Fault;
use crate::signing::keys::KeyError;

/// A failure of one of the commands on a channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// No channel is there.
    #[error("{} is no channel folder: make one with `slipway channel init`", .0.display())]
    NotAChannel(PathBuf),
    /// A channel is there already.
    #[error("{} is a channel folder already: give another folder, or change it with the other `slipway channel` commands", .0.display())]
    Exists(PathBuf),
    /// Something else is there.
    #[error("{} holds `{name}`, which is no part of a channel: give a new or empty folder", .folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// What is in it.
        name: String,
    },
    /// Another process writes.
    #[error("another slipway is changing the channel {}: wait until it is done", .0.display())]
    Locked(PathBuf),
    /// The file system refused.
    #[error("cannot use {}: check path, permissions and that the disk is not full", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// A file that is larger than it may be.
    #[error("{} has more than the allowed {limit} bytes: restore the channel from its backup", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Largest allowed size in bytes.
        limit: u64,
    },
    /// A client refuses the channel as it is.
    #[error("a node would refuse the channel {}: restore the folder from its backup", .folder.display())]
    Refused {
        /// The folder.
        folder: PathBuf,
        /// What the client says.
        #[source]
        source: ClientError,
    },
    /// A client that starts from another root refuses the channel.
    #[error("a node whose settings hold the given root would refuse the channel {}: is it the root.json of another channel?", .folder.display())]
    OtherRoot {
        /// The folder.
        folder: PathBuf,
        /// What the client says.
        #[source]
        source: ClientError,
    },
    /// A role has expired.
    #[error("a node would refuse the channel {}: the {role} expired at {expired}: {}", .folder.display(), renewal(.role))]
    Expired {
        /// The folder.
        folder: PathBuf,
        /// The role.
        role: &'static str,
        /// Since when it counts no more.
        expired: Timestamp,
    },
    /// A client would refuse what was about to be written.
    #[error(
        "nodes would refuse the change, so nothing was written: use the keys that belong to this channel, and renew what has expired with `slipway channel refresh`"
    )]
    WouldBeRefused(#[source] ClientError),
    /// A role that every channel has is missing.
    #[error("the channel has no role `{0}`: restore the folder from its backup")]
    NoRole(&'static str),
    /// A document that the metadata lists is missing or wrong.
    #[error("the document {name} of the channel is wrong: restore the folder from its backup")]
    Document {
        /// Its TUF target name.
        name: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A blob is missing or wrong.
    #[error("the blob {blob} of {release} {problem}: publish the release again")]
    Blob {
        /// Its name.
        blob: Digest,
        /// The release that needs it.
        release: ReleaseVersion,
        /// What is wrong.
        problem: String,
    },
    /// A key that is not the one that the channel trusts.
    #[error("{}/{name}.key is not the channel's key of that name: give the folder of the channel's keys with --keys", .folder.display())]
    WrongKey {
        /// The key folder.
        folder: PathBuf,
        /// Name of the key.
        name: &'static str,
    },
    /// Throw-away keys are not replaced by real ones or the other way round.
    #[error(
        "one of the channel and the new keys is for development and the other is not: folders of throw-away keys hold the file DEVELOPMENT, and only a channel that was made with such keys takes them"
    )]
    MixedKeys,
    /// A key that would be replaced by itself.
    #[error(
        "{name}.key is the same in both folders: leave its role out, or make another with `slipway keys new`"
    )]
    SameKey {
        /// Name of the key.
        name: &'static str,
    },
    /// The release is not in the channel.
    #[error("the channel has no release {version}: publish it first with `slipway publish`; it has {}", listed(.known))]
    UnknownRelease {
        /// The release.
        version: ReleaseVersion,
        /// Those that are there.
        known: Vec<ReleaseVersion>,
    },
    /// A new channel that would point at nothing.
    #[error("there is no channel `{name}`: give the release that a new one points at; there is {}", listed(.known))]
    NewWithoutRelease {
        /// The channel.
        name: ChannelName,
        /// Those that are there.
        known: Vec<ChannelName>,
    },
    /// A group follows a channel that is not there.
    #[error("the channel `{name}` does not exist: set it first with `slipway channel set`; there is {}", listed(.known))]
    UnknownChannel {
        /// The channel.
        name: ChannelName,
        /// Those that are there.
        known: Vec<ChannelName>,
    },
    /// What is to be removed is not there.
    #[error("there is no {kind} `{name}` to remove: check its name; there is {}", listed(.known))]
    NothingToRemove {
        /// Channel or group.
        kind: &'static str,
        /// The name that was given.
        name: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// A channel that is to be removed has followers.
    #[error("the channel `{name}` is followed by {}: whoever has groups.key gives these groups another with `slipway group set`, or removes them with `slipway group remove`", listed(.groups))]
    Followed {
        /// The channel.
        name: ChannelName,
        /// Groups that follow it.
        groups: Vec<GroupName>,
    },
    /// A mark, or the lack of one.
    #[error(transparent)]
    Mark(#[from] super::marks::MarkError),
    /// A document that another generation of this program wrote.
    #[error(
        "the document {name} of the channel says what this slipway does not know: use the slipway that wrote it, or a newer one"
    )]
    Later {
        /// Its TUF target name.
        name: String,
        /// What is not known.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A group file is wrong.
    #[error(transparent)]
    Group(#[from] super::group_file::GroupFileError),
    /// A release that was signed with throw-away keys.
    #[error("{} is a development build, and this channel has real keys: build it with --keys, or make a channel for development with `slipway channel init` and development keys", .0.display())]
    Development(PathBuf),
    /// A version that nodes may have with other bytes.
    #[error(
        "the channel has release {version} with other content (root hash {published}): a published version never changes; build with a higher --version"
    )]
    Republished {
        /// The version.
        version: ReleaseVersion,
        /// Root hash of the one that is there.
        published: RootHash,
    },
    /// The root is not the one that the release names.
    #[error("{} does not have the root hash {expected} that its release.json names: do not use this release; build it again", .file.display())]
    RootHash {
        /// The file.
        file: PathBuf,
        /// As signed.
        expected: RootHash,
    },
    /// A release folder must not be published.
    #[error(transparent)]
    Release(#[from] super::release_folder::ReleaseFolderError),
    /// Encoding failed.
    #[error(transparent)]
    Payload(#[from] super::payload::PayloadError),
    /// Keys are missing or wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Metadata could not be made.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A document could not be made.
    #[error("a document of the channel cannot be written")]
    Json(#[from] serde_json::Error),
    /// The time is outside of what a date can say.
    #[error("an expiry that far away is no date: give a shorter time")]
    Expiry,
    /// Too many versions of one role.
    #[error("the channel has no version numbers left")]
    Versions,
    /// A task of the program ended early.
    #[error("a part of slipway stopped early: this is a mistake in slipway")]
    Task(#[from] tokio::task::JoinError),
    /// A test stopped the writer.
    #[error("stopped before a write, as a test asked for")]
    Stopped,
}

impl ChannelError {
    /// Whose turn it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Io(..) | Self::Locked(_) | Self::Task(_) | Self::Stopped | Self::Versions => {
                Fault::Other
            }
            Self::Key(KeyError::Io(..) | KeyError::Generate(_)) => Fault::Other,
            Self::Payload(error) => error.fault(),
            Self::Release(error) => error.fault(),
            _ => Fault::Input,
        }
    }
}

/// The command that renews a role.
fn renewal(role: &str) -> String {
    match role {
        "root" => "run `slipway keys rotate` with two root keys".to_owned(),
        "timestamp" | "snapshot" => "run `slipway channel refresh`".to_owned(),
        role => format!("run `slipway channel refresh` with the key of {role}"),
    }
}

/// Names in a row, or that there is none.
fn listed<T: ToString>(names: &[T]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
