//! Removing releases that nothing points at, and files that no metadata names.
//!
//! Kept are the releases of channels, the pins of groups and the newest ones. Blobs go when no
//! kept offer needs them. Small files that the state before the command pointed at stay until
//! the next time, for a reader that is in the middle.

use std::collections::BTreeSet;
use std::path::PathBuf;

use contract::channel::targets::{self, BLOBS_DIR, METADATA_DIR, TARGETS_DIR};
use contract::{Digest, ReleaseVersion};
use jiff::Timestamp;
use tough::ExpirationEnforcement;

use super::ChannelError;
use super::commit::{Change, Lifetimes, Signing, commit, metadata_file};
use super::folder::Folder;
use super::roles::TargetsRole;
use super::state::{OfferName, State, TIMESTAMP_FILE, target_digest};
use crate::signing::keys::{ChannelKey, ChannelKeys};

/// What is kept, and with which keys.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// How many of the newest releases stay, whether something points at them or not.
    pub keep: usize,
    /// The key folder; needed only when a release goes.
    pub keys: PathBuf,
    /// How long what is signed counts.
    pub lifetimes: Lifetimes,
}

/// What was removed, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Releases.
    pub releases: BTreeSet<OfferName>,
    /// Versions that stay.
    pub kept: BTreeSet<ReleaseVersion>,
    /// Files, by their names below the channel's folder.
    pub files: BTreeSet<String>,
    /// Their size together, in bytes.
    pub bytes: u64,
}

/// Removes what nothing points at.
///
/// # Errors
/// [`ChannelError`]; what counts is whole in any case, and another run goes on.
pub async fn prune(
    folder: &Folder,
    request: &PruneRequest,
    now: Timestamp,
) -> Result<Pruned, ChannelError> {
    let path = folder.path();
    let state = State::load(path, ExpirationEnforcement::Unsafe).await?;
    let kept = kept(&state, request.keep)?;
    let releases: BTreeSet<OfferName> =
        state.releases().into_iter().filter(|(version, _)| !kept.contains(version)).collect();
    let mut named = named_files(&state);
    let state = if releases.is_empty() {
        state
    } else {
        let needed = [ChannelKey::Releases, ChannelKey::Snapshot, ChannelKey::Timestamp];
        let keys = ChannelKeys::open(&request.keys, &needed)?;
        let mut change = Change::default();
        for (version, architecture) in &releases {
            let name = targets::offer(version, *architecture);
            change.unlist(TargetsRole::Releases, &state, &name)?;
        }
        let signing = Signing {
            keys: &keys,
            lifetimes: request.lifetimes,
            now,
            expiry: ExpirationEnforcement::Safe,
        };
        commit(folder, &state, change, &signing).await?;
        State::load(path, ExpirationEnforcement::Unsafe).await?
    };
    named.extend(named_files(&state));
    let offers = state.offers()?;
    let blobs = offers.values().flat_map(|offer| offer.blobs());
    named.extend(blobs.map(|blob| targets::blob(&blob.sha256)));
    let (files, bytes) = sweep(folder, &named)?;
    Ok(Pruned { releases, kept, files, bytes })
}

/// Versions that must stay.
fn kept(state: &State, newest: usize) -> Result<BTreeSet<ReleaseVersion>, ChannelError> {
    let all: BTreeSet<_> = state.releases().into_iter().map(|(version, _)| version).collect();
    let mut kept: BTreeSet<_> = all.into_iter().rev().take(newest).collect();
    for channel in state.channels()?.into_values() {
        // A floor that is gone would hold every node below it.
        kept.extend(channel.floors.into_iter().map(|mark| mark.release));
        kept.insert(channel.release);
    }
    kept.extend(state.groups()?.into_values().filter_map(|group| group.spec.release));
    Ok(kept)
}

/// Files of metadata and documents that a state names.
fn named_files(state: &State) -> BTreeSet<String> {
    let mut named = BTreeSet::from([TIMESTAMP_FILE.to_owned()]);
    named.insert(metadata_file("snapshot", state.snapshot.signed.version));
    for role in TargetsRole::ALL {
        let content = state.role(role);
        named.insert(metadata_file(role.name(), content.version));
        for (name, target) in &content.targets {
            if let Some(sha256) = target_digest(target) {
                let file = targets::file(name.raw(), &sha256);
                named.insert(format!("{TARGETS_DIR}/{file}"));
            }
        }
    }
    named
}

fn sweep(
    folder: &Folder,
    named: &BTreeSet<String>,
) -> Result<(BTreeSet<String>, u64), ChannelError> {
    let mut found = folder.files(METADATA_DIR)?;
    found.extend(folder.files(TARGETS_DIR)?);
    found.extend(folder.files(BLOBS_DIR)?);
    let gone: BTreeSet<String> =
        found.into_iter().filter(|name| is_ours(name) && !named.contains(name)).collect();
    let mut bytes = 0;
    for name in &gone {
        let path = folder.path().join(name);
        bytes += path.metadata().map_err(|error| ChannelError::Io(path, error))?.len();
        folder.remove(name)?;
    }
    Ok((gone, bytes))
}

/// True for names that this program gives; any other file is not ours to remove. Roots are
/// left out: a node that was away follows them one by one.
fn is_ours(name: &str) -> bool {
    let Some((folder, name)) = name.split_once('/') else { return false };
    match folder {
        BLOBS_DIR => name.parse::<Digest>().is_ok(),
        TARGETS_DIR => {
            name.split_once('.').is_some_and(|(start, _)| start.parse::<Digest>().is_ok())
        }
        METADATA_DIR => name.split_once('.').is_some_and(|(version, rest)| {
            let roles = TargetsRole::ALL.map(TargetsRole::name);
            let role = rest.strip_suffix(".json").unwrap_or_default();
            version.parse::<u64>().is_ok() && (role == "snapshot" || roles.contains(&role))
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_a_channel_would_have_are_ours() {
        let digest = Digest::of(b"x");
        for name in [
            &format!("blobs/{digest}"),
            &format!("targets/{digest}.releases/1.0.0/x86_64/offer.json"),
            "metadata/12.snapshot.json",
            "metadata/3.releases.json",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "metadata/1.root.json",
            "metadata/timestamp.json",
            "metadata/notes.json",
            "blobs/README",
            "targets/index.html",
            "root.json",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
