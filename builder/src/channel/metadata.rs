//! Metadata of The Update Framework as bytes: built from values, signed with any keys.
//!
//! In: roles of `tough::schema` and signers. Out: canonical JSON, the same bytes for the same
//! values and keys. Nothing here asks whether a client would take what it makes, so that tests
//! can forge what one must refuse.

use std::collections::HashMap;
use std::num::NonZeroU64;

use contract::Digest;
use contract::channel::targets;
use jiff::Timestamp;
use olpc_cjson::CanonicalFormatter;
use serde::Serialize;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::{Ed25519Key, Ed25519Scheme, Key};
use tough::schema::{
    self, DelegatedRole, Delegations, Hashes, Metafile, PathPattern, PathSet, Role, RoleKeys,
    Signature, Signed, Snapshot, Target, Targets,
};

use crate::signing::signer::{ReleaseSigner, SignError};

/// The version of TUF's specification that all metadata names.
pub const SPEC_VERSION: &str = "1.0.0";

/// A public Ed25519 key, 32 bytes.
pub type PublicKey = [u8; 32];

/// Why metadata was not made.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// It cannot be written as canonical JSON.
    #[error("metadata cannot be written as canonical JSON")]
    Json(#[from] serde_json::Error),
    /// A key or a path pattern is none.
    #[error("metadata with a key or a path pattern that is none")]
    Schema(#[source] Box<schema::Error>),
    /// A key's holder refused.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl From<schema::Error> for MetadataError {
    fn from(error: schema::Error) -> Self {
        Self::Schema(Box::new(error))
    }
}

/// A value as canonical JSON.
///
/// # Errors
/// [`MetadataError::Json`].
pub fn canonical(value: &impl Serialize) -> Result<Vec<u8>, MetadataError> {
    let mut bytes = Vec::new();
    let formatter = CanonicalFormatter::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(bytes)
}

/// The metadata file of a role: its content and a signature of each signer.
///
/// # Errors
/// [`MetadataError`].
pub fn sign<T: Role + Clone>(
    role: &T,
    signers: &[&dyn ReleaseSigner],
) -> Result<Vec<u8>, MetadataError> {
    let message = canonical(role)?;
    let signatures = signers.iter().map(|signer| {
        let sig = signer.sign(&message)?.to_vec().into();
        Ok(Signature { keyid: key_id(&signer.public_key())?, sig })
    });
    let signatures = signatures.collect::<Result<_, MetadataError>>()?;
    canonical(&Signed { signed: role.clone(), signatures })
}

/// A public key as TUF writes it.
pub fn key(public: &PublicKey) -> Key {
    Key::Ed25519 {
        keyval: Ed25519Key { public: public.to_vec().into(), _extra: HashMap::new() },
        scheme: Ed25519Scheme::Ed25519,
        _extra: HashMap::new(),
    }
}

/// The name of a public key: SHA-256 over its canonical JSON.
///
/// # Errors
/// [`MetadataError`], which no key of this type causes.
pub fn key_id(public: &PublicKey) -> Result<Decoded<Hex>, MetadataError> {
    Ok(key(public).key_id()?)
}

/// Keys by their names.
///
/// # Errors
/// As [`key_id`].
pub fn key_map<'a>(
    public: impl IntoIterator<Item = &'a PublicKey>,
) -> Result<HashMap<Decoded<Hex>, Key>, MetadataError> {
    public.into_iter().map(|public| Ok((key_id(public)?, key(public)))).collect()
}

/// Who signs a role, and how many of them must.
///
/// # Errors
/// As [`key_id`].
pub fn role_keys(public: &[PublicKey], threshold: NonZeroU64) -> Result<RoleKeys, MetadataError> {
    let keyids = public.iter().map(key_id).collect::<Result<_, _>>()?;
    Ok(RoleKeys { keyids, threshold, _extra: HashMap::new() })
}

/// The delegations of a channel: offers to the key of `releases`, groups to that of `groups`.
///
/// # Errors
/// [`MetadataError`], which no keys of this type cause.
pub fn delegations(releases: &PublicKey, groups: &PublicKey) -> Result<Delegations, MetadataError> {
    let role = |name: &str, pattern: &str, public: &PublicKey| {
        Ok::<_, MetadataError>(DelegatedRole {
            name: name.to_owned(),
            keyids: vec![key_id(public)?],
            threshold: NonZeroU64::MIN,
            paths: PathSet::Paths(vec![PathPattern::new(pattern)?]),
            terminating: true,
            targets: None,
        })
    };
    let roles = vec![
        role(targets::RELEASES_ROLE, targets::RELEASES_PATTERN, releases)?,
        role(targets::GROUPS_ROLE, targets::GROUPS_PATTERN, groups)?,
    ];
    Ok(Delegations { keys: key_map([releases, groups])?, roles })
}

/// A targets role, top-level or delegated, that lists nothing and delegates nothing.
pub fn empty_targets(version: NonZeroU64, expires: Timestamp) -> Targets {
    let mut role = Targets::new(SPEC_VERSION.to_owned(), version, expires);
    role.delegations = None;
    role
}

/// How a snapshot or timestamp names a metadata file.
pub fn metafile(version: NonZeroU64, bytes: &[u8]) -> Metafile {
    let (length, hashes) = (Some(bytes.len() as u64), Some(hashes(bytes)));
    Metafile { length, hashes, version, _extra: HashMap::new() }
}

/// How a targets role names a document.
pub fn target(bytes: &[u8]) -> Target {
    let length = bytes.len() as u64;
    Target { length, hashes: hashes(bytes), custom: HashMap::new(), _extra: HashMap::new() }
}

/// A snapshot of metadata files, by names such as `targets.json`.
pub fn snapshot(
    version: NonZeroU64,
    expires: Timestamp,
    meta: HashMap<String, Metafile>,
) -> Snapshot {
    let mut role = Snapshot::new(SPEC_VERSION.to_owned(), version, expires);
    role.meta = meta;
    role
}

/// A timestamp that names the snapshot file with these bytes.
pub fn timestamp(
    version: NonZeroU64,
    expires: Timestamp,
    snapshot_version: NonZeroU64,
    snapshot: &[u8],
) -> schema::Timestamp {
    let mut role = schema::Timestamp::new(SPEC_VERSION.to_owned(), version, expires);
    role.meta.insert("snapshot.json".to_owned(), metafile(snapshot_version, snapshot));
    role
}

fn hashes(bytes: &[u8]) -> Hashes {
    let sha256 = Digest::of(bytes).as_bytes().to_vec().into();
    Hashes { sha256, _extra: HashMap::new() }
}
