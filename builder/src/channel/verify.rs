//! Is a channel one that nodes can follow? All that they would check, and all blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use contract::Digest;
use contract::channel::targets;
use contract::release::offer::{Blob, Offer, Payload, Way};
use contract::release::verity::{BlockHasher, HashTree};
use tough::ExpirationEnforcement;

use super::ChannelError;
use super::marks;
use super::payload::{self, leaf_index};
use super::state::{OfferName, State};
use crate::formats::tree::digest_reader;

/// What was found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Version of the root.
    pub root_version: u64,
    /// Number of channels.
    pub channels: usize,
    /// Number of node groups.
    pub groups: usize,
    /// Releases.
    pub releases: BTreeSet<OfferName>,
    /// Number of different blobs.
    pub blobs: usize,
    /// Size of all blobs together, in bytes.
    pub blob_bytes: u64,
}

/// Loads a channel as a node would, from `root` or its own initial root, and checks every
/// document, blob and frame. The first thing that is wrong ends it.
///
/// # Errors
/// [`ChannelError`].
pub async fn verify(path: &Path, root: Option<Vec<u8>>) -> Result<Verified, ChannelError> {
    let own = State::load(path, ExpirationEnforcement::Safe).await?;
    let state = match root {
        None => own,
        Some(root) => match State::load_from(path, root, ExpirationEnforcement::Safe).await {
            Err(ChannelError::Refused { folder, source }) => {
                return Err(ChannelError::OtherRoot { folder, source });
            }
            state => state?,
        },
    };
    let (offers, channels, groups) = (state.offers()?, state.channels()?, state.groups()?);
    let known: Vec<_> = offers.keys().map(|(version, _)| version.clone()).collect();
    let pins = groups.values().filter_map(|group| group.spec.release.as_ref());
    let floors = channels.values().flat_map(|channel| &channel.floors).map(|mark| &mark.release);
    for version in channels.values().map(|channel| &channel.release).chain(pins).chain(floors) {
        if !known.contains(version) {
            return Err(ChannelError::UnknownRelease { version: version.clone(), known });
        }
    }
    channels.values().try_for_each(marks::check)?;
    for name in groups.values().filter_map(|group| group.spec.channel.as_ref()) {
        if !channels.contains_key(name) {
            let known = channels.into_keys().collect();
            return Err(ChannelError::UnknownChannel { name: name.clone(), known });
        }
    }
    let mut blobs = BTreeMap::new();
    for offer in offers.values() {
        verify_offer(path, &state, offer)?;
        blobs.extend(offer.blobs().into_iter().map(|blob| (blob.sha256, blob.bytes)));
    }
    Ok(Verified {
        root_version: state.root.signed.version.get(),
        channels: channels.len(),
        groups: groups.len(),
        releases: offers.into_keys().collect(),
        blobs: blobs.len(),
        blob_bytes: blobs.values().sum(),
    })
}

fn verify_offer(path: &Path, state: &State, offer: &Offer) -> Result<(), ChannelError> {
    if offer.release.development && !state.is_development() {
        let (version, architecture) = (&offer.release.version, offer.release.architecture);
        return Err(ChannelError::Document {
            name: targets::offer(version, architecture),
            source: "a development release in a channel with real keys".into(),
        });
    }
    for blob in offer.blobs() {
        verify_blob(path, offer, &blob)?;
    }
    let root = verify_payload(path, offer, &offer.root)?;
    let tree = HashTree::over(root, &BlockHasher::new(&offer.release.root.salt));
    if tree.is_none_or(|tree| tree.root != offer.release.root.root_hash) {
        let problem = "does not have the root hash of its offer".to_owned();
        return Err(wrong_blob(offer, &offer.root.container.sha256, problem));
    }
    offer.ukis.values().try_for_each(|uki| verify_payload(path, offer, uki).map(drop))
}

fn wrong_blob(offer: &Offer, blob: &Digest, problem: String) -> ChannelError {
    ChannelError::Blob { blob: *blob, release: offer.release.version.clone(), problem }
}

fn verify_blob(path: &Path, offer: &Offer, blob: &Blob) -> Result<(), ChannelError> {
    let file = path.join(targets::blob(&blob.sha256));
    let read = File::open(&file).and_then(|mut open| digest_reader(&mut open));
    let problem = match read {
        Ok(found) if found == (blob.sha256, blob.bytes) => return Ok(()),
        Ok((_, bytes)) if bytes != blob.bytes => {
            format!("has {bytes} bytes instead of {}", blob.bytes)
        }
        Ok(_) => "is damaged".to_owned(),
        Err(error) => format!("cannot be read ({error})"),
    };
    Err(wrong_blob(offer, &blob.sha256, problem))
}

/// Decodes a payload; gives the hashes of its blocks.
fn verify_payload(path: &Path, offer: &Offer, payload: &Payload) -> Result<Vec<u8>, ChannelError> {
    let container = path.join(targets::blob(&payload.container.sha256));
    let (salt, version) = (&offer.release.root.salt, &offer.release.version);
    let decoded = payload::decode(&container, payload, salt, version)?;
    for way in &payload.ways {
        if let Way::Blocks { leaves } = way
            && Digest::of(&leaf_index(&decoded.hashes)) != leaves.sha256
        {
            let problem = "is not the block index of its payload".to_owned();
            return Err(wrong_blob(offer, &leaves.sha256, problem));
        }
    }
    Ok(decoded.hashes)
}
