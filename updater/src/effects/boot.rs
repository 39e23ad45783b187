//! What is running: slot, root hash, version, and the id of this boot.
//!
//! In: `/proc/cmdline`, device-mapper's view in `/sys`, the root's os-release. Out:
//! [`BootFacts`]. **Invariant:** a slot counts as booted only when the kernel's root device
//! really lies on its partitions; the command line alone is not believed. [`BootedSlot`] is made here
//! only.

mod disk;

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use contract::release::layout::DEVICES;
use contract::{ReleaseVersion, RootHash, Slot, UkiName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Largest file of `/proc`, `/sys` and `/usr` that is read here, in bytes.
const MAX_BYTES: u64 = 64 << 10;
/// Name that systemd-veritysetup-generator gives the root device.
const ROOT_DEVICE: &str = "root";
/// How the UUID of every dm-verity device starts that cryptsetup's library made.
const VERITY_UUID: &str = "CRYPT-VERITY-";

/// One run of the kernel: `/proc/sys/kernel/random/boot_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BootId(Uuid);

impl BootId {
    /// From a number, for tests.
    pub fn from_u128(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// A text that is not 32 hexadecimal digits, with or without hyphens.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no boot id")]
pub struct InvalidBootId(String);

impl FromStr for BootId {
    type Err = InvalidBootId;
    fn from_str(text: &str) -> Result<Self, InvalidBootId> {
        let invalid = |_| InvalidBootId(text.chars().take(80).collect());
        Uuid::try_parse(text).map(Self).map_err(invalid)
    }
}

impl TryFrom<String> for BootId {
    type Error = InvalidBootId;
    fn try_from(text: String) -> Result<Self, InvalidBootId> {
        text.parse()
    }
}

impl From<BootId> for String {
    fn from(value: BootId) -> Self {
        value.to_string()
    }
}

/// The slot that the running root was booted from. Nothing writes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootedSlot(Slot);

/// The other slot: the only one that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetSlot(Slot);

impl BootedSlot {
    /// One that nothing was booted from.
    #[cfg(test)]
    pub fn forged_for_a_test(slot: Slot) -> Self {
        Self(slot)
    }

    /// The slot that may be written.
    pub fn target(self) -> TargetSlot {
        match self.0 {
            Slot::A => TargetSlot(Slot::B),
            Slot::B => TargetSlot(Slot::A),
        }
    }

    /// The UKI that a boot of this slot was started from.
    pub fn uki(self, ukis: &[UkiName]) -> Option<UkiName> {
        newest(ukis, self.0)
    }

    /// The plain name.
    pub fn slot(self) -> Slot {
        self.0
    }
}

impl TargetSlot {
    /// The slot that runs meanwhile.
    pub fn booted(self) -> BootedSlot {
        match self.0 {
            Slot::A => BootedSlot(Slot::B),
            Slot::B => BootedSlot(Slot::A),
        }
    }

    /// The newest UKI of this slot.
    pub fn uki(self, ukis: &[UkiName]) -> Option<UkiName> {
        newest(ukis, self.0)
    }

    /// The plain name.
    pub fn slot(self) -> Slot {
        self.0
    }
}

/// The loader takes the highest generation first.
fn newest(ukis: &[UkiName], slot: Slot) -> Option<UkiName> {
    let same = ukis.iter().filter(|name| name.slot == slot);
    same.max_by_key(|name| name.generation).copied()
}

/// What is running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFacts {
    /// The slot.
    pub slot: BootedSlot,
    /// The root hash that the command line gave to dm-verity.
    pub root_hash: RootHash,
    /// `IMAGE_VERSION` of the root.
    pub version: ReleaseVersion,
    /// This boot.
    pub boot_id: BootId,
    /// Name of the disk that the running root is on, such as `nvme0n1`.
    pub disk: String,
}

/// Why it is not known what runs.
#[derive(Debug, thiserror::Error)]
pub enum BootFactsError {
    /// A file of the kernel or of the root.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The command line names no slot or no root hash.
    #[error("the kernel command line has no {0}: start the node from a UKI that `slipway` made")]
    CommandLine(&'static str),
    /// There is no root device of dm-verity.
    #[error("no dm-verity device is the root: start the node from a UKI that `slipway` made")]
    NoRootDevice,
    /// The root is on other partitions than the command line says.
    #[error(
        "the command line names slot {named}, but the root device lies on {found}: look for a \
         second disk with the same labels, and remove it"
    )]
    OtherPartitions {
        /// Slot of the command line.
        named: Slot,
        /// PARTLABELs below the root device.
        found: String,
    },
    /// Two disks say that they are the one that the loader came from.
    #[error(
        "disks {0} both carry the EFI system partition that the loader came from: remove all but \
         the node's own, a copy of a disk among them"
    )]
    SeveralDisks(String),
    /// Something that the node needs is on another disk than its root.
    #[error(
        "{mount} is on disk {found}, but the root is on {disk}: remove the disk that is not the \
         node's own"
    )]
    OtherDisk {
        /// What is mounted.
        mount: &'static str,
        /// Where from.
        found: String,
        /// Disk of the root.
        disk: String,
    },
    /// The root does not say which release it is.
    #[error("the root's os-release has no IMAGE_VERSION: install a release that `slipway` made")]
    Version,
    /// The boot id is not one.
    #[error("the kernel's boot id is wrong")]
    BootId(#[from] InvalidBootId),
}

