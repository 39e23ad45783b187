//! What operators say: which release a channel points at, and the node groups.

use std::path::{Path, PathBuf};

use contract::channel::SCHEMA;
use contract::channel::group::MAX_GROUP_BYTES;
use contract::channel::targets;
use contract::channel::waves::Waves;
use contract::{ChannelDocument, ChannelName, GroupName, NodeGroup, ReleaseVersion};
use jiff::Timestamp;
use tough::ExpirationEnforcement;

use super::ChannelError;
use super::commit::{Change, Lifetimes, Signing, commit};
use super::folder::{Folder, read_bounded};
use super::group_file::{self, GroupFileError};
use super::marks::{self, MarkChange, MarkError};
use super::roles::TargetsRole;
use super::state::State;
use crate::signing::keys::{ChannelKey, ChannelKeys};

/// What is to become of a channel. Fields that are `None` stay as they are.
#[derive(Debug, Clone)]
pub struct ChannelSetting {
    /// Its name; it is made when it is not there.
    pub name: ChannelName,
    /// The release that its nodes run; a new channel needs one.
    pub release: Option<ReleaseVersion>,
    /// Its waves; those of another release are not kept.
    pub waves: Option<Waves>,
    /// When the waves start: by default now, when the release is another.
    pub since: Option<Since>,
    /// Whether nodes may start.
    pub pause: Option<Pause>,
    /// A release that it marks from now on, or no longer.
    pub mark: Option<MarkChange>,
}

impl ChannelSetting {
    /// One that changes nothing.
    pub fn of(name: ChannelName) -> Self {
        Self { name, release: None, waves: None, since: None, pause: None, mark: None }
    }
}

/// When the waves of a channel start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With the change.
    Now,
    /// At this time.
    At(Timestamp),
}

/// Whether nodes may start an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pause {
    /// None may, for this reason.
    Paused(String),
    /// They may.
    Resumed,
}

/// A channel that was set.
#[derive(Debug, Clone)]
pub struct ChannelSet {
    /// What it is.
    pub document: ChannelDocument,
    /// What it was, if it was there.
    pub before: Option<ChannelDocument>,
    /// The other channels.
    pub others: Vec<ChannelName>,
}

