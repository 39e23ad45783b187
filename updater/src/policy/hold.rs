//! The rules that hold a node.
//!
//! **Invariant:** a rule is a value with a kind; its sentence is made at the end, in `wording`.

use contract::channel::route::Mark;
use contract::node::api::Rule;
use contract::{ChannelName, GroupName, ReleaseVersion};
use jiff::Timestamp;
use semver::Version;

use super::unmet::Lacking;

/// A rule that holds the node where it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Hold {
    /// This boot is being judged; the other slot is the way back.
    Judging,
    /// A blessed release's boot has not stood yet; the other slot stays as it is.
    Unproven,
    /// What earlier boots left of updates cannot be used, so that nothing is begun.
    NoJournal,
    /// This release runs in the place of one that lapsed.
    Lapsed {
        /// That one's version, when it is known.
        version: Option<ReleaseVersion>,
    },
    /// Whether an operator pinned a release cannot be read.
    PinUnreadable {
        /// Why.
        cause: String,
    },
    /// There are no settings.
    NoSettings {
        /// Why, when a source says so.
        cause: Option<String>,
    },
    /// The settings name no channel.
    NoChannel,
    /// The channel was not read since this program started, or not since a pin changed.
    NotChecked,
    /// The last look at the channel failed; what it said before still counts.
    CheckFailed {
        /// What failed.
        sentence: String,
        /// When it is tried again.
        next: Option<Timestamp>,
    },
    /// The clock cannot be trusted, so that nobody knows what has expired.
    Clock {
        /// Why.
        sentence: String,
        /// When it is looked at again.
        next: Option<Timestamp>,
    },
    /// What the channel said has expired since it was read.
    Expired {
        /// When it expired.
        since: Timestamp,
    },
    /// There is no document for the node's group.
    NoGroup {
        /// The group of the settings.
        group: Option<GroupName>,
    },
    /// The wanted release is not in the channel's folder.
    NoOffer {
        /// Its version.
        version: ReleaseVersion,
    },
    /// The wanted release runs.
    UpToDate {
        /// Its version.
        version: ReleaseVersion,
    },
    /// An operator pinned a release on this node.
    Pinned {
        /// Its version.
        version: ReleaseVersion,
    },
    /// The release was bad on this node.
    Refused {
        /// Its version.
        version: ReleaseVersion,
        /// What failed.
        cause: String,
    },
    /// The group allows no such new release.
    MaximumVersion {
        /// The wanted version.
        version: ReleaseVersion,
        /// The highest one allowed.
        maximum: ReleaseVersion,
        /// Who says so.
        group: GroupName,
    },
    /// Nobody in the group may start an update.
    GroupPaused {
        /// The group.
        name: GroupName,
        /// Why.
        reason: String,
    },
    /// Nobody who follows the channel may start an update.
    ChannelPaused {
        /// The channel.
        name: ChannelName,
        /// Why.
        reason: String,
    },
    /// The release needs a newer `slipwayd`.
    MinimumUpdater {
        /// The wanted version.
        version: ReleaseVersion,
        /// What it needs.
        needed: Version,
        /// What runs.
        have: Version,
    },
    /// A document is meant for a later `slipwayd`.
    Needs {
        /// Which one.
        document: Lacking,
        /// The oldest that can act on it, when it says so.
        needed: Option<Version>,
        /// What runs.
        have: Version,
        /// What it lacks.
        cause: String,
        /// The channel's next floor, which may have it.
        floor: Option<Mark>,
    },
    /// The release that runs is blocked.
    RunsBlocked {
        /// It, and why.
        mark: Mark,
    },
    /// The wanted release is blocked.
    Blocked {
        /// It, and why.
        mark: Mark,
    },
    /// A floor on the way to the wanted release is blocked.
    FloorBlocked {
        /// The wanted version.
        version: ReleaseVersion,
        /// The floor, and why it may not be skipped.
        floor: Mark,
        /// Why it is blocked.
        reason: String,
    },
    /// Another release is taken first.
    OverFloor {
        /// The wanted version.
        version: ReleaseVersion,
        /// The next one, and why it may not be skipped.
        floor: Mark,
        /// How many releases there are to take, the wanted one among them.
        steps: usize,
    },
    /// The EFI system partition has no room for the release's UKI, or cannot be read.
    EspRoom {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that there are, when known.
        room: Option<u64>,
    },
    /// The release's kubelet and the API server do not go together.
    VersionSkew {
        /// The wanted version.
        version: ReleaseVersion,
        /// Of its kubelet.
        kubelet: Version,
        /// Of the API server.
        server: Version,
    },
    /// The API server does not say which version it has.
    ApiServerSilent {
        /// Why.
        sentence: String,
    },
    /// The release could not be written to the other slot.
    StageFailed {
        /// What failed.
        sentence: String,
        /// When it is tried again.
        next: Option<Timestamp>,
    },
    /// The node's wave has not come.
    Wave {
        /// The wanted version.
        version: ReleaseVersion,
        /// The node's place in [0, 1).
        position: f64,
        /// When it may start.
        opens: Timestamp,
    },
    /// Outside of the maintenance windows.
    Window {
        /// When the next one opens, when that is known.
        opens: Option<Timestamp>,
    },
    /// Pods have not left the node.
    Drain {
        /// Which, why, and what comes then.
        sentence: String,
        /// Until when they may, or when it is tried again.
        ends: Option<Timestamp>,
    },
    /// The node stages by itself, and restarts when told to.
    RestartsByHand {
        /// The wanted version.
        version: ReleaseVersion,
    },
    /// The node acts when told to.
    Manual {
        /// The wanted version.
        version: ReleaseVersion,
    },
    /// The release is whole in the other slot, and waits for the other rules.
    Staged {
        /// Its version.
        version: ReleaseVersion,
    },
}