impl BootFactsError {
    /// There is no such file.
    fn is_absence(&self) -> bool {
        let BootFactsError::Read { source, .. } = self else { return false };
        source.kind() == io::ErrorKind::NotFound
    }
}

impl BootFacts {
    /// Reads what is running. `system` is `/`, or a folder like it in tests.
    ///
    /// # Errors
    /// [`BootFactsError`] when the machine was not booted from a slot.
    pub fn read(system: &Path) -> Result<Self, BootFactsError> {
        let command_line = text(&system.join("proc/cmdline"))?;
        let (slot, root_hash) = parse_command_line(&command_line)?;
        let boot_id = text(&system.join("proc/sys/kernel/random/boot_id"))?;
        let os_release = text(&system.join("usr/lib/os-release"))?;
        let disk = root_disk(&system.join("sys"), slot)?;
        disk::check(system, &disk)?;
        Ok(Self {
            slot: BootedSlot(slot),
            root_hash,
            version: parse_version(&os_release).ok_or(BootFactsError::Version)?,
            boot_id: boot_id.trim().parse()?,
            disk,
        })
    }
}

/// Slot and root hash. As for systemd, the last of several equal words counts.
fn parse_command_line(text: &str) -> Result<(Slot, RootHash), BootFactsError> {
    let last = |key: &str| {
        text.split_ascii_whitespace()
            .rev()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let root_hash = last("roothash").and_then(|value| value.parse().ok());
    let root_hash = root_hash.ok_or(BootFactsError::CommandLine("roothash="))?;
    let device = last("systemd.verity_root_data").map(Path::new);
    let of = |slot: &Slot| Path::new(DEVICES).join(slot.root_label());
    let slot = Slot::ALL.into_iter().find(|slot| device == Some(&of(slot)));
    let missing = BootFactsError::CommandLine("systemd.verity_root_data=/dev/disk/slipway/root-…");
    Ok((slot.ok_or(missing)?, root_hash))
}

/// `IMAGE_VERSION` of an os-release(5).
fn parse_version(os_release: &str) -> Option<ReleaseVersion> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION="))?;
    value.trim().trim_matches('"').parse().ok()
}

/// The disk below the root device, whose two partitions must be those of `slot`.
fn root_disk(sys: &Path, slot: Slot) -> Result<String, BootFactsError> {
    let root = root_device(&sys.join("block"))?;
    let mut labels = Vec::new();
    let mut disks = Vec::new();
    for partition in names(&root.join("slaves"))? {
        let partition = sys.join("class/block").join(partition);
        labels.push(partition_label(&text(&partition.join("uevent"))?).unwrap_or_default());
        disks.push(disk_of(&partition)?);
    }
    labels.sort();
    disks.dedup();
    match disks.pop() {
        Some(disk) if disks.is_empty() && labels == [slot.root_label(), slot.verity_label()] => {
            Ok(disk)
        }
        _ => Err(BootFactsError::OtherPartitions { named: slot, found: labels.join(", ") }),
    }
}

/// Folder of the dm-verity device that is the root.
fn root_device(block: &Path) -> Result<PathBuf, BootFactsError> {
    for name in names(block)?.into_iter().filter(|name| name.starts_with("dm-")) {
        let device = block.join(name);
        let is_root = text(&device.join("dm/name"))?.trim() == ROOT_DEVICE;
        if is_root && text(&device.join("dm/uuid"))?.starts_with(VERITY_UUID) {
            return Ok(device);
        }
    }
    Err(BootFactsError::NoRootDevice)
}

/// PARTLABEL in a partition's `uevent`.
pub(super) fn partition_label(uevent: &str) -> Option<String> {
    uevent.lines().find_map(|line| line.strip_prefix("PARTNAME=")).map(str::to_owned)
}

/// Name of the disk of a partition: in `/sys` it is the folder above.
fn disk_of(partition: &Path) -> Result<String, BootFactsError> {
    let read = |source| BootFactsError::Read { path: partition.to_owned(), source };
    let real = partition.canonicalize().map_err(read)?;
    let disk = real.parent().and_then(Path::file_name);
    let disk = disk.ok_or_else(|| read(io::ErrorKind::NotFound.into()))?;
    Ok(disk.to_string_lossy().into_owned())
}

