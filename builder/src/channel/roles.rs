//! The roles of a channel that list documents: their keys and their names in TUF.

use contract::channel::targets;

use crate::signing::keys::ChannelKey;

/// A role that lists documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetsRole {
    /// Top level: channels.
    Targets,
    /// Offers.
    Releases,
    /// Node groups.
    Groups,
}

impl TargetsRole {
    /// All of them.
    pub const ALL: [TargetsRole; 3] =
        [TargetsRole::Targets, TargetsRole::Releases, TargetsRole::Groups];

    /// The key that signs it.
    pub fn key(self) -> ChannelKey {
        match self {
            TargetsRole::Targets => ChannelKey::Targets,
            TargetsRole::Releases => ChannelKey::Releases,
            TargetsRole::Groups => ChannelKey::Groups,
        }
    }

    /// Its name in TUF.
    pub fn name(self) -> &'static str {
        match self {
            TargetsRole::Targets => "targets",
            TargetsRole::Releases => targets::RELEASES_ROLE,
            TargetsRole::Groups => targets::GROUPS_ROLE,
        }
    }
}
