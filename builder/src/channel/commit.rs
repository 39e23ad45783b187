//! From a change of documents to new metadata, in the order in which a reader may see it.
//!
//! **Invariant:** a reader sees the old state or the new one: blobs, documents and versioned
//! metadata come first, under names that nothing points at yet; the rename of
//! `timestamp.json` makes them count. **Invariant:** what a node would refuse is not written.

use std::collections::HashMap;
use std::num::NonZeroU64;

use contract::Digest;
use contract::channel::targets;
use jiff::{SignedDuration, Timestamp};
use tough::schema::{self, Metafile, RoleType, Root, Snapshot, Targets};
use tough::{ExpirationEnforcement, TargetName};

use super::ChannelError;
use super::client::Files;
use super::folder::Folder;
use super::metadata::{self, PublicKey};
use super::roles::TargetsRole;
use super::state::{State, TIMESTAMP_FILE};
use crate::signing::keys::{ChannelKey, ChannelKeys};

/// How long what is signed counts.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// The timestamp: how long a node can be kept from news without noticing.
    pub timestamp: SignedDuration,
    /// Snapshot, targets and the delegated roles.
    pub documents: SignedDuration,
    /// The root.
    pub root: SignedDuration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        Self { timestamp: days(14), documents: days(180), root: days(730) }
    }
}

/// Who signs, for how long, and when.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// The keys that the command needs.
    pub keys: &'a ChannelKeys,
    /// How long it counts.
    pub lifetimes: Lifetimes,
    /// The time of the command.
    pub now: Timestamp,
    /// Whether a role that has expired, and is not part of the change, stops it. Renewing does
    /// not let it: keys are with different people, and one of them must be the first.
    pub expiry: ExpirationEnforcement,
}

impl Signing<'_> {
    /// The time after `lifetime`, in whole seconds.
    ///
    /// # Errors
    /// [`ChannelError::Expiry`].
    pub fn expires(&self, lifetime: SignedDuration) -> Result<Timestamp, ChannelError> {
        expires(self.now, lifetime)
    }
}

/// The time `lifetime` after `now`, in whole seconds.
///
/// # Errors
/// [`ChannelError::Expiry`].
pub fn expires(now: Timestamp, lifetime: SignedDuration) -> Result<Timestamp, ChannelError> {
    let end = now.checked_add(lifetime).map_err(|_| ChannelError::Expiry)?;
    Timestamp::from_second(end.as_second()).map_err(|_| ChannelError::Expiry)
}

/// What the next state has instead of the present one.
#[derive(Debug, Default)]
pub struct Change {
    roles: Vec<(TargetsRole, Targets)>,
    documents: Files,
}

impl Change {
    /// The content of a role, to be changed in memory; [`commit`] gives it version, expiry and
    /// signature, and writes it.
    pub fn role(&mut self, role: TargetsRole, state: &State) -> &mut Targets {
        let index = self.roles.iter().position(|(known, _)| *known == role).unwrap_or_else(|| {
            self.roles.push((role, state.role(role).clone()));
            self.roles.len() - 1
        });
        &mut self.roles[index].1
    }

    /// Lists a document under `name`.
    ///
    /// # Errors
    /// [`ChannelError::Document`] for a name that TUF does not take.
    pub fn list(
        &mut self,
        role: TargetsRole,
        state: &State,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<(), ChannelError> {
        let target = metadata::target(&bytes);
        self.role(role, state).targets.insert(target_name(name)?, target);
        let file = targets::file(name, &Digest::of(&bytes));
        self.documents.insert(format!("{}/{file}", targets::TARGETS_DIR), bytes);
        Ok(())
    }

    /// Lists nothing more under `name`.
    ///
    /// # Errors
    /// [`ChannelError::Document`] for a name that TUF does not take.
    pub fn unlist(
        &mut self,
        role: TargetsRole,
        state: &State,
        name: &str,
    ) -> Result<(), ChannelError> {
        self.role(role, state).targets.remove(&target_name(name)?);
        Ok(())
    }
}

fn target_name(name: &str) -> Result<TargetName, ChannelError> {
    TargetName::new(name)
        .map_err(|error| ChannelError::Document { name: name.to_owned(), source: error.into() })
}

/// Metadata that is ready to be written.
pub struct Signed {
    /// Files that nothing points at before the timestamp is there.
    pub files: Files,
    /// The timestamp.
    pub timestamp: Vec<u8>,
}

impl Signed {
    /// All files, as a reader would see them.
    pub fn all(&self) -> Files {
        let mut all = self.files.clone();
        all.insert(TIMESTAMP_FILE.to_owned(), self.timestamp.clone());
        all
    }

