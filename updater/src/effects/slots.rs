//! The partitions of both slots on the booted disk.
//!
//! In: the disk and slot that are booted. Out: reads and writes at byte offsets. Partitions
//! are looked up in `/sys` below that disk, so a second disk with the same labels is never
//! touched. **Invariant:** the booted slot is only ever opened for reading, and the target
//! slot for writing only while nothing else (a mount, device-mapper) holds it.
//!
//! The target slot, and long runs of the booted one, go past the page cache: a whole slot through
//! it would fill the memory that this daemon may have, and waits for the kernel to free it take
//! longer than all that staging does.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use contract::Slot;
use rustix::fs::OFlags;

use super::boot::{BootFacts, partition_label};
use super::buffer::{ALIGNMENT, AlignedBuffer, is_aligned};
use super::{Area, BootedSlot, Slots, TargetSlot};

/// Most bytes that are copied at a time, where a caller's memory is not what O_DIRECT wants.
const PIECE: usize = 1 << 20;
/// A run of the booted slot that goes past the cache. Shorter ones lie close together, so that
/// reading ahead helps.
const LONG: usize = 128 << 10;

/// How a partition is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DeviceAccess {
    /// Through the cache.
    Read,
    /// Past the cache.
    ReadDevice,
    /// Past the cache, and alone.
    WriteDevice,
}

/// The partitions of both slots.
pub struct DiskSlots {
    sys: PathBuf,
    dev: PathBuf,
    disk: String,
    booted: BootedSlot,
    open: Mutex<BTreeMap<(String, DeviceAccess), Arc<File>>>,
}

impl DiskSlots {
    /// The partitions of the disk that is booted. `system` is `/`, or a folder like it.
    pub fn new(system: &Path, facts: &BootFacts) -> Self {
        Self {
            sys: system.join("sys/class/block"),
            dev: system.join("dev"),
            disk: facts.disk.clone(),
            booted: facts.slot,
            open: Mutex::new(BTreeMap::new()),
        }
    }

