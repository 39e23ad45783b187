//! The disk image: GPT, an EFI system partition, root and hash tree of slot A.
//!
//! In: the files of the ESP and two partition images. Out: a sparse raw file, or the same
//! as qcow2, whose bytes depend on the contents alone.

mod fat;
mod fat_read;
mod qcow2;
mod read;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use contract::release::layout::{ESP_BYTES, ESP_LABEL, ESP_TYPE, MIB, ROOT_BYTES, VERITY_BYTES};
use contract::{Architecture, Slot};
use gptman::{GPT, GPTPartitionEntry};
use uuid::Uuid;

use crate::formats::tree::{Content, TreePath};

pub use qcow2::write as write_qcow2;
pub use read::{Disk, DiskReadError, Partition};

const SECTOR: u64 = 512;

/// What a disk image is made of.
#[derive(Debug)]
pub struct DiskContents<'a> {
    /// Files of the ESP by path.
    pub esp: BTreeMap<TreePath, Content>,
    /// Image of the root partition.
    pub root: &'a Path,
    /// Image of the verity partition.
    pub verity: &'a Path,
    /// Processor family, which decides the partition types.
    pub architecture: Architecture,
    /// All UUIDs and the volume number derive from it.
    pub seed: Uuid,
}

/// Why there is no disk image.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A partition image over its partition's size.
    #[error(
        "{what} has {bytes} bytes, but its partition only {partition}: leave parts out of the manifest"
    )]
    TooLarge {
        /// Which image.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The partition's size.
        partition: u64,
    },
    /// A name that FAT cannot hold.
    #[error(
        "the ESP cannot hold a file named {0}: use at most 255 characters of ASCII without \" * : < > ? \\ |"
    )]
    Name(TreePath),
    /// The partition table cannot be made.
    #[error("cannot make the partition table: {0}")]
    Table(String),
    /// A file of the ESP or a partition image cannot be read.
    #[error("cannot read {}: build again", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// The image cannot be written.
    #[error("cannot write the disk image: check that the disk is not full")]
    Write(#[from] io::Error),
}

struct Place {
    label: String,
    kind: String,
    bytes: u64,
}

/// Partitions of an image file, in order.
fn places(architecture: Architecture) -> [Place; 3] {
    let place = |label: String, kind: &str, bytes| Place { label, kind: kind.into(), bytes };
    [
        place(ESP_LABEL.into(), ESP_TYPE, ESP_BYTES),
        place(Slot::A.root_label(), architecture.root_type(), ROOT_BYTES),
        place(Slot::A.verity_label(), architecture.verity_type(), VERITY_BYTES),
    ]
}

/// Bytes of a disk image: the partitions, and room for both tables.
pub const DISK_BYTES: u64 = ESP_BYTES + ROOT_BYTES + VERITY_BYTES + 2 * MIB;

/// Writes a sparse raw image into `out`, an empty file.
///
/// # Errors
/// [`DiskError`]; what was written by then is of no use.
pub fn write(contents: &DiskContents<'_>, out: &mut File) -> Result<(), DiskError> {
    out.set_len(DISK_BYTES)?;
    let starts = write_table(contents, out)?;
    let [esp, root, verity] = starts;
    let volume = contents.seed.as_u64_pair().0 as u32;
    fat::write(&contents.esp, volume, ESP_BYTES, esp, out)?;
    copy("the root file system", contents.root, ROOT_BYTES, root, out)?;
    copy("the hash tree", contents.verity, VERITY_BYTES, verity, out)
}

/// Writes both partition tables and gives the partitions' byte offsets.
fn write_table(contents: &DiskContents<'_>, out: &mut File) -> Result<[u64; 3], DiskError> {
    let table_error = |error: gptman::Error| DiskError::Table(error.to_string());
    let unique = |name: &str| Uuid::new_v5(&contents.seed, name.as_bytes()).to_bytes_le();
    let mut table = GPT::new_from(out, SECTOR, unique("disk")).map_err(table_error)?;
    table.align = MIB / SECTOR;
    let mut starts = [0; 3];
    for (index, place) in places(contents.architecture).into_iter().enumerate() {
        let sectors = place.bytes / SECTOR;
        let start = table.find_first_place(sectors);
        let start =
            start.ok_or_else(|| DiskError::Table(format!("no room for {}", place.label)))?;
        let kind = Uuid::parse_str(&place.kind).map_err(|e| DiskError::Table(e.to_string()))?;
        starts[index] = start * SECTOR;
        table[index as u32 + 1] = GPTPartitionEntry {
            partition_type_guid: kind.to_bytes_le(),
            unique_partition_guid: unique(&place.label),
            starting_lba: start,
            ending_lba: start + sectors - 1,
            attribute_bits: 0,
            partition_name: place.label.as_str().into(),
        };
    }
    GPT::write_protective_mbr_into(out, SECTOR).map_err(table_error)?;
    table.write_into(out).map_err(table_error)?;
    Ok(starts)
}

/// Copies a partition image to `offset`; blocks of zeros stay holes.
fn copy(
    what: &'static str,
    from: &Path,
    partition: u64,
    offset: u64,
    out: &mut File,
) -> Result<(), DiskError> {
    const PIECE: usize = 1 << 20;
    let unreadable = |error| DiskError::Read(from.into(), error);
    let mut source = File::open(from).map_err(unreadable)?;
    let bytes = source.metadata().map_err(unreadable)?.len();
    if bytes > partition {
        return Err(DiskError::TooLarge { what, bytes, partition });
    }
    let mut buffer = vec![0; PIECE];
    let mut at = offset;
    loop {
        let count = source.read(&mut buffer).map_err(unreadable)?;
        if count == 0 {
            return Ok(());
        }
        if buffer[..count].iter().any(|byte| *byte != 0) {
            out.seek(SeekFrom::Start(at))?;
            out.write_all(&buffer[..count])?;
        }
        at += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn the_partition_table_as_planned() {
        let contents = DiskContents {
            esp: BTreeMap::new(),
            root: Path::new("root.erofs"),
            verity: Path::new("verity"),
            architecture: Architecture::X86_64,
            seed: Uuid::from_u128(7),
        };
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(DISK_BYTES).unwrap();
        let starts = write_table(&contents, &mut file).unwrap();
        let table = GPT::find_from(&mut file).unwrap();
        let uuid = |bytes: [u8; 16]| Uuid::from_bytes_le(bytes);
        let mut text = format!("disk {}, {} MiB\n", uuid(table.header.disk_guid), DISK_BYTES / MIB);
        let used = table.iter().filter(|(_, entry)| entry.is_used());
        for ((number, entry), start) in used.zip(starts) {
            assert_eq!(entry.starting_lba * SECTOR, start);
            let sectors = entry.ending_lba + 1 - entry.starting_lba;
            writeln!(
                text,
                "{number} {}: from {} MiB, {} MiB, attributes {}\n  type {}\n  uuid {}",
                entry.partition_name.as_str(),
                start / MIB,
                sectors * SECTOR / MIB,
                entry.attribute_bits,
                uuid(entry.partition_type_guid),
                uuid(entry.unique_partition_guid),
            )
            .unwrap();
        }
        insta::assert_snapshot!(text);
    }
}
