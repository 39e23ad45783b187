//! The lock beside a manifest: finding, reading and comparing it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{BuildError, GoLocks};
use crate::inputs::golang::{GolangError, Pins};
use crate::lock::{DebianRequest, Lock, MAX_LOCK_BYTES};
use crate::manifest::{Manifest, lock_path};

/// The lock beside the manifest, or else beside the nearest one that it extends: a
/// manifest that adds nothing to lock needs no lock of its own.
pub fn find_lock(manifest: &Manifest) -> PathBuf {
    let mut candidates = manifest.chain.iter().map(|file| lock_path(file));
    candidates.find(|lock| lock.exists()).unwrap_or_else(|| lock_path(&manifest.file))
}

/// Reads and parses a lock.
///
/// # Errors
/// [`BuildError::ReadLock`], [`BuildError::Lock`].
pub fn read_lock(path: &Path) -> Result<Lock, BuildError> {
    let failed = |error| BuildError::ReadLock(path.into(), error);
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_LOCK_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    Lock::parse(&text).map_err(|error| BuildError::Lock(path.into(), error))
}

/// What the Go parts of a manifest pin, by part.
///
/// # Errors
/// [`GolangError`] for a part that does not pin.
pub fn go_locks(manifest: &Manifest) -> Result<GoLocks, GolangError> {
    let mut locks = BTreeMap::new();
    for (name, part) in &manifest.parts {
        if let Some(go) = &part.go {
            locks.insert(name.clone(), Pins::read(&part.resolve(&go.module))?.lock);
        }
    }
    Ok(locks)
}

/// Compares a lock with its manifest; no network.
///
/// # Errors
/// [`BuildError::LockMismatch`] with every difference.
pub fn check_lock(manifest: &Manifest, lock: &Lock, file: &Path) -> Result<(), BuildError> {
    let packages = manifest.requested_packages();
    let request = DebianRequest { suites: &manifest.debian.suites, packages: &packages };
    let mut differences = lock.debian.mismatches(&request);
    let current = go_locks(manifest)?;
    for (part, pins) in &current {
        match lock.go.get(part) {
            None => differences.push(format!("the Go part `{part}` is not locked yet")),
            Some(locked) if locked != pins => differences.push(format!(
                "go.mod or go.sum of `{part}` have changed ({} is locked, {} is there)",
                locked.version, pins.version
            )),
            Some(_) => {}
        }
    }
    for part in lock.go.keys().filter(|part| !current.contains_key(*part)) {
        // A manifest that leaves parts out may use the lock of the one it extends.
        if manifest.chain.len() == 1 {
            differences.push(format!("the Go part `{part}` is no longer in the manifest"));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(BuildError::LockMismatch { file: file.into(), differences })
}
