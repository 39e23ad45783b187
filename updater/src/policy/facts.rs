//! What a decision depends on, and what it is.
//!
//! **Invariant:** plain values; whoever makes a [`Documents`] takes its parts from documents
//! that were verified.

use std::time::Duration;

use contract::channel::group::Drain;
use contract::channel::route::Marks;
use contract::node::settings::Settings;
use contract::{ChannelDocument, Component, NodeGroup, Offer, ReleaseVersion, RootHash};
use jiff::Timestamp;
use semver::Version;

use super::hold::Hold;
use super::unmet::UnmetDocument;

/// Everything that a decision depends on.
#[derive(Debug, Clone)]
pub struct PolicyInput<'a> {
    /// The time.
    pub now: Timestamp,
    /// Machine id.
    pub node: &'a str,
    /// Version of this program.
    pub updater: &'a Version,
    /// Is this boot known to be good?
    pub boot: BootState,
    /// Root hash of what runs.
    pub running: RootHash,
    /// Version of what runs.
    pub running_version: &'a ReleaseVersion,
    /// The settings, when there are any.
    pub settings: Option<&'a Settings>,
    /// Why there are none, when that is known.
    pub lack: Option<&'a str>,
    /// What an operator pinned through the node's API.
    pub pin: &'a Pin,
    /// What the channel said when it was last read and believed.
    pub documents: Option<&'a Documents<'a>>,
    /// Why the last look at the channel failed; none once one succeeds.
    pub failure: Option<&'a FailedLook>,
    /// Releases that were bad on this node.
    pub refusals: &'a [RefusedRoot],
    /// What is known of the other slot.
    pub other: OtherSlot,
    /// The release in whose place this one runs.
    pub lapse: Option<&'a Lapse>,
    /// The stagings that failed since one succeeded.
    pub failed_staging: Option<&'a FailedStaging>,
    /// How far the node is emptied.
    pub drain: &'a DrainState,
    /// The drains in a row that came to nothing.
    pub failed_drain: Option<&'a FailedDrain>,
    /// kubelet has a certificate of a cluster: the node may have pods.
    pub has_joined: bool,
    /// Bytes that the EFI system partition has for a UKI, when it can be read.
    pub esp_room: Option<u64>,
    /// The API server of the node's cluster; none for a node without one.
    pub api_server: Option<&'a ApiServer>,
    /// What an operator asked for.
    pub order: Order,
}

/// What an operator pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Pin {
    /// Nothing.
    #[default]
    None,
    /// This release.
    Release(ReleaseVersion),
    /// That cannot be read, and why.
    Unreadable(String),
}

impl Pin {
    /// The release, when there is one.
    pub fn release(&self) -> Option<&ReleaseVersion> {
        match self {
            Pin::Release(version) => Some(version),
            Pin::None | Pin::Unreadable(_) => None,
        }
    }
}

impl From<Option<ReleaseVersion>> for Pin {
    fn from(version: Option<ReleaseVersion>) -> Self {
        version.map_or(Pin::None, Pin::Release)
    }
}

/// The other slot's release, which was blessed and used up its tries: the loader would prefer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapse {
    /// Its version, where the journal of updates knows it.
    pub version: Option<ReleaseVersion>,
    /// Its root hash, likewise.
    pub root_hash: Option<RootHash>,
}

/// What a channel says to this node. All of it comes from verified documents.
#[derive(Debug, Clone)]
pub struct Documents<'a> {
    /// The node's group, when it has a document.
    pub group: Option<&'a NodeGroup>,
    /// The channel that is followed; none for a pinned release.
    pub channel: Option<&'a ChannelDocument>,
    /// What the channels that count for this node mark.
    pub marks: &'a Marks,
    /// The next release on the way to the wanted one; none when the channel's folder does not have
    /// it.
    pub offer: Option<OfferFacts>,
    /// Documents that are meant for a later slipwayd.
    pub unmet: &'a [UnmetDocument],
    /// When the first of the documents expires.
    pub expires: Timestamp,
}