    fn file(&self, slot: Slot, area: Area, access: DeviceAccess) -> io::Result<Arc<File>> {
        let label = match area {
            Area::Root => slot.root_label(),
            Area::Verity => slot.verity_label(),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&(label.clone(), access)) {
            return Ok(file.clone());
        }
        let path = self.partition(&label)?;
        let mut options = OpenOptions::new();
        let flags = match access {
            DeviceAccess::Read => OFlags::empty(),
            DeviceAccess::ReadDevice => OFlags::DIRECT,
            // For a block device EXCL means: fail when it is mounted or otherwise claimed.
            DeviceAccess::WriteDevice => OFlags::DIRECT | OFlags::EXCL,
        };
        let writes = access == DeviceAccess::WriteDevice;
        options.read(true).write(writes).custom_flags(flags.bits().cast_signed());
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{} ({label}): {error}", path.display()))
        };
        let file = Arc::new(options.open(&path).map_err(named)?);
        open.insert((label, access), file.clone());
        Ok(file)
    }

    /// Device node of the partition of the booted disk with this PARTLABEL.
    fn partition(&self, label: &str) -> io::Result<PathBuf> {
        for entry in fs::read_dir(self.sys.join(&self.disk))? {
            let folder = entry?.path();
            if !folder.join("partition").exists() {
                continue;
            }
            if partition_label(&fs::read_to_string(folder.join("uevent"))?).as_deref()
                == Some(label)
                && let Some(name) = folder.file_name()
            {
                return Ok(self.dev.join(name));
            }
        }
        self.linked(label).ok_or_else(|| {
            let disk = &self.disk;
            let text = format!("disk {disk} has no partition {label}: see `/dev/disk/slipway`");
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }

    /// The same as udev read it from the partition table: of partitions that were added to a
    /// disk in use, as the first boot does, the kernel knows no names.
    fn linked(&self, label: &str) -> Option<PathBuf> {
        let device = fs::canonicalize(self.dev.join("disk/slipway").join(label)).ok()?;
        let name = device.file_name()?;
        let own = self.sys.join(&self.disk).join(name).join("partition").exists();
        own.then(|| self.dev.join(name))
    }
}

impl Slots for DiskSlots {
    fn read_booted(&self, area: Area, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = |access| self.file(self.booted.slot(), area, access);
        if buffer.len() < LONG {
            return file(DeviceAccess::Read)?.read_exact_at(buffer, offset);
        }
        read_past_cache(&*file(DeviceAccess::ReadDevice)?, offset, buffer)
    }

    fn read_target(
        &self,
        target: TargetSlot,
        area: Area,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        read_past_cache(&*self.file(target.slot(), area, DeviceAccess::ReadDevice)?, offset, buffer)
    }

    fn write_target(
        &self,
        target: TargetSlot,
        area: Area,
        offset: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        write_past_cache(
            &*self.file(target.slot(), area, DeviceAccess::WriteDevice)?,
            offset,
            bytes,
        )
    }

    fn sync_target(&self, target: TargetSlot) -> io::Result<()> {
        for area in [Area::Root, Area::Verity] {
            self.file(target.slot(), area, DeviceAccess::WriteDevice)?.sync_data()?;
        }
        Ok(())
    }
}

/// Reads any bytes of a file that was opened with O_DIRECT (open(2)).
fn read_past_cache(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    if is_aligned(buffer, offset) {
        return read_blocks(file, offset, buffer, buffer.len());
    }
    let skip = (offset % ALIGNMENT as u64) as usize;
    let mut space =
        AlignedBuffer::new(PIECE.min((skip + buffer.len()).next_multiple_of(ALIGNMENT)));
    let (mut at, mut rest, mut skip) = (offset - skip as u64, buffer, skip);
    while !rest.is_empty() {
        let (piece, others) = rest.split_at_mut(rest.len().min(space.len() - skip));
        let wanted = skip + piece.len();
        read_blocks(file, at, &mut space[..wanted.next_multiple_of(ALIGNMENT)], wanted)?;
        piece.copy_from_slice(&space[skip..wanted]);
        (at, rest, skip) = (at + wanted as u64, others, 0);
    }
    Ok(())
}

/// Reads into aligned memory, of which the first `wanted` bytes must be there.
fn read_blocks(file: &File, offset: u64, space: &mut [u8], wanted: usize) -> io::Result<()> {
    let mut done = 0;
    while done < wanted {
        let count = again(|| file.read_at(&mut space[done..], offset + done as u64))?;
        // After a part that is not aligned nothing can follow: the device ends there.
        if count == 0 || (done + count < wanted && count % ALIGNMENT != 0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        done += count;
    }
    Ok(())
}

/// Writes whole blocks to a file that was opened with O_DIRECT.
fn write_past_cache(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    if is_aligned(bytes, offset) {
        return write_blocks(file, offset, bytes);
    }
    if !offset.is_multiple_of(ALIGNMENT as u64) || !bytes.len().is_multiple_of(ALIGNMENT) {
        let text = format!("{} bytes at {offset} are not whole blocks", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut space = AlignedBuffer::new(PIECE.min(bytes.len()));
    for (piece, at) in bytes.chunks(PIECE).zip((offset..).step_by(PIECE)) {
        let space = &mut space[..piece.len()];
        space.copy_from_slice(piece);
        write_blocks(file, at, space)?;
    }
    Ok(())
}

/// Writes aligned memory.
fn write_blocks(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let count = again(|| file.write_at(&bytes[done..], offset + done as u64))?;
        if count == 0 || !count.is_multiple_of(ALIGNMENT) {
            let text = format!("the device took {count} bytes at {}", offset + done as u64);
            return Err(io::Error::new(io::ErrorKind::WriteZero, text));
        }
        done += count;
    }
    Ok(())
}

/// Once more when a signal came between.
fn again(mut work: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::boot::BootId;

    const BLOCK: usize = ALIGNMENT;
    const LABELS: [&str; 4] = ["root-a", "verity-a", "root-b", "verity-b"];

    /// Two disks with the same labels; the node runs slot A of the second.
    fn machine(folder: &Path) -> DiskSlots {
        for disk in ["vda", "vdb"] {
            for (number, label) in LABELS.iter().enumerate() {
                let name = format!("{disk}{}", number + 1);
                let sys = folder.join("sys/class/block").join(disk).join(&name);
                fs::create_dir_all(&sys).unwrap();
                fs::write(sys.join("partition"), "1\n").unwrap();
                fs::write(sys.join("uevent"), format!("PARTNAME={label}\n")).unwrap();
                fs::create_dir_all(folder.join("dev")).unwrap();
                fs::write(folder.join("dev").join(&name), vec![number as u8; 3 << 20]).unwrap();
            }
            fs::create_dir_all(folder.join("sys/class/block").join(disk).join("queue")).unwrap();
        }
        let facts = BootFacts {
            slot: BootedSlot::forged_for_a_test(Slot::A),
            root_hash: [0; 32].into(),
            version: "1.0.0".parse().unwrap(),
            boot_id: BootId::from_u128(1),
            disk: "vdb".into(),
        };
        DiskSlots::new(folder, &facts)
    }

    #[test]
    fn what_is_written_is_read_back_from_the_device_of_the_booted_disk() {
        let folder = tempfile::tempdir().unwrap();
        let slots = machine(folder.path());
        let target = slots.booted.target();
        let bytes: Vec<u8> = (0..PIECE + 3 * BLOCK).map(|index| (index % 251) as u8).collect();
        slots.write_target(target, Area::Root, BLOCK as u64, &bytes).unwrap();
        slots.sync_target(target).unwrap();
        let mut read = vec![0; bytes.len()];
        slots.read_target(target, Area::Root, BLOCK as u64, &mut read).unwrap();
        assert_eq!(read, bytes);
        let device = fs::read(folder.path().join("dev/vdb3")).unwrap();
        assert_eq!(device[BLOCK..BLOCK + bytes.len()], bytes);
        assert!(
            device[..BLOCK].iter().chain(&device[BLOCK + bytes.len()..]).all(|byte| *byte == 2)
        );
        for (offset, length) in [(100, BLOCK), (0, 100)] {
            let refused = slots.write_target(target, Area::Root, offset, &bytes[..length]);
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        for untouched in ["vda1", "vda3", "vdb1", "vdb2", "vdb4"] {
            let device = fs::read(folder.path().join("dev").join(untouched)).unwrap();
            assert!(device.iter().all(|byte| *byte == device[0]), "{untouched}");
        }
    }

    #[test]
    fn aligned_memory_goes_to_the_device_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let slots = machine(folder.path());
        let target = slots.booted.target();
        let mut written = AlignedBuffer::new(PIECE + 3 * BLOCK);
        written.iter_mut().enumerate().for_each(|(index, byte)| *byte = (index % 251) as u8);
        assert!(is_aligned(&written, BLOCK as u64));
        slots.write_target(target, Area::Root, BLOCK as u64, &written).unwrap();
        let mut read = AlignedBuffer::new(written.len());
        slots.read_target(target, Area::Root, BLOCK as u64, &mut read).unwrap();
        assert!(read[..] == written[..]);
        let device = fs::read(folder.path().join("dev/vdb3")).unwrap();
        let (before, rest) = device.split_at(BLOCK);
        let (there, behind) = rest.split_at(written.len());
        assert!(there == &written[..] && before.iter().chain(behind).all(|byte| *byte == 2));
        let past = slots.read_target(target, Area::Root, (3 << 20) - BLOCK as u64, &mut read);
        assert_eq!(past.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn reads_of_any_place_and_length_are_those_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let slots = machine(folder.path());
        let content: Vec<u8> = (0..3 << 20).map(|index: usize| (index / 7 % 253) as u8).collect();
        fs::write(folder.path().join("dev/vdb3"), &content).unwrap();
        let target = slots.booted.target();
        for (offset, length) in
            [(0, 1), (4095, 2), (4096, 4096), (1, PIECE), (5, PIECE + 4090), (4000, 2 * PIECE)]
        {
            let mut read = vec![0; length];
            slots.read_target(target, Area::Root, offset as u64, &mut read).unwrap();
            assert_eq!(read, content[offset..offset + length], "{length} bytes at {offset}");
        }
        let mut read = [0; 2];
        let past_the_end = slots.read_target(target, Area::Root, (3 << 20) - 1, &mut read);
        assert_eq!(past_the_end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_booted_slot_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let slots = machine(folder.path());
        let mut read = [9; 4];
        slots.read_booted(Area::Verity, 8, &mut read).unwrap();
        assert_eq!(read, [1; 4]);
        let mut read = vec![9; LONG];
        slots.read_booted(Area::Verity, BLOCK as u64, &mut read).unwrap();
        assert!(read.iter().all(|byte| *byte == 1));
    }

    #[test]
    fn a_partition_that_the_kernel_has_no_name_for_is_found_by_its_link_on_this_disk_alone() {
        let folder = tempfile::tempdir().unwrap();
        let slots = machine(folder.path());
        let target = slots.booted.target();
        let uevent = folder.path().join("sys/class/block/vdb/vdb3/uevent");
        fs::write(uevent, "DEVNAME=vdb3\n").unwrap();
        let labels = folder.path().join("dev/disk/slipway");
        fs::create_dir_all(&labels).unwrap();
        std::os::unix::fs::symlink("../../vda3", labels.join("root-b")).unwrap();
        let block = [7; BLOCK];
        assert!(slots.write_target(target, Area::Root, 0, &block).is_err(), "the other disk's");
        fs::remove_file(labels.join("root-b")).unwrap();
        std::os::unix::fs::symlink("../../vdb3", labels.join("root-b")).unwrap();
        slots.write_target(target, Area::Root, 0, &block).unwrap();
        assert_eq!(fs::read(folder.path().join("dev/vdb3")).unwrap()[0], 7);
    }

    #[test]
    fn a_disk_without_the_slot_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let slots = machine(folder.path());
        fs::remove_dir_all(folder.path().join("sys/class/block/vdb/vdb3")).unwrap();
        let error = slots.sync_target(slots.booted.target()).unwrap_err().to_string();
        assert!(error.contains("vdb") && error.contains("root-b"), "{error}");
    }
}