/// Names in a folder, sorted.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, BootFactsError> {
    let read = |source| BootFactsError::Read { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        names.push(entry.map_err(read)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

pub(super) fn text(path: &Path) -> Result<String, BootFactsError> {
    text_up_to(path, MAX_BYTES)
}

/// Paths of pods may be in it, so it need not be UTF-8.
pub(super) fn text_up_to(path: &Path, bytes: u64) -> Result<String, BootFactsError> {
    let read = |source| BootFactsError::Read { path: path.to_owned(), source };
    let mut found = Vec::new();
    let file = fs::File::open(path).map_err(read)?;
    file.take(bytes).read_to_end(&mut found).map_err(read)?;
    Ok(String::from_utf8_lossy(&found).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `/proc`, `/sys` and `/usr` of a node that runs slot B, with a twin of its disk beside.
    fn system(below_root: [&str; 2]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let system = folder.path();
        let words = format!(
            "root=/dev/mapper/root roothash={HASH} \
             systemd.verity_root_data=/dev/disk/slipway/root-b \
             systemd.verity_root_hash=/dev/disk/slipway/verity-b"
        );
        write(&system.join("proc/cmdline"), &words);
        let boot_id = "8e8a4a7c-5a43-4f5c-9d0e-4a3b8b1b2c3d\n";
        write(&system.join("proc/sys/kernel/random/boot_id"), boot_id);
        write(&system.join("usr/lib/os-release"), "ID=slipway\nIMAGE_VERSION=1.4.0\n");
        for disk in ["nvme0n1", "nvme1n1"] {
            for (number, label) in
                ["esp", "root-a", "verity-a", "root-b", "verity-b"].iter().enumerate()
            {
                let name = format!("{disk}p{}", number + 1);
                let device = system.join("sys/devices/pci/block").join(disk).join(&name);
                write(&device.join("uevent"), &format!("DEVNAME={name}\nPARTNAME={label}\n"));
                fs::create_dir_all(system.join("sys/class/block")).unwrap();
                symlink(&device, system.join("sys/class/block").join(&name)).unwrap();
            }
        }
        write(&system.join("proc/1/mountinfo"), "");
        for (device, name) in [("dm-0", "crypt"), ("dm-1", "root")] {
            let device = system.join("sys/block").join(device);
            write(&device.join("dm/name"), &format!("{name}\n"));
            write(&device.join("dm/uuid"), "CRYPT-VERITY-00-root\n");
            for partition in below_root {
                write(&device.join("slaves").join(partition), "");
            }
        }
        folder
    }

    #[test]
    fn slot_hash_version_and_disk_are_read() {
        let facts = BootFacts::read(system(["nvme0n1p4", "nvme0n1p5"]).path()).unwrap();
        assert_eq!(facts.slot.slot(), Slot::B);
        assert_eq!(facts.root_hash.to_string(), HASH);
        assert_eq!(facts.version.to_string(), "1.4.0");
        assert_eq!(facts.boot_id.to_string(), "8e8a4a7c5a434f5c9d0e4a3b8b1b2c3d");
        assert_eq!(facts.disk, "nvme0n1");
    }

    #[test]
    fn a_root_on_other_partitions_than_the_command_line_names_is_refused() {
        for below in [["nvme0n1p2", "nvme0n1p3"], ["nvme0n1p4", "nvme1n1p5"]] {
            let error = BootFacts::read(system(below).path()).unwrap_err();
            assert!(matches!(error, BootFactsError::OtherPartitions { .. }), "{error}");
        }
    }

    #[test]
    fn a_machine_without_a_verified_root_is_refused() {
        let folder = system(["nvme0n1p4", "nvme0n1p5"]);
        write(&folder.path().join("sys/block/dm-1/dm/uuid"), "LVM-x\n");
        let error = BootFacts::read(folder.path()).unwrap_err();
        assert!(matches!(error, BootFactsError::NoRootDevice), "{error}");
    }

    #[test]
    fn the_last_of_two_root_hashes_counts_as_for_systemd() {
        let label = "systemd.verity_root_data=/dev/disk/slipway/root-a";
        let other = HASH.replace('e', "f");
        let (slot, hash) =
            parse_command_line(&format!("roothash={HASH} {label} roothash={other}\n")).unwrap();
        assert_eq!((slot, hash.to_string()), (Slot::A, other));
        for text in ["", label, &format!("roothash={HASH}"), &format!("roothash=x {label}")] {
            assert!(parse_command_line(text).is_err(), "{text}");
        }
    }
}
