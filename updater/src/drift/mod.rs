//! Drift: the node beside what was signed.
//!
//! In: what was installed in which slot, as the node's own record of verified offers says. Out:
//! every comparison with its outcome. **Invariant:** nothing is changed; what cannot be read is
//! reported as unknown, and never as the same.
//!
//! A quick comparison reads the hash trees, which vouch for the content only as long as nobody
//! changed both together with the record; a full one reads every byte. Both are read past
//! dm-verity, which would end the node at the first difference.

mod kernel;
mod slots;
#[cfg(test)]
mod tests;
mod ukis;
mod writable;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::node::api::{Depth, Drift, DriftItem, Outcome, Subject};
use contract::{Digest, RootHash, Slot};

use crate::effects::{BootedSlot, Effects};
use crate::update::SlotRecord;

pub use writable::Writable;

/// What was installed in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed {
    /// Root hash of the signed release document.
    pub root_hash: RootHash,
    /// SHA-256 of the slot's UKI, from the signed offer; unknown for a slot that came with the
    /// disk image.
    pub uki: Option<Digest>,
}

impl From<&SlotRecord> for Installed {
    fn from(record: &SlotRecord) -> Self {
        Self { root_hash: record.release.root_hash, uki: record.uki }
    }
}

/// What is compared.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The slot that runs.
    pub booted: BootedSlot,
    /// The root hash on the kernel's command line.
    pub kernel_root_hash: Option<RootHash>,
    /// What was installed in slot A.
    pub a: Option<Installed>,
    /// What was installed in slot B; none while it is written.
    pub b: Option<Installed>,
    /// How much is read.
    pub depth: Depth,
}

impl Comparison {
    fn installed(&self, slot: Slot) -> Option<Installed> {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }
}

/// Where the kernel shows things.
#[derive(Debug, Clone)]
pub struct DriftPlaces {
    /// Mounts as PID 1 sees them; a sandboxed service sees others. Unlike most of a process's
    /// folder, the kernel shows this file to everybody: no capability is needed.
    pub mounts: PathBuf,
    /// Block devices by number.
    pub devices: PathBuf,
    /// The folders where others may write.
    pub writable: Vec<Writable>,
}

impl Default for DriftPlaces {
    fn default() -> Self {
        Self {
            mounts: "/proc/1/mountinfo".into(),
            devices: "/sys/dev/block".into(),
            writable: Writable::of_the_image(),
        }
    }
}

/// Compares. Blocks for as long as it reads; `stop` ends it early, and what was not reached is
/// left out.
pub fn compare(
    request: &Comparison,
    places: &DriftPlaces,
    effects: &Effects,
    stop: &AtomicBool,
) -> Drift {
    let mut items = vec![root_hash(request)];
    let going = || !stop.load(Ordering::Relaxed);
    let mut booted_uuid = None;
    for slot in Slot::ALL {
        if let Some(installed) = request.installed(slot) {
            let source = slots::SlotReader { slots: &*effects.slots, booted: request.booted, slot };
            let (tree, found) = slots::tree_item(&source, &installed.root_hash);
            if slot == request.booted.slot() {
                booted_uuid = tree.as_ref().map(|tree| tree.uuid);
            }
            items.push(found);
            if let (Depth::Full, Some(tree), true) = (request.depth, tree, going()) {
                items.push(slots::content_item(&source, &tree, &going));
            }
        }
        if going() {
            let digest = request.installed(slot).and_then(|installed| installed.uki);
            items.extend(ukis::items(&*effects.esp, slot, digest));
        }
    }
    items.extend(kernel::items(places, booted_uuid));
    for folder in &places.writable {
        items.extend(writable::items(folder));
    }
    Drift { at: effects.clock.now(), depth: request.depth, items }
}

/// The first thing in the other slot that is not what was installed; what cannot be read is none
/// either. Reads every byte of it, and its UKIs where their digest is known. Blocks.
pub fn first_rot(booted: BootedSlot, installed: Installed, effects: &Effects) -> Option<DriftItem> {
    let slot = booted.target().slot();
    let source = slots::SlotReader { slots: &*effects.slots, booted, slot };
    let (tree, found) = slots::tree_item(&source, &installed.root_hash);
    let mut items = vec![found];
    items.extend(tree.map(|tree| slots::content_item(&source, &tree, &|| true)));
    if installed.uki.is_some() {
        items.extend(ukis::items(&*effects.esp, slot, installed.uki));
    }
    items.into_iter().find(|item| item.outcome != Outcome::Same)
}

fn root_hash(request: &Comparison) -> DriftItem {
    let name = "kernel command line";
    let installed = request.installed(request.booted.slot());
    match (request.kernel_root_hash, installed) {
        (Some(found), Some(Installed { root_hash, .. })) if found == root_hash => {
            item(Subject::RootHash, name, Outcome::Same, found.to_string())
        }
        (Some(found), Some(Installed { root_hash, .. })) => {
            let detail = format!("the kernel runs {found}, but {root_hash} was installed");
            item(Subject::RootHash, name, Outcome::Differs, detail)
        }
        (Some(found), None) => {
            let detail = format!("{found}; what was installed is not recorded");
            item(Subject::RootHash, name, Outcome::Unknown, detail)
        }
        (None, _) => {
            let detail = "it names no root hash".to_owned();
            item(Subject::RootHash, name, Outcome::Differs, detail)
        }
    }
}

fn item(
    subject: Subject,
    name: impl Into<String>,
    outcome: Outcome,
    detail: impl Into<String>,
) -> DriftItem {
    DriftItem { subject, name: name.into(), outcome, detail: detail.into() }
}
