//! Release folders into a channel: blobs, offers, and the metadata that lists them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::channel::targets;
use contract::release::offer::{Blob, FRAME_BYTES, Offer, Payload, SCHEMA, Way};
use contract::release::verity::{BlockHasher, HashTree};
use contract::{Digest, ReleaseDocument, RootHash, Slot};
use jiff::Timestamp;
use semver::Version;
use tough::ExpirationEnforcement;

use super::ChannelError;
use super::commit::{Change, Lifetimes, Signing, commit, trusts};
use super::folder::Folder;
use super::payload::{self, Encoded, Encoding, KnownFrames, PayloadError};
use super::release_folder::{ROOT_FILE, ReleaseFolder, ReleaseFolderError, Signers};
use super::roles::TargetsRole;
use super::state::{OfferName, State};
use crate::formats::tree::digest_reader;
use crate::progress::{Progress, Task};
use crate::signing::keys::{ChannelKey, ChannelKeys};

/// zstd's level when none is asked for.
pub const DEFAULT_LEVEL: i32 = 19;
/// The oldest `slipwayd` that takes an offer of this program.
pub const MINIMUM_UPDATER: Version = Version::new(0, 1, 0);
/// Releases whose frames are looked through for those of a new one: the latest.
const LOOKED_THROUGH: usize = 4;

/// What is published, and how.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// Release folders.
    pub releases: Vec<PathBuf>,
    /// The key folder: release, snapshot and timestamp.
    pub keys: PathBuf,
    /// zstd's level.
    pub level: i32,
    /// The oldest `slipwayd` that can install these releases.
    pub minimum_updater: Version,
    /// How long what is signed counts.
    pub lifetimes: Lifetimes,
}

/// What was published.
#[derive(Debug, Clone)]
pub struct PublishedRelease {
    /// Its offer.
    pub offer: Offer,
    /// True when it was there already; blobs that were missing or damaged are whole again.
    pub unchanged: bool,
    /// Frames in all.
    pub frames: usize,
    /// Frames that were copied, not compressed.
    pub copied: usize,
}

/// Sets the flag when dropped: what works on other threads then stops.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Publishes all releases in one change.
///
/// # Errors
/// [`ChannelError`]; readers see the channel as it was then.
pub async fn publish(
    folder: &Folder,
    request: &PublishRequest,
    now: Timestamp,
    progress: &Progress,
) -> Result<Vec<PublishedRelease>, ChannelError> {
    let needed = [ChannelKey::Releases, ChannelKey::Snapshot, ChannelKey::Timestamp];
    let keys = ChannelKeys::open(&request.keys, &needed)?;
    let state = State::load(folder.path(), ExpirationEnforcement::Unsafe).await?;
    let release_key = keys.signer(ChannelKey::Releases)?.public_key();
    if !trusts(&state, ChannelKey::Releases, &release_key)? {
        let name = ChannelKey::Releases.stem();
        return Err(ChannelError::WrongKey { folder: request.keys.clone(), name });
    }
    let signers = Signers::of_folder(&request.keys, release_key)?;
    let offers = state.offers()?;
    let work = open_releases(&state, &offers, &request.releases, &signers)?;
    let stop = StopOnDrop(Arc::default());
    let job = Job {
        folder: folder.clone(),
        offers,
        level: request.level,
        minimum_updater: request.minimum_updater.clone(),
        stop: Arc::clone(&stop.0),
        progress: progress.clone(),
    };
    let published = tokio::task::spawn_blocking(move || job.run(work)).await??;

    let mut change = Change::default();
    for release in published.iter().filter(|release| !release.unchanged) {
        let document = &release.offer.release;
        let name = targets::offer(&document.version, document.architecture);
        let bytes = release.offer.to_json()?.into_bytes();
        change.list(TargetsRole::Releases, &state, &name, bytes)?;
    }
    if published.iter().any(|release| !release.unchanged) {
        let signing = Signing {
            keys: &keys,
            lifetimes: request.lifetimes,
            now,
            expiry: ExpirationEnforcement::Safe,
        };
        commit(folder, &state, change, &signing).await?;
    }
    Ok(published)
}

