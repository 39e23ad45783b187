//! A new channel: the root, empty roles, and the first snapshot.

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

use contract::channel::targets::{BLOBS_DIR, DEVELOPMENT_FIELD, METADATA_DIR, TARGETS_DIR};
use jiff::Timestamp;
use tough::ExpirationEnforcement;
use tough::schema::{RoleType, Root};

use super::ChannelError;
use super::client::FolderTransport;
use super::commit::{Lifetimes, Signing, metadata_file, sign};
use super::folder::{Folder, LOCK_FILE, TEMPORARY_DIR};
use super::metadata::{self, PublicKey, SPEC_VERSION};
use super::roles::TargetsRole;
use super::state::{self, INITIAL_ROOT, TIMESTAMP_FILE};
use crate::signing::keys::{ChannelKey, ChannelKeys, KeyPurpose, public_key};
use crate::signing::signer::ReleaseSigner;

/// The public keys that a root names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootKeys {
    /// Those of the root; two must sign.
    pub root: Vec<PublicKey>,
    /// Those of the top-level targets; one must sign, as for the others.
    pub targets: Vec<PublicKey>,
    /// Those of the snapshot.
    pub snapshot: Vec<PublicKey>,
    /// Those of the timestamp.
    pub timestamp: Vec<PublicKey>,
}

impl RootKeys {
    /// The public keys of a folder.
    ///
    /// # Errors
    /// [`ChannelError::Key`] when one is missing.
    pub fn of_folder(folder: &Path) -> Result<Self, ChannelError> {
        let one = |key| Ok::<_, ChannelError>(vec![public_key(folder, key)?]);
        let roots = ChannelKey::ROOTS.iter().map(|key| Ok(public_key(folder, *key)?));
        Ok(Self {
            root: roots.collect::<Result<_, ChannelError>>()?,
            targets: one(ChannelKey::Targets)?,
            snapshot: one(ChannelKey::Snapshot)?,
            timestamp: one(ChannelKey::Timestamp)?,
        })
    }
}

/// A root with these keys.
///
/// # Errors
/// [`ChannelError::Metadata`], which no keys cause.
pub fn root(
    version: NonZeroU64,
    expires: Timestamp,
    keys: &RootKeys,
    development: bool,
) -> Result<Root, ChannelError> {
    let two = NonZeroU64::MIN.saturating_add(1);
    let one = NonZeroU64::MIN;
    let roles = HashMap::from([
        (RoleType::Root, metadata::role_keys(&keys.root, two)?),
        (RoleType::Targets, metadata::role_keys(&keys.targets, one)?),
        (RoleType::Snapshot, metadata::role_keys(&keys.snapshot, one)?),
        (RoleType::Timestamp, metadata::role_keys(&keys.timestamp, one)?),
    ]);
    let all = [&keys.root, &keys.targets, &keys.snapshot, &keys.timestamp];
    let mark = (DEVELOPMENT_FIELD.to_owned(), true.into());
    Ok(Root {
        spec_version: SPEC_VERSION.to_owned(),
        consistent_snapshot: true,
        version,
        expires,
        keys: metadata::key_map(all.into_iter().flatten())?,
        roles,
        _extra: development.then_some(mark).into_iter().collect(),
    })
}

/// Locks a new or empty folder, or one that an interrupted [`init`] left.
///
/// # Errors
/// [`ChannelError::Exists`], [`ChannelError::Foreign`], [`ChannelError::Locked`].
pub fn create(path: &Path) -> Result<Folder, ChannelError> {
    fs::create_dir_all(path).map_err(|error| ChannelError::Io(path.into(), error))?;
    refuse_foreign(path)?;
    let folder = Folder::lock(path)?;
    if path.join(TIMESTAMP_FILE).exists() {
        return Err(ChannelError::Exists(path.into()));
    }
    Ok(folder)
}

/// Makes an empty channel in a folder of [`create`]; gives what its keys are for.
///
/// # Errors
/// [`ChannelError`], such as that of a missing key; the folder is no channel then.
pub async fn init(
    folder: &Folder,
    key_folder: &Path,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> Result<KeyPurpose, ChannelError> {
    let roots = ChannelKeys::open_roots(key_folder)?;
    let roles = TargetsRole::ALL.map(TargetsRole::key);
    let needed = [&roles[..], &[ChannelKey::Snapshot, ChannelKey::Timestamp]].concat();
    let keys = ChannelKeys::open(key_folder, &needed)?;
    let path = folder.path();
    let signing = Signing { keys: &keys, lifetimes, now, expiry: ExpirationEnforcement::Safe };

    let first = NonZeroU64::MIN;
    let expires = signing.expires(lifetimes.root)?;
    let content = root(first, expires, &RootKeys::of_folder(key_folder)?, roots.is_development())?;
    let signers: Vec<&dyn ReleaseSigner> = roots.signers().map(|(_, signer)| signer).collect();
    let root = metadata::sign(&content, &signers)?;

    let expires = signing.expires(lifetimes.documents)?;
    let mut roles = TargetsRole::ALL.map(|role| (role, metadata::empty_targets(first, expires)));
    let public = |key| keys.signer(key).map(ReleaseSigner::public_key);
    roles[0].1.delegations =
        Some(metadata::delegations(&public(ChannelKey::Releases)?, &public(ChannelKey::Groups)?)?);
    let mut signed = sign(&roles, None, &signing)?;
    signed.files.insert(metadata_file("root", first), root.clone());
    signed.files.insert(INITIAL_ROOT.to_owned(), root.clone());

    let datastore = tempfile::tempdir().map_err(|error| ChannelError::Io(path.into(), error))?;
    let transport = FolderTransport::new(path, signed.all());
    state::accepts(&root, transport, datastore.path(), signing.expiry).await?;
    for name in [METADATA_DIR, TARGETS_DIR, BLOBS_DIR] {
        let inner = path.join(name);
        fs::create_dir_all(&inner).map_err(|error| ChannelError::Io(inner, error))?;
    }
    signed.write(folder)?;
    Ok(roots.purpose())
}

fn refuse_foreign(path: &Path) -> Result<(), ChannelError> {
    let failed = |error| ChannelError::Io(path.into(), error);
    let ours = [METADATA_DIR, TARGETS_DIR, BLOBS_DIR, INITIAL_ROOT, LOCK_FILE, TEMPORARY_DIR];
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if !ours.contains(&name.as_str()) {
            return Err(ChannelError::Foreign { folder: path.into(), name });
        }
    }
    Ok(())
}