// `position` is never NaN: see `contract::channel::waves::position`.
impl Eq for Hold {}

impl Hold {
    /// When the rule ends by itself, as far as that is known.
    pub fn ends(&self) -> Option<Timestamp> {
        match self {
            Hold::Wave { opens, .. } => Some(*opens),
            Hold::Window { opens } => *opens,
            Hold::CheckFailed { next, .. }
            | Hold::Clock { next, .. }
            | Hold::StageFailed { next, .. }
            | Hold::Drain { ends: next, .. } => *next,
            _ => None,
        }
    }

    /// The rule as the API names it.
    pub fn rule(&self) -> Rule {
        match self {
            Hold::Judging | Hold::Unproven => Rule::Judging,
            Hold::NoSettings { .. } | Hold::NoChannel => Rule::NoSettings,
            Hold::NotChecked
            | Hold::CheckFailed { .. }
            | Hold::Expired { .. }
            | Hold::NoOffer { .. } => Rule::Channel,
            Hold::Clock { .. } => Rule::Clock,
            Hold::NoGroup { .. } => Rule::NoGroup,
            Hold::UpToDate { .. } => Rule::UpToDate,
            Hold::Pinned { .. } | Hold::PinUnreadable { .. } => Rule::Pinned,
            Hold::NoJournal => Rule::Journal,
            Hold::Lapsed { .. } => Rule::Lapsed,
            Hold::Refused { .. } => Rule::Refused,
            Hold::MaximumVersion { .. } => Rule::MaximumVersion,
            Hold::GroupPaused { .. } | Hold::ChannelPaused { .. } => Rule::Paused,
            Hold::MinimumUpdater { .. } | Hold::Needs { .. } => Rule::MinimumUpdater,
            Hold::RunsBlocked { .. } => Rule::RunsBlocked,
            Hold::Blocked { .. } | Hold::FloorBlocked { .. } => Rule::Blocked,
            Hold::OverFloor { .. } => Rule::Floor,
            Hold::EspRoom { .. } => Rule::EspRoom,
            Hold::VersionSkew { .. } | Hold::ApiServerSilent { .. } => Rule::VersionSkew,
            Hold::Wave { .. } => Rule::Wave,
            Hold::Window { .. } => Rule::Window,
            Hold::Drain { .. } => Rule::Drain,
            Hold::RestartsByHand { .. } | Hold::Manual { .. } => Rule::Manual,
            Hold::StageFailed { .. } => Rule::StageFailed,
            Hold::Staged { .. } => Rule::Staged,
        }
    }
}

impl From<&Hold> for contract::node::api::Hold {
    fn from(hold: &Hold) -> Self {
        Self { rule: hold.rule(), sentence: hold.to_string(), ends: hold.ends() }
    }
}