/// Checks all release folders; one that is given twice counts once.
fn open_releases(
    state: &State,
    offers: &BTreeMap<OfferName, Offer>,
    paths: &[PathBuf],
    signers: &Signers,
) -> Result<Vec<ReleaseFolder>, ChannelError> {
    let mut known: BTreeMap<OfferName, ReleaseDocument> =
        offers.iter().map(|(id, offer)| (id.clone(), offer.release.clone())).collect();
    let mut releases: Vec<ReleaseFolder> = Vec::new();
    for path in paths {
        let release = ReleaseFolder::open(path, signers).map_err(|error| match error {
            // Other keys would not help.
            ReleaseFolderError::Signature { claims_development: true, .. }
                if !state.is_development() =>
            {
                ChannelError::Development(path.clone())
            }
            error => error.into(),
        })?;
        let document = &release.document;
        if document.development && !state.is_development() {
            return Err(ChannelError::Development(release.path));
        }
        let id = (document.version.clone(), document.architecture);
        match known.insert(id, document.clone()) {
            // Nodes may have it.
            Some(other) if other != *document => {
                let (version, published) = (other.version, other.root.root_hash);
                return Err(ChannelError::Republished { version, published });
            }
            _ => {}
        }
        if releases.iter().all(|given| given.document != *document) {
            releases.push(release);
        }
    }
    Ok(releases)
}

/// The part that takes minutes, on its own thread.
struct Job {
    folder: Folder,
    offers: BTreeMap<OfferName, Offer>,
    level: i32,
    minimum_updater: Version,
    stop: Arc<AtomicBool>,
    progress: Progress,
}

impl Job {
    fn run(mut self, releases: Vec<ReleaseFolder>) -> Result<Vec<PublishedRelease>, ChannelError> {
        let mut published = Vec::new();
        let mut known = None;
        for release in releases {
            let id = (release.document.version.clone(), release.document.architecture);
            if let Some(offer) = self.offers.get(&id)
                && offer.blobs().iter().all(|blob| self.is_whole(blob))
            {
                let offer = offer.clone();
                published.push(PublishedRelease { offer, unchanged: true, frames: 0, copied: 0 });
                continue;
            }
            if known.is_none() {
                known = Some(self.known_frames());
            }
            let known = known.get_or_insert_default();
            let made = self.encode(&release, known)?;
            // The same version again: its blobs were made anew, and the offer that lists them
            // is checked to be the one that is signed.
            let unchanged = self.offers.get(&id) == Some(&made.offer);
            self.offers.insert(id, made.offer.clone());
            published.push(PublishedRelease { unchanged, ..made });
        }
        Ok(published)
    }

    fn is_whole(&self, blob: &Blob) -> bool {
        let path = self.folder.path().join(targets::blob(&blob.sha256));
        let read = File::open(path).and_then(|mut file| digest_reader(&mut file));
        read.is_ok_and(|found| found == (blob.sha256, blob.bytes))
    }

    /// The frames of the latest releases. One that cannot be decoded only helps nobody:
    /// `slipway channel verify` complains about it.
    fn known_frames(&self) -> KnownFrames {
        let mut known = KnownFrames::default();
        for offer in self.offers.values().rev().take(LOOKED_THROUGH) {
            for payload in offer.ukis.values().chain([&offer.root]) {
                let container = self.folder.path().join(targets::blob(&payload.container.sha256));
                let release = &offer.release;
                match payload::decode(&container, payload, &release.root.salt, &release.version) {
                    Ok(decoded) => known.add(&container, &payload.frames, &decoded.contents),
                    Err(error) => self.progress.detail(&format!("frames not reused: {error}")),
                }
            }
        }
        known
    }

