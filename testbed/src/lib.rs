//! What surrounds a node in tests: a real control plane, a registry, a web server that can
//! misbehave, metadata services of clouds, a time server, channels, and an operator's access.
//!
//! **Invariant:** nothing in here knows how a machine is made; a wait that fails asks its
//! [`console::Console`] for what the machine said.

pub mod addresses;
pub mod channel;
pub mod cluster;
pub mod console;
pub mod faulty;
pub mod http;
pub mod loopback;
pub mod metadata;
pub mod nginx;
pub mod node;
pub mod registry;
pub mod slipway;
pub mod time_server;
pub mod times;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Folder for everything that tests with virtual machines leave behind.
pub fn artefacts() -> PathBuf {
    workspace().join("target/vm")
}

/// The repository's root.
pub fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Waits until no other process does `what`; none does while the file is held.
///
/// # Errors
/// When the file of that name cannot be locked.
pub fn lock(what: &str) -> Result<File> {
    let folder = artefacts().join("locks");
    fs::create_dir_all(&folder)?;
    let file = File::create(folder.join(what))?;
    file.lock().with_context(|| format!("cannot wait for another {what}"))?;
    Ok(file)
}
