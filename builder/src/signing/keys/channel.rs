//! The keys of a channel: which there are, and those of a folder that a command needs.
//!
//! Each is `NAME.key` (Ed25519, PKCS#8 PEM) with `NAME.pub` (SPKI PEM). They are meant to be
//! apart: a command opens only the keys that it signs with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ed25519_dalek::{SigningKey, VerifyingKey};

use super::{DEVELOPMENT_MARK, KeyError, KeyPurpose, open};
use crate::signing::signer::ReleaseSigner;

/// One key of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelKey {
    /// First of the three that say which keys count; two of them must sign.
    Root1,
    /// Second of them.
    Root2,
    /// Third of them.
    Root3,
    /// Says which release a channel points at: the release managers'.
    Targets,
    /// Signs releases and offers: CI's.
    Releases,
    /// Signs node groups: the operators'.
    Groups,
    /// Says which documents belong together.
    Snapshot,
    /// Says which snapshot is the latest.
    Timestamp,
}

impl ChannelKey {
    /// All of them.
    pub const ALL: [ChannelKey; 8] = [
        ChannelKey::Root1,
        ChannelKey::Root2,
        ChannelKey::Root3,
        ChannelKey::Targets,
        ChannelKey::Releases,
        ChannelKey::Groups,
        ChannelKey::Snapshot,
        ChannelKey::Timestamp,
    ];
    /// Those of the root.
    pub const ROOTS: [ChannelKey; 3] = [ChannelKey::Root1, ChannelKey::Root2, ChannelKey::Root3];
    /// How many of [`ChannelKey::ROOTS`] must sign.
    pub const ROOT_THRESHOLD: usize = 2;

    /// Name of its files, without `.key` and `.pub`.
    pub fn stem(self) -> &'static str {
        match self {
            ChannelKey::Root1 => "root-1",
            ChannelKey::Root2 => "root-2",
            ChannelKey::Root3 => "root-3",
            ChannelKey::Targets => "targets",
            ChannelKey::Releases => "release",
            ChannelKey::Groups => "groups",
            ChannelKey::Snapshot => "snapshot",
            ChannelKey::Timestamp => "timestamp",
        }
    }
}

/// Keys of one folder, opened and checked.
pub struct ChannelKeys {
    folder: PathBuf,
    purpose: KeyPurpose,
    keys: BTreeMap<ChannelKey, SigningKey>,
}

impl std::fmt::Debug for ChannelKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No key material in a log.
        let names: Vec<_> = self.keys.keys().collect();
        f.debug_struct("ChannelKeys").field("keys", &names).finish_non_exhaustive()
    }
}

impl ChannelKeys {
    /// Opens those that are needed.
    ///
    /// # Errors
    /// That of [`lacking`] with all that are missing; as [`super::KeyFolder::open`].
    pub fn open(folder: &Path, needed: &[ChannelKey]) -> Result<Self, KeyError> {
        // The public half is told apart only where the private one is.
        let lacks = |key: ChannelKey| {
            ["key", "pub"].into_iter().find(|end| !path(folder, key, end).exists())
        };
        let missing = needed.iter().filter_map(|key| Some((key, lacks(*key)?)));
        let missing: Vec<_> = missing.map(|(key, end)| format!("{}.{end}", key.stem())).collect();
        if !missing.is_empty() {
            return Err(lacking(folder, missing));
        }
        let purpose = purpose(folder);
        let keys = needed.iter().map(|key| Ok((*key, open::ed25519_key(folder, key.stem())?)));
        let keys = keys.collect::<Result<_, KeyError>>()?;
        Ok(Self { folder: folder.into(), purpose, keys })
    }

    /// Opens each from its own folder; their purpose is that of the first.
    ///
    /// # Errors
    /// As [`ChannelKeys::open`].
    pub fn open_each<'a>(
        wanted: impl IntoIterator<Item = (ChannelKey, &'a Path)>,
    ) -> Result<Self, KeyError> {
        let mut all: Option<Self> = None;
        for (key, folder) in wanted {
            let one = Self::open(folder, &[key])?;
            match &mut all {
                Some(all) => all.keys.extend(one.keys),
                None => all = Some(one),
            }
        }
        all.ok_or_else(|| KeyError::NoChannelKeys { folder: PathBuf::new(), files: Vec::new() })
    }

