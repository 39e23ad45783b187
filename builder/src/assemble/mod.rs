//! The build: every stage in order, from a manifest's path to a signed release folder.
//!
//! In: [`BuildRequest`]. Out: a release folder, put in place as a whole. **Invariant:** the
//! folder at `out` is at any time either the old release or the new one, complete.

mod boot;
mod error;
mod inputs;
mod lock_file;
mod output;
mod pack;
mod staging;

use std::path::PathBuf;

use contract::release::layout::DEVICES;
use contract::{Component, ReleaseDocument, ReleaseVersion, RootHash};
use tokio::task::yield_now;

use crate::image::audit::{self, Audited};
use crate::image::compose::{self, BootFiles, Inputs, Naming};
use crate::image::report::Report;
use crate::image::selinux::SelinuxError;
use crate::inputs::cache::Cache;
use crate::inputs::fetch::Source;
use crate::lock::Lock;
use crate::manifest::{self, Manifest, SelinuxState};
use crate::progress::Progress;
use crate::signing::keys::KeyFolder;

pub use error::BuildError;
pub use inputs::{Gathering, fetch, gather};
pub use lock_file::{check_lock, find_lock, go_locks, read_lock};
pub use staging::{RELEASE_FILE, REPORT_FILE, SIGNATURE_FILE};

/// What to build.
#[derive(Debug)]
pub struct BuildRequest {
    /// The manifest.
    pub manifest: PathBuf,
    /// Its lock, when it is not beside it.
    pub lock: Option<PathBuf>,
    /// Release folder to make or replace.
    pub out: PathBuf,
    /// Version, when not the manifest's.
    pub version: Option<ReleaseVersion>,
    /// Also write `disk.qcow2`.
    pub qcow2: bool,
    /// Where inputs come from.
    pub source: Source,
    /// Downloads and compilers at a time.
    pub jobs: usize,
}

/// What was built.
#[derive(Debug)]
pub struct BuiltRelease {
    /// As written to `release.json`.
    pub document: ReleaseDocument,
    /// As written to `report.json`.
    pub report: Report,
}

/// Builds and signs a release.
///
/// Dropping the future between two stages ends the build and leaves nothing behind.
///
/// # Errors
/// [`BuildError`]; `out` is then as it was.
pub async fn build(
    request: &BuildRequest,
    keys: &KeyFolder,
    cache: &Cache,
    progress: &Progress,
) -> Result<BuiltRelease, BuildError> {
    let manifest = manifest::read(&request.manifest)?;
    let lock_file = request.lock.clone().unwrap_or_else(|| find_lock(&manifest));
    let lock = read_lock(&lock_file)?;
    check_lock(&manifest, &lock, &lock_file)?;
    let gathering = Gathering { source: &request.source, jobs: request.jobs, cache, progress };
    let inputs = gather(&manifest, &lock, &gathering).await?;
    let version = request.version.clone().unwrap_or_else(|| manifest.image.version.clone());
    let naming = Naming { version, development: keys.is_development() };
    let permissive = Some(SelinuxState::Permissive);
    if !naming.development && manifest.selinux.as_ref().map(|selinux| selinux.state) == permissive {
        return Err(SelinuxError::Permissive.into());
    }
    yield_now().await;
    let composed = compose_and_audit(&manifest, &inputs, &naming, progress)?;
    yield_now().await;
    let staging = staging::Staging::new(&request.out)?;
    let packed = pack::pack(&manifest, &lock, &composed, &staging, cache, progress)?;
    yield_now().await;
    let signed = boot::sign(&manifest, &composed.boot, &packed, keys)?;
    let disk = output::DiskFormat { qcow2: request.qcow2 };
    output::write_boot_files(&staging, &signed)?;
    let task = progress.task("disk image");
    output::write_disk(&staging, &manifest, &signed, &disk)?;
    task.finish("written");
    yield_now().await;
    let report =
        Report::new(&manifest.image.name, &naming.version, &composed.root, &composed.initrd);
    output::write_report(&staging, &report)?;
    let document = ReleaseDocument {
        schema: contract::release::document::SCHEMA,
        image: manifest.image.name.clone(),
        version: naming.version,
        architecture: manifest.image.architecture,
        development: naming.development,
        components: components(&composed),
        root: packed.root,
        files: output::describe(&staging)?,
    };
    output::finish(staging, &document, keys)?;
    Ok(BuiltRelease { document, report })
}

/// Trees that passed the audit, and what the firmware starts.
pub(crate) struct Prepared {
    pub root: Audited,
    pub initrd: Audited,
    pub boot: BootFiles,
}

fn compose_and_audit(
    manifest: &Manifest,
    inputs: &Inputs,
    naming: &Naming,
    progress: &Progress,
) -> Result<Prepared, BuildError> {
    let task = progress.task("compose and audit");
    let root = compose::compose_root(manifest, inputs, naming)?;
    let initrd = compose::compose_initrd(manifest, inputs)?;
    let boot = compose::boot_files(manifest, inputs)?;
    let (root, initrd) = audit::audit(root, initrd, &manifest.exceptions)?;
    task.finish(&format!("{} files in the root", root.tree().len()));
    Ok(Prepared { root, initrd, boot })
}

/// The kernel, and every package or module that gave a file.
fn components(prepared: &Prepared) -> Vec<Component> {
    let trees = [prepared.root.tree(), prepared.initrd.tree()];
    let mut components: Vec<Component> = trees
        .iter()
        .flat_map(|tree| tree.iter())
        .map(|(_, entry)| &entry.origin)
        .filter(|origin| !origin.package.is_empty() && !origin.version.is_empty())
        .map(|origin| Component { name: origin.package.clone(), version: origin.version.clone() })
        .collect();
    components
        .push(Component { name: "linux".into(), version: prepared.boot.kernel_release.clone() });
    components.sort();
    components.dedup();
    components
}

/// The words of the kernel command line that name a slot and its root hash.
pub fn slot_command_line(slot: contract::Slot, root_hash: &RootHash) -> String {
    format!(
        "root=/dev/mapper/root roothash={root_hash} \
         systemd.verity_root_data={DEVICES}/{} systemd.verity_root_hash={DEVICES}/{} \
         systemd.verity_root_options=panic-on-corruption rootfstype=erofs ro",
        slot.root_label(),
        slot.verity_label()
    )
}

/// The lock of a manifest as this program would write it, without the Debian part.
pub type GoLocks = std::collections::BTreeMap<String, crate::lock::GoLock>;

/// A lock from its two halves.
pub fn lock_of(debian: crate::lock::DebianLock, go: GoLocks) -> Lock {
    Lock { format: crate::lock::FORMAT, debian, go }
}
