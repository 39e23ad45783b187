//! Small documents of the daemon's own: an operator's pin, and for the next boot the times of its
//! verdict and the workloads that must come back.
//!
//! In and out: JSON on the state partition. **Invariant:** times and workloads that cannot be read
//! count as absent, and a warning says so: neither may keep a node from its verdict. A pin that
//! cannot be read does not: nobody knows then which release an operator wants.

use std::io;

use contract::node::settings::HealthSettings;
use contract::{ReleaseVersion, RootHash};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cluster::Workload;
use crate::effects::{BootedSlot, StateStore};
use crate::policy::VerdictTimes;
use crate::settings;

const PIN: &str = "pin.json";
const VERDICT: &str = "verdict.json";
const WORKLOADS: &str = "workloads.json";

#[derive(Serialize, Deserialize)]
struct Pin {
    version: ReleaseVersion,
}

/// What was Ready on the node before a release was armed; it counts for that release alone.
#[derive(Serialize, Deserialize)]
struct Workloads {
    root_hash: RootHash,
    workloads: Vec<Workload>,
}

/// The release that an operator pinned.
///
/// # Errors
/// When the document is there and cannot be read.
pub fn load_pin(store: &dyn StateStore) -> io::Result<Option<ReleaseVersion>> {
    Ok(read::<Pin>(store, PIN)?.map(|pin| pin.version))
}

/// Keeps an operator's pin, or drops it.
///
/// # Errors
/// As the store gives them.
pub fn save_pin(store: &dyn StateStore, version: Option<&ReleaseVersion>) -> io::Result<()> {
    match version {
        Some(version) => save(store, PIN, &Pin { version: version.clone() }),
        None => store.remove(PIN),
    }
}

/// The times that this boot is judged by: those that were saved when its release was armed, or
/// else those of the settings.
pub fn times(store: &dyn StateStore, health: Option<&HealthSettings>) -> VerdictTimes {
    load(store, VERDICT).unwrap_or_else(|| VerdictTimes::new(None, health))
}

/// Keeps the times for the boot that comes next.
///
/// # Errors
/// As the store gives them.
pub fn save_times(store: &dyn StateStore, times: &VerdictTimes) -> io::Result<()> {
    save(store, VERDICT, times)
}

/// Gives the slot that is armed what its boot is judged by, and the settings of this one.
///
/// # Errors
/// As the store gives them; the slot must then not be armed.
pub fn carry(store: &dyn StateStore, times: &VerdictTimes, booted: BootedSlot) -> io::Result<()> {
    save_times(store, times)?;
    settings::copy_for_target(store, booted).map_err(io::Error::other)
}

/// What must be Ready again in a boot of this release.
pub fn load_workloads(store: &dyn StateStore, root_hash: RootHash) -> Vec<Workload> {
    let kept = load::<Workloads>(store, WORKLOADS).filter(|kept| kept.root_hash == root_hash);
    kept.map(|kept| kept.workloads).unwrap_or_default()
}

/// Keeps what must be Ready again for the release that is armed next.
///
/// # Errors
/// As the store gives them.
pub fn save_workloads(
    store: &dyn StateStore,
    root_hash: RootHash,
    workloads: Vec<Workload>,
) -> io::Result<()> {
    save(store, WORKLOADS, &Workloads { root_hash, workloads })
}

fn read<T: DeserializeOwned>(store: &dyn StateStore, name: &str) -> io::Result<Option<T>> {
    match store.load(name)? {
        Some(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        None => Ok(None),
    }
}

fn load<T: DeserializeOwned>(store: &dyn StateStore, name: &str) -> Option<T> {
    read(store, name).unwrap_or_else(|error| {
        tracing::warn!(%error, name, "a document cannot be read, and counts as absent");
        None
    })
}

fn save<T: Serialize>(store: &dyn StateStore, name: &str, document: &T) -> io::Result<()> {
    store.save(name, &serde_json::to_vec(document)?)
}