    /// Opens those of `wanted` that the folder holds.
    ///
    /// # Errors
    /// As [`ChannelKeys::open`].
    pub fn open_present(folder: &Path, wanted: &[ChannelKey]) -> Result<Self, KeyError> {
        let present = |key: &&ChannelKey| path(folder, **key, "key").exists();
        let present: Vec<_> = wanted.iter().filter(present).copied().collect();
        Self::open(folder, &present)
    }

    /// Opens as many root keys as there are, and at least as many as must sign.
    ///
    /// # Errors
    /// That of [`lacking`] with those missing.
    pub fn open_roots(folder: &Path) -> Result<Self, KeyError> {
        let opened = Self::open_present(folder, &ChannelKey::ROOTS)?;
        if opened.keys.len() >= ChannelKey::ROOT_THRESHOLD {
            return Ok(opened);
        }
        let missing = ChannelKey::ROOTS.iter().filter(|key| !opened.keys.contains_key(key));
        let files = missing.map(|key| format!("{}.key", key.stem())).collect();
        Err(lacking(folder, files))
    }

    /// The folder that they are from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What they are for.
    pub fn purpose(&self) -> KeyPurpose {
        self.purpose
    }

    /// True for throw-away keys.
    pub fn is_development(&self) -> bool {
        self.purpose == KeyPurpose::Development
    }

    /// The signer with this key.
    ///
    /// # Errors
    /// [`KeyError::NoChannelKeys`] when it is not among those opened.
    pub fn signer(&self, key: ChannelKey) -> Result<&dyn ReleaseSigner, KeyError> {
        let found = self.keys.get(&key).map(|key| key as &dyn ReleaseSigner);
        let files = vec![format!("{}.key", key.stem())];
        found.ok_or(KeyError::NoChannelKeys { folder: self.folder.clone(), files })
    }

    /// All opened, by their names.
    pub fn signers(&self) -> impl Iterator<Item = (ChannelKey, &dyn ReleaseSigner)> {
        self.keys.iter().map(|(name, key)| (*name, key as &dyn ReleaseSigner))
    }
}

/// The public half of a key, which may be where the private one is not: 32 bytes.
///
/// # Errors
/// That of [`lacking`] when the file is missing; [`KeyError`] for anything else.
pub fn public_key(folder: &Path, key: ChannelKey) -> Result<[u8; 32], KeyError> {
    if !path(folder, key, "pub").exists() {
        let files = vec![format!("{}.pub", key.stem())];
        return Err(lacking(folder, files));
    }
    open::ed25519_public(&path(folder, key, "pub")).map(|key: VerifyingKey| key.to_bytes())
}

/// What a folder lacks, with the step that fits what it has: keys that belong to others, a
/// folder from before channels, no keys at all, or no folder.
fn lacking(folder: &Path, files: Vec<String>) -> KeyError {
    let has = |key: ChannelKey| path(folder, key, "key").exists();
    let folder = folder.to_owned();
    if !folder.is_dir() {
        return KeyError::NoFolder { folder, option: "--keys" };
    }
    if ChannelKey::ALL.into_iter().any(|key| key != ChannelKey::Releases && has(key)) {
        return KeyError::NoChannelKeys { folder, files };
    }
    if has(ChannelKey::Releases) {
        return KeyError::BeforeChannels { folder, files };
    }
    KeyError::Missing { folder, files }
}

/// What the keys of a folder are for.
fn purpose(folder: &Path) -> KeyPurpose {
    if folder.join(DEVELOPMENT_MARK).exists() {
        return KeyPurpose::Development;
    }
    KeyPurpose::Production
}

fn path(folder: &Path, key: ChannelKey, extension: &str) -> PathBuf {
    folder.join(format!("{}.{extension}", key.stem()))
}
