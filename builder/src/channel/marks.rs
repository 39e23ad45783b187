//! Floors and blocked releases of a channel.
//!
//! In: a channel's document, and what an operator changes. Out: the document after it.
//! **Invariant:** what is written leaves every node a way: the channel points at no blocked release,
//! and no floor is blocked.

use contract::channel::route::{MAX_MARKS, Mark};
use contract::{ChannelDocument, ChannelName, ReleaseVersion};

/// A change of what a channel marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkChange {
    /// The release may not be skipped.
    AddFloor(Mark),
    /// It may.
    RemoveFloor(ReleaseVersion),
    /// The release must not be taken.
    Block(Mark),
    /// It may.
    Unblock(ReleaseVersion),
}

/// Why a channel cannot mark, or point at, a release.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// It points at a blocked release.
    #[error(
        "the channel `{name}` would point at release {}, which it blocks ({}): give another with \
         `slipway channel set` or `slipway channel block --instead`, or lift the block with \
         `slipway channel unblock`", .mark.release, .mark.reason
    )]
    Target {
        /// The channel.
        name: ChannelName,
        /// The blocked release.
        mark: Mark,
    },
    /// A floor is blocked.
    #[error(
        "release {} would be a floor of the channel `{name}` ({}) and blocked in it ({}), and no \
         node could get past it: take one of them away with `slipway channel floor remove` or \
         `slipway channel unblock`", .floor.release, .floor.reason, .blocked.reason
    )]
    FloorBlocked {
        /// The channel.
        name: ChannelName,
        /// The floor.
        floor: Mark,
        /// The same release, blocked.
        blocked: Mark,
    },
    /// There is no such mark to take away.
    #[error("release {release} is {kind} of the channel `{name}`: check the version; there is {}", listed(.known))]
    Unmarked {
        /// The channel.
        name: ChannelName,
        /// The release.
        release: ReleaseVersion,
        /// What it is not.
        kind: &'static str,
        /// Those that are.
        known: Vec<ReleaseVersion>,
    },
    /// Nodes read a document up to its bound only.
    #[error(
        "the channel `{name}` has {MAX_MARKS} such releases already: take away those that no node can meet any more"
    )]
    TooMany {
        /// The channel.
        name: ChannelName,
    },
    /// A group pins a blocked release.
    #[error(
        "the channel `{name}` blocks release {} ({}), and a pin does not pass a block: pin \
         another release", .mark.release, .mark.reason
    )]
    Pinned {
        /// The channel.
        name: ChannelName,
        /// The blocked release.
        mark: Mark,
    },
}

fn listed(releases: &[ReleaseVersion]) -> String {
    match releases {
        [] => "none".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

impl MarkChange {
    /// The release that becomes marked; it must be one that is there.
    pub fn marks(&self) -> Option<&ReleaseVersion> {
        match self {
            MarkChange::AddFloor(mark) | MarkChange::Block(mark) => Some(&mark.release),
            MarkChange::RemoveFloor(_) | MarkChange::Unblock(_) => None,
        }
    }
}

/// Changes the marks of a document in memory; [`check`] says whether it may be written.
///
/// # Errors
/// [`MarkError::Unmarked`], [`MarkError::TooMany`].
pub fn apply(document: &mut ChannelDocument, change: &MarkChange) -> Result<(), MarkError> {
    let name = &document.channel;
    match change {
        MarkChange::AddFloor(mark) => add(name, &mut document.floors, mark),
        MarkChange::Block(mark) => add(name, &mut document.blocked, mark),
        MarkChange::RemoveFloor(release) => remove(name, &mut document.floors, release, "no floor"),
        MarkChange::Unblock(release) => {
            remove(name, &mut document.blocked, release, "not a blocked release")
        }
    }
}

/// A release that is marked already gets the new reason.
fn add(name: &ChannelName, marks: &mut Vec<Mark>, mark: &Mark) -> Result<(), MarkError> {
    marks.retain(|known| known.release != mark.release);
    if marks.len() >= MAX_MARKS {
        return Err(MarkError::TooMany { name: name.clone() });
    }
    marks.push(mark.clone());
    marks.sort();
    Ok(())
}

fn remove(
    name: &ChannelName,
    marks: &mut Vec<Mark>,
    release: &ReleaseVersion,
    kind: &'static str,
) -> Result<(), MarkError> {
    if !marks.iter().any(|mark| mark.release == *release) {
        let known = marks.iter().map(|mark| mark.release.clone()).collect();
        let (name, release) = (name.clone(), release.clone());
        return Err(MarkError::Unmarked { name, release, kind, known });
    }
    marks.retain(|mark| mark.release != *release);
    Ok(())
}

/// Whether a document leaves nodes a way.
///
/// # Errors
/// [`MarkError::Target`], [`MarkError::FloorBlocked`].
pub fn check(document: &ChannelDocument) -> Result<(), MarkError> {
    let (name, marks) = (&document.channel, document.marks());
    if let Some(mark) = marks.block_of(&document.release) {
        return Err(MarkError::Target { name: name.clone(), mark: mark.clone() });
    }
    for floor in &marks.floors {
        if let Some(blocked) = marks.block_of(&floor.release) {
            let (floor, blocked) = (floor.clone(), blocked.clone());
            return Err(MarkError::FloorBlocked { name: name.clone(), floor, blocked });
        }
    }
    Ok(())
}