    /// Writes all, the timestamp last.
    ///
    /// # Errors
    /// [`ChannelError::Io`]; readers see the old state then.
    pub fn write(&self, folder: &Folder) -> Result<(), ChannelError> {
        for (name, bytes) in &self.files {
            folder.write(name, bytes)?;
        }
        // Without this, a power cut could keep the timestamp and lose what it points at.
        folder.sync(self.files.keys().map(String::as_str))?;
        folder.write(TIMESTAMP_FILE, &self.timestamp)?;
        folder.sync([TIMESTAMP_FILE])
    }
}

/// Signs what changes, a snapshot and a timestamp, asks a client, and writes.
///
/// # Errors
/// [`ChannelError`]; nothing that counts was written then.
pub async fn commit(
    folder: &Folder,
    state: &State,
    change: Change,
    signing: &Signing<'_>,
) -> Result<(), ChannelError> {
    check_keys(state, &change, signing.keys)?;
    let roles = change.roles.into_iter().map(|(role, mut content)| {
        content.version = next(content.version)?;
        content.expires = signing.expires(signing.lifetimes.documents)?;
        Ok((role, content))
    });
    let roles: Vec<_> = roles.collect::<Result<_, ChannelError>>()?;
    let mut signed =
        sign(&roles, Some((&state.snapshot.signed, &state.timestamp.signed)), signing)?;
    signed.files.extend(change.documents);
    state.accepts(signed.all(), signing.expiry).await?;
    signed.write(folder)
}

/// Signs roles that have their versions, and a snapshot and timestamp over them and what was
/// there before.
///
/// # Errors
/// [`ChannelError`] when a key is missing.
pub fn sign(
    roles: &[(TargetsRole, Targets)],
    previous: Option<(&Snapshot, &schema::Timestamp)>,
    signing: &Signing<'_>,
) -> Result<Signed, ChannelError> {
    let signer = |key| signing.keys.signer(key);
    let mut files = Files::new();
    let mut meta: HashMap<String, Metafile> =
        previous.map(|(snapshot, _)| snapshot.meta.clone()).unwrap_or_default();
    for (role, content) in roles {
        let bytes = metadata::sign(content, &[signer(role.key())?])?;
        meta.insert(format!("{}.json", role.name()), metadata::metafile(content.version, &bytes));
        files.insert(metadata_file(role.name(), content.version), bytes);
    }
    let versions = previous.map(|(snapshot, timestamp)| (snapshot.version, timestamp.version));
    let (snapshot_version, timestamp_version) = match versions {
        Some((snapshot, timestamp)) => (next(snapshot)?, next(timestamp)?),
        None => (NonZeroU64::MIN, NonZeroU64::MIN),
    };
    let expires = signing.expires(signing.lifetimes.documents)?;
    let snapshot = metadata::snapshot(snapshot_version, expires, meta);
    let snapshot = metadata::sign(&snapshot, &[signer(ChannelKey::Snapshot)?])?;
    let expires = signing.expires(signing.lifetimes.timestamp)?;
    let timestamp = metadata::timestamp(timestamp_version, expires, snapshot_version, &snapshot);
    files.insert(metadata_file("snapshot", snapshot_version), snapshot);
    let timestamp = metadata::sign(&timestamp, &[signer(ChannelKey::Timestamp)?])?;
    Ok(Signed { files, timestamp })
}

/// Name of a versioned metadata file below the channel's folder.
pub fn metadata_file(role: &str, version: NonZeroU64) -> String {
    format!("{}/{version}.{role}.json", targets::METADATA_DIR)
}

/// The version after this one.
///
/// # Errors
/// [`ChannelError::Versions`].
pub fn next(version: NonZeroU64) -> Result<NonZeroU64, ChannelError> {
    version.checked_add(1).ok_or(ChannelError::Versions)
}

/// A wrong key is named here, before a client says that signatures are missing.
fn check_keys(state: &State, change: &Change, keys: &ChannelKeys) -> Result<(), ChannelError> {
    let changed = change.roles.iter().find(|(role, _)| *role == TargetsRole::Targets);
    let targets = changed.map_or(&state.targets, |(_, content)| content);
    let roles = change.roles.iter().map(|(role, _)| role.key());
    for key in roles.chain([ChannelKey::Snapshot, ChannelKey::Timestamp]) {
        if !names(&state.root.signed, targets, key, &keys.signer(key)?.public_key())? {
            return Err(ChannelError::WrongKey { folder: keys.folder().into(), name: key.stem() });
        }
    }
    Ok(())
}

/// True when the channel takes what this key signs in the place of `key`.
///
/// # Errors
/// [`ChannelError::Metadata`], which no key causes.
pub fn trusts(state: &State, key: ChannelKey, public: &PublicKey) -> Result<bool, ChannelError> {
    names(&state.root.signed, &state.targets, key, public)
}

fn names(
    root: &Root,
    targets: &Targets,
    key: ChannelKey,
    public: &PublicKey,
) -> Result<bool, ChannelError> {
    let id = metadata::key_id(public)?;
    let top = |role| root.roles.get(&role).is_some_and(|keys| keys.keyids.contains(&id));
    let delegated = |role: TargetsRole| {
        let roles = targets.delegations.iter().flat_map(|all| &all.roles);
        roles.filter(|known| known.name == role.name()).any(|known| known.keyids.contains(&id))
    };
    Ok(match key {
        ChannelKey::Root1 | ChannelKey::Root2 | ChannelKey::Root3 => top(RoleType::Root),
        ChannelKey::Targets => top(RoleType::Targets),
        ChannelKey::Snapshot => top(RoleType::Snapshot),
        ChannelKey::Timestamp => top(RoleType::Timestamp),
        ChannelKey::Releases => delegated(TargetsRole::Releases),
        ChannelKey::Groups => delegated(TargetsRole::Groups),
    })
}