/// What counts of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferFacts {
    /// Version.
    pub version: ReleaseVersion,
    /// Root hash.
    pub root_hash: RootHash,
    /// The oldest `slipwayd` that can install it.
    pub minimum_updater: Version,
    /// Bytes that it needs on the EFI system partition.
    pub esp_bytes: u64,
    /// Its kubelet, when it says so.
    pub kubelet: Option<Version>,
}

impl From<&Offer> for OfferFacts {
    fn from(offer: &Offer) -> Self {
        Self {
            version: offer.release.version.clone(),
            root_hash: offer.release.root.root_hash,
            minimum_updater: offer.minimum_updater.clone(),
            esp_bytes: offer.esp_bytes,
            kubelet: offer.release.components.iter().find_map(kubelet),
        }
    }
}

/// The version of a component that is the module of kubelet.
pub(super) fn kubelet(component: &Component) -> Option<Version> {
    let is_kubelet = component.name == "k8s.io/kubernetes";
    component.version.strip_prefix('v').filter(|_| is_kubelet)?.parse().ok()
}

/// What the API server last said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiServer {
    /// Its version.
    Answers(Version),
    /// Why it has none, in one sentence.
    Silent(String),
}

/// Is this boot known to be good?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootState {
    /// Yes.
    Blessed,
    /// Its release is, but the boot has not stood yet, and the other slot is needed as it is.
    Unproven,
    /// It is being judged, and the other slot is the way back.
    Pending,
    /// It is being judged, and there is no release to go back to: an update may be what heals it.
    PendingWithoutFallback,
    /// Nobody knows: the journal of updates, or the EFI system partition, cannot be used.
    Unknown,
}

/// What is known of the other slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OtherSlot {
    /// Nothing that could be armed.
    #[default]
    Unknown,
    /// The release with this root hash is whole in it: it was read back when it was written.
    Staged(RootHash),
    /// The same, and it was read once more a moment ago.
    Confirmed(RootHash),
    /// The release that lapsed is in it, and this boot has stood: the node may go back.
    Lapsed,
}

/// Stagings that failed, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStaging {
    /// What failed last, in one sentence.
    pub sentence: String,
    /// How many failed. With none, what was staged did not last, and is staged again at once.
    pub failures: u32,
    /// How long ago the last one failed.
    pub ago: Duration,
}

/// How far the node is emptied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DrainState {
    /// Nobody asked its pods to leave.
    #[default]
    Idle,
    /// Pods are leaving.
    UnderWay {
        /// The release that it is for.
        root_hash: RootHash,
        /// What the group asked for when it began.
        terms: Drain,
        /// What it waits for.
        waiting: String,
        /// Until when.
        ends: Option<Timestamp>,
    },
    /// The node may restart as it is.
    Done {
        /// The release that it is for.
        root_hash: RootHash,
    },
}

/// Drains that came to nothing, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedDrain {
    /// The release that the last one was for.
    pub version: ReleaseVersion,
    /// What had not left.
    pub waiting: String,
    /// How many came to nothing.
    pub failures: u32,
    /// How long ago the last one ended.
    pub ago: Duration,
}

/// A look at the channel that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedLook {
    /// What failed, in one sentence.
    pub sentence: String,
    /// The clock was the reason.
    pub is_clock: bool,
    /// When it is tried again.
    pub next: Option<Timestamp>,
}

/// A release that was bad on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRoot {
    /// Its root hash: another build under the same version is another release.
    pub root_hash: RootHash,
    /// What failed.
    pub cause: String,
}

/// What an operator asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    #[default]
    None,
    /// Stage, and no more.
    Stage,
    /// Stage and restart.
    Apply,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Stay.
    Nothing,
    /// Write the wanted release to the other slot.
    Stage,
    /// Empty the node on these terms, or go on with that.
    Drain(Drain),
    /// Read what is staged once more.
    Confirm,
    /// Arm what was read once more, and restart.
    Arm,
    /// Give the release that lapsed its tries back, if its slot is whole, and restart into it.
    GoBack,
}

/// An action, and why it is not another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// The next release on the way, unless the wanted one runs already.
    pub target: Option<OfferFacts>,
    /// The releases to take, one after the other; the last is the wanted one. Empty when no way is
    /// known.
    pub way: Vec<ReleaseVersion>,
    /// Each rule that holds the node.
    pub holds: Vec<Hold>,
}
