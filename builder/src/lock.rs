//! The lock: every input of an image, pinned, in a text that reads well in a diff.
//!
//! A lock never names a mirror: `path` is relative to one.

use std::collections::BTreeMap;

use release::Digest;
use serde::{Deserialize, Serialize};

/// The format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Largest lock file that is read, in bytes.
pub const MAX_LOCK_BYTES: u64 = 4 << 20;

/// All pinned inputs of one manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`FORMAT`].
    pub format: u32,
    /// The Debian part.
    pub debian: DebianLock,
    /// Go modules by the name of their part.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub go: BTreeMap<String, GoLock>,
}

/// Packages, and the signed indexes that they were taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebianLock {
    /// The package names that the manifest asks for, sorted.
    pub requested: Vec<String>,
    /// One per suite, in the manifest's order.
    pub index: Vec<IndexLock>,
    /// The whole closure, sorted by name.
    pub package: Vec<PackageLock>,
}

/// A verified InRelease file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexLock {
    /// Such as `trixie-security`.
    pub suite: String,
    /// The Release file's `Date`, as written there.
    pub date: String,
    /// OpenPGP fingerprints of the certificates whose signatures verified, sorted.
    pub signed_by: Vec<String>,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageLock {
    /// Binary package name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Suite whose index lists it.
    pub suite: String,
    /// Size of the `.deb`, in bytes.
    pub size: u64,
    /// SHA-256 of the `.deb`.
    pub sha256: Digest,
    /// Path inside the mirror, such as `pool/main/k/kmod/kmod_34.2-2_amd64.deb`.
    pub path: String,
}

/// A Go module and what its `go.sum` says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoLock {
    /// Module path.
    pub module: String,
    /// Module version.
    pub version: String,
    /// `h1:` sum of the module, from `go.sum`.
    pub sum: String,
    /// Go toolchain that compiles it, such as `go1.26.8`.
    pub toolchain: String,
    /// SHA-256 of `go.mod` and `go.sum`, which pin everything else.
    pub files: Digest,
}