/// Points a channel at a release that is there.
///
/// # Errors
/// [`ChannelError::UnknownRelease`], [`ChannelError::Mark`], or whatever keeps the change from being
/// written.
pub async fn set_channel(
    folder: &Folder,
    setting: &ChannelSetting,
    key_folder: &Path,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> Result<ChannelSet, ChannelError> {
    let keys = open_keys(key_folder, ChannelKey::Targets)?;
    let state = State::load(folder.path(), ExpirationEnforcement::Unsafe).await?;
    let mut channels = state.channels()?;
    channels.remove(&setting.name);
    // What this slipway does not know must not get lost.
    let before = state.channel_to_change(&setting.name)?;
    let others: Vec<_> = channels.into_keys().collect();
    let present = before.as_ref().map(|before| &before.release);
    let Some(release) = setting.release.as_ref().or(present) else {
        let (name, known) = (setting.name.clone(), others);
        return Err(ChannelError::NewWithoutRelease { name, known });
    };
    check_release(&state, release)?;
    if let Some(marked) = setting.mark.as_ref().and_then(MarkChange::marks) {
        check_release(&state, marked)?;
    }
    let document = next_document(setting, release, before.as_ref(), now)?;
    let mut change = Change::default();
    let bytes = document.to_json()?.into_bytes();
    // As a node will read it.
    ChannelDocument::from_json(&setting.name, &bytes).map_err(|error| ChannelError::Document {
        name: targets::channel(&setting.name),
        source: error.into(),
    })?;
    change.list(TargetsRole::Targets, &state, &targets::channel(&setting.name), bytes)?;
    commit(folder, &state, change, &signing(&keys, lifetimes, now)).await?;
    Ok(ChannelSet { document, before, others })
}

fn next_document(
    setting: &ChannelSetting,
    release: &ReleaseVersion,
    before: Option<&ChannelDocument>,
    now: Timestamp,
) -> Result<ChannelDocument, ChannelError> {
    // Waves and their start belong to a release: another one starts anew.
    let same = before.filter(|before| before.release == *release);
    let whole_seconds =
        Timestamp::from_second(now.as_second()).map_err(|_| ChannelError::Expiry)?;
    let since = match (setting.since, same) {
        (Some(Since::At(time)), _) => time,
        (None, Some(before)) => before.since,
        (Some(Since::Now), _) | (None, None) => whole_seconds,
    };
    let kept = same.map(|before| before.waves.clone()).unwrap_or_default();
    let paused = match &setting.pause {
        Some(Pause::Paused(reason)) => Some(reason.clone()),
        Some(Pause::Resumed) => None,
        None => before.and_then(|before| before.paused.clone()),
    };
    let mut document = ChannelDocument {
        schema: SCHEMA,
        minimum_updater: before.and_then(|before| before.minimum_updater.clone()),
        requires: before.map(|before| before.requires.clone()).unwrap_or_default(),
        channel: setting.name.clone(),
        release: release.clone(),
        since,
        waves: setting.waves.clone().unwrap_or(kept),
        paused,
        floors: before.map(|before| before.floors.clone()).unwrap_or_default(),
        blocked: before.map(|before| before.blocked.clone()).unwrap_or_default(),
    };
    if let Some(change) = &setting.mark {
        marks::apply(&mut document, change)?;
    }
    marks::check(&document)?;
    Ok(document.depending())
}

/// Puts a group's file into the channel.
///
/// # Errors
/// [`ChannelError::Group`] for a wrong file, [`ChannelError::UnknownRelease`] or
/// [`ChannelError::UnknownChannel`] for one that names what is not there.
pub async fn set_group(
    folder: &Folder,
    name: &GroupName,
    file: &Path,
    key_folder: &Path,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> Result<NodeGroup, ChannelError> {
    let group = read_group(file)?;
    if group.metadata.name != *name {
        let (file, found) = (PathBuf::from(file), group.metadata.name);
        return Err(GroupFileError::Name { file, found }.into());
    }
    let keys = open_keys(key_folder, ChannelKey::Groups)?;
    let state = State::load(folder.path(), ExpirationEnforcement::Unsafe).await?;
    if let Some(release) = &group.spec.release {
        check_release(&state, release)?;
        for (name, channel) in state.channels()? {
            if let Some(mark) = channel.marks().block_of(release).cloned() {
                return Err(MarkError::Pinned { name, mark }.into());
            }
        }
    }
    if let Some(channel) = &group.spec.channel {
        let known: Vec<_> = state.channels()?.into_keys().collect();
        if !known.contains(channel) {
            return Err(ChannelError::UnknownChannel { name: channel.clone(), known });
        }
    }
    let mut change = Change::default();
    let bytes = group.to_json()?.into_bytes();
    change.list(TargetsRole::Groups, &state, &targets::group(name), bytes)?;
    commit(folder, &state, change, &signing(&keys, lifetimes, now)).await?;
    Ok(group)
}

/// Takes a channel away that no group follows; gives what it was. Nodes whose settings follow it stay
/// where they are.
///
/// # Errors
/// [`ChannelError::NothingToRemove`], [`ChannelError::Followed`], or whatever keeps the change from
/// being written.
pub async fn remove_channel(
    folder: &Folder,
    name: &ChannelName,
    key_folder: &Path,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> Result<ChannelDocument, ChannelError> {
    let keys = open_keys(key_folder, ChannelKey::Targets)?;
    let state = State::load(folder.path(), ExpirationEnforcement::Unsafe).await?;
    let mut channels = state.channels()?;
    let Some(channel) = channels.remove(name) else {
        return Err(nothing_to_remove("channel", name, channels.keys()));
    };
    let groups = state.groups()?.into_iter();
    let followers = groups.filter(|(_, group)| group.spec.channel.as_ref() == Some(name));
    let groups: Vec<_> = followers.map(|(group, _)| group).collect();
    if !groups.is_empty() {
        return Err(ChannelError::Followed { name: name.clone(), groups });
    }
    let mut change = Change::default();
    change.unlist(TargetsRole::Targets, &state, &targets::channel(name))?;
    commit(folder, &state, change, &signing(&keys, lifetimes, now)).await?;
    Ok(channel)
}

/// Takes a group away; gives what it was. Its nodes follow the channel of their settings, or stay
/// where they are.
///
/// # Errors
/// [`ChannelError::NothingToRemove`], or whatever keeps the change from being written.
pub async fn remove_group(
    folder: &Folder,
    name: &GroupName,
    key_folder: &Path,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> Result<NodeGroup, ChannelError> {
    let keys = open_keys(key_folder, ChannelKey::Groups)?;
    let state = State::load(folder.path(), ExpirationEnforcement::Unsafe).await?;
    let mut groups = state.groups()?;
    let Some(group) = groups.remove(name) else {
        return Err(nothing_to_remove("group", name, groups.keys()));
    };
    let mut change = Change::default();
    change.unlist(TargetsRole::Groups, &state, &targets::group(name))?;
    commit(folder, &state, change, &signing(&keys, lifetimes, now)).await?;
    Ok(group)
}

fn nothing_to_remove<'a, N: ToString + 'a>(
    kind: &'static str,
    name: &N,
    known: impl Iterator<Item = &'a N>,
) -> ChannelError {
    let known = known.map(ToString::to_string).collect();
    ChannelError::NothingToRemove { kind, name: name.to_string(), known }
}

fn read_group(file: &Path) -> Result<NodeGroup, ChannelError> {
    let bytes = match read_bounded(file, MAX_GROUP_BYTES) {
        Err(ChannelError::Io(path, error)) => return Err(GroupFileError::Io(path, error).into()),
        Err(_) => return Err(GroupFileError::NotText(file.into()).into()),
        Ok(bytes) => bytes,
    };
    let text = String::from_utf8(bytes).map_err(|_| GroupFileError::NotText(file.into()))?;
    Ok(group_file::parse(file, &text)?)
}

fn check_release(state: &State, version: &ReleaseVersion) -> Result<(), ChannelError> {
    let known: Vec<_> = state.releases().into_iter().map(|(version, _)| version).collect();
    if known.contains(version) {
        return Ok(());
    }
    Err(ChannelError::UnknownRelease { version: version.clone(), known })
}

fn open_keys(folder: &Path, key: ChannelKey) -> Result<ChannelKeys, ChannelError> {
    Ok(ChannelKeys::open(folder, &[key, ChannelKey::Snapshot, ChannelKey::Timestamp])?)
}

/// An operator's word is not put on top of a channel that has expired.
fn signing(keys: &ChannelKeys, lifetimes: Lifetimes, now: Timestamp) -> Signing<'_> {
    Signing { keys, lifetimes, now, expiry: ExpirationEnforcement::Safe }
}