    fn encode(
        &self,
        release: &ReleaseFolder,
        known: &mut KnownFrames,
    ) -> Result<PublishedRelease, ChannelError> {
        let document = &release.document;
        let ukis: Vec<_> = Slot::ALL.iter().map(|slot| (*slot, release.uki(*slot))).collect();
        let size = |name: &str| Ok::<_, ChannelError>(release.file(name)?.bytes);
        let mut total = size(ROOT_FILE)?;
        for slot in Slot::ALL {
            total += size(&format!("slipway-{slot}.efi"))?;
        }
        let task = self.progress.bytes(&format!("compressing {}", document.version), total);
        let root_file = release.path.join(ROOT_FILE);
        let (root, encoded) = self.payload(&root_file, &document.root.salt, known, &task)?;
        check_root(&root_file, &encoded, &document.root.salt, &document.root.root_hash)?;
        let (mut frames, mut copied) = (encoded.frames.len(), encoded.copied);
        let mut payloads = BTreeMap::new();
        for (slot, file) in ukis {
            let (uki, encoded) = self.payload(&file, &document.root.salt, known, &task)?;
            if uki.sha256 != release.file(&format!("slipway-{slot}.efi"))?.sha256 {
                return Err(PayloadError::Changed(file).into());
            }
            frames += encoded.frames.len();
            copied += encoded.copied;
            payloads.insert(slot, uki);
        }
        task.finish(&format!("{frames} frames, {copied} of them were there"));
        let offer = Offer {
            schema: SCHEMA,
            release: document.clone(),
            minimum_updater: self.minimum_updater.clone(),
            esp_bytes: payloads.values().map(|payload| payload.bytes).max().unwrap_or_default(),
            root,
            ukis: payloads,
        };
        // As a node will read it.
        let offer = Offer::from_json(offer.to_json()?.as_bytes()).map_err(|error| {
            let name = targets::offer(&document.version, document.architecture);
            ChannelError::Document { name, source: error.into() }
        })?;
        Ok(PublishedRelease { offer, unchanged: false, frames, copied })
    }

    /// Encodes one file and puts its blobs in place, where nothing points at them yet.
    fn payload(
        &self,
        file: &Path,
        salt: &Digest,
        known: &mut KnownFrames,
        task: &Task,
    ) -> Result<(Payload, Encoded), ChannelError> {
        let encoding = Encoding { level: self.level, salt, cancelled: &self.stop };
        let mut container = self.folder.temporary()?;
        let advance = |bytes| task.advance(bytes);
        let encoded = payload::encode(file, &encoding, known, container.as_file_mut(), advance)?;
        let name = targets::blob(&encoded.container.sha256);
        self.folder.put(container, &name)?;
        known.add(&self.folder.path().join(&name), &encoded.frames, &encoded.contents);
        let leaves = encoded.leaves();
        let leaves_blob = Blob { sha256: Digest::of(&leaves), bytes: leaves.len() as u64 };
        let mut index = self.folder.temporary()?;
        let leaves_name = targets::blob(&leaves_blob.sha256);
        index
            .write_all(&leaves)
            .map_err(|error| ChannelError::Io(self.folder.path().join(&leaves_name), error))?;
        self.folder.put(index, &leaves_name)?;
        self.folder.sync([name.as_str()])?;
        let payload = Payload {
            bytes: encoded.bytes,
            sha256: encoded.sha256,
            container: encoded.container,
            frame_bytes: FRAME_BYTES,
            frames: encoded.frames.clone(),
            ways: vec![
                Way::Full { bytes: encoded.container.bytes },
                Way::Blocks { leaves: leaves_blob },
            ],
        };
        Ok((payload, encoded))
    }
}

/// The root hash over what was compressed is the one that the release names.
fn check_root(
    file: &Path,
    encoded: &Encoded,
    salt: &Digest,
    expected: &RootHash,
) -> Result<(), ChannelError> {
    let tree = HashTree::over(encoded.hashes.clone(), &BlockHasher::new(salt));
    if tree.is_some_and(|tree| tree.root == *expected) {
        return Ok(());
    }
    Err(ChannelError::RootHash { file: file.into(), expected: *expected })
}
