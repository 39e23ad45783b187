//! FAT32 for the EFI system partition, written in one pass.
//!
//! In: files by path. Out: a volume in which every file is one run of clusters, with long
//! names and fixed times. Layout and constants follow Microsoft's FAT32 specification
//! (version 1.03); section names are quoted where they matter.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use super::DiskError;
use crate::formats::tree::{Content, TreePath};

pub const SECTOR: u64 = 512;
pub const CLUSTER: u64 = 4096;
/// Sectors before the first FAT ("BPB_RsvdSecCnt").
const RESERVED: u64 = 32;
const FATS: u64 = 2;
const END_OF_CHAIN: u32 = 0x0FFF_FFFF;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const LONG_NAME: u8 = 0x0F;
const LABEL: &[u8; 11] = b"SLIPWAY ESP";
/// 1 January 1980, the first day that FAT knows.
const DATE: u16 = (1 << 5) | 1;

/// A folder or file with its clusters.
struct Item<'a> {
    path: TreePath,
    content: Option<&'a Content>,
    first_cluster: u32,
    clusters: u32,
}

/// Writes a volume of `bytes` at `offset` of `out`, which holds zeros there.
///
/// # Errors
/// [`DiskError::Name`], [`DiskError::TooLarge`], or the first failed write.
pub fn write(
    files: &BTreeMap<TreePath, Content>,
    volume: u32,
    bytes: u64,
    offset: u64,
    out: &mut File,
) -> Result<(), DiskError> {
    let sectors = bytes / SECTOR;
    let fat_sectors = fat_sectors(sectors);
    let data = RESERVED + FATS * fat_sectors;
    let items = place(files)?;
    let needed: u64 = items.iter().map(|item| u64::from(item.clusters) * CLUSTER).sum();
    let room = (sectors - data) * SECTOR;
    if needed > room {
        return Err(DiskError::TooLarge {
            what: "the content of the EFI system partition",
            bytes: needed,
            partition: room,
        });
    }
    let used: u32 = items.iter().map(|item| item.clusters).sum();
    let boot = boot_sector(sectors, fat_sectors, volume);
    let free = ((sectors - data) * SECTOR / CLUSTER) as u32 - used;
    let info = info_sector(free, used + 2);
    // "BPB_BkBootSec": copies of both sectors from sector 6.
    for start in [0, 6] {
        put(out, offset + start * SECTOR, &boot)?;
        put(out, offset + (start + 1) * SECTOR, &info)?;
    }
    let table = table(&items);
    for copy in 0..FATS {
        put(out, offset + (RESERVED + copy * fat_sectors) * SECTOR, &table)?;
    }
    for item in &items {
        let at = data * SECTOR + u64::from(item.first_cluster - 2) * CLUSTER;
        match item.content {
            None => put(out, offset + at, &directory(item, &items))?,
            Some(content) => {
                out.seek(SeekFrom::Start(offset + at))?;
                let unreadable = |error| DiskError::Read(item.path.as_str().into(), error);
                let mut reader = content.reader().map_err(unreadable)?;
                io::copy(&mut reader, out)?;
            }
        }
    }
    Ok(())
}

fn put(out: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    out.seek(SeekFrom::Start(at))?;
    out.write_all(bytes)
}

/// Smallest table that describes all clusters of the rest of the volume.
fn fat_sectors(sectors: u64) -> u64 {
    let per_cluster = CLUSTER / SECTOR;
    let entries_per_sector = SECTOR / 4;
    let clusters = (sectors - RESERVED) / per_cluster + 2;
    clusters.div_ceil(entries_per_sector)
}

/// All folders and files in path order, the root first, each with a run of clusters.
fn place(files: &BTreeMap<TreePath, Content>) -> Result<Vec<Item<'_>>, DiskError> {
    let mut all: BTreeMap<TreePath, Option<&Content>> = BTreeMap::new();
    all.insert(TreePath::root(), None);
    for (path, content) in files {
        check_name(path)?;
        for folder in path.ancestors() {
            check_name(&folder)?;
            all.entry(folder).or_insert(None);
        }
        all.insert(path.clone(), Some(content));
    }
    let mut items: Vec<Item<'_>> = all
        .into_iter()
        .map(|(path, content)| Item { path, content, first_cluster: 0, clusters: 0 })
        .collect();
    let mut next = 2;
    for index in 0..items.len() {
        let bytes = match items[index].content {
            Some(content) => content.size(),
            None => directory_bytes(&items[index].path, &items),
        };
        let count = u32::try_from(bytes.div_ceil(CLUSTER).max(1)).unwrap_or(u32::MAX / 8);
        items[index].first_cluster = next;
        items[index].clusters = count;
        next += count;
    }
    Ok(items)
}

fn check_name(path: &TreePath) -> Result<(), DiskError> {
    let forbidden = |c: char| !c.is_ascii() || c.is_ascii_control() || "\"*:<>?\\|".contains(c);
    if path.name().contains(forbidden) || path.name().ends_with(['.', ' ']) {
        return Err(DiskError::Name(path.clone()));
    }
    Ok(())
}

fn children<'a, 'b>(
    folder: &'b TreePath,
    items: &'b [Item<'a>],
) -> impl Iterator<Item = &'b Item<'a>> {
    items.iter().filter(move |item| item.path.parent().as_ref() == Some(folder))
}

/// Entries of a name: thirteen characters in each long-name entry, and the short one.
fn entries_of(name: &str) -> u64 {
    name.len().div_ceil(13) as u64 + 1
}

fn directory_bytes(folder: &TreePath, items: &[Item<'_>]) -> u64 {
    // The volume label in the root; `.` and `..` elsewhere.
    let own = if folder.is_root() { 1 } else { 2 };
    let entries: u64 = children(folder, items).map(|item| entries_of(item.path.name())).sum();
    (own + entries) * 32
}

fn boot_sector(sectors: u64, fat_sectors: u64, volume: u32) -> [u8; 512] {
    let mut sector = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xEB, 0x58, 0x90]);
    put(3, b"SLIPWAY ");
    put(11, &(SECTOR as u16).to_le_bytes());
    put(13, &[(CLUSTER / SECTOR) as u8]);
    put(14, &(RESERVED as u16).to_le_bytes());
    put(16, &[FATS as u8]);
    put(21, &[0xF8]); // fixed disk
    put(24, &32_u16.to_le_bytes()); // sectors per track and heads: of no use, never zero
    put(26, &64_u16.to_le_bytes());
    put(32, &(sectors as u32).to_le_bytes());
    put(36, &(fat_sectors as u32).to_le_bytes());
    put(44, &2_u32.to_le_bytes()); // cluster of the root
    put(48, &1_u16.to_le_bytes()); // FSInfo
    put(50, &6_u16.to_le_bytes()); // copy of this sector
    put(64, &[0x80]);
    put(66, &[0x29]);
    put(67, &volume.to_le_bytes());
    put(71, LABEL);
    put(82, b"FAT32   ");
    put(510, &[0x55, 0xAA]);
    sector
}

fn info_sector(free: u32, next: u32) -> [u8; 512] {
    let mut sector = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"RRaA");
    put(484, b"rrAa");
    put(488, &free.to_le_bytes());
    put(492, &next.to_le_bytes());
    put(508, &[0, 0, 0x55, 0xAA]);
    sector
}

fn table(items: &[Item<'_>]) -> Vec<u8> {
    // Entries 0 and 1: media type and clean-shutdown bits.
    let mut entries: Vec<u32> = vec![0x0FFF_FFF8, END_OF_CHAIN];
    for item in items {
        let last = item.first_cluster + item.clusters - 1;
        entries.extend((item.first_cluster..last).map(|cluster| cluster + 1));
        entries.push(END_OF_CHAIN);
    }
    entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

fn directory(folder: &Item<'_>, items: &[Item<'_>]) -> Vec<u8> {
    let mut data = Vec::new();
    if folder.path.is_root() {
        data.extend(short_entry(LABEL, 0x08, 0, 0));
    } else {
        let parent = folder.path.parent().unwrap_or_else(TreePath::root);
        // The root's cluster is written as 0 in `..`.
        let above = items
            .iter()
            .find(|item| item.path == parent && !parent.is_root())
            .map_or(0, |item| item.first_cluster);
        data.extend(short_entry(b".          ", DIRECTORY, folder.first_cluster, 0));
        data.extend(short_entry(b"..         ", DIRECTORY, above, 0));
    }
    for (number, item) in (1..).zip(children(&folder.path, items)) {
        let short = short_name(number);
        data.extend(long_entries(item.path.name(), &short));
        let (attributes, size) = match item.content {
            Some(content) => (ARCHIVE, content.size() as u32),
            None => (DIRECTORY, 0),
        };
        data.extend(short_entry(&short, attributes, item.first_cluster, size));
    }
    data
}

/// A short name that nobody sees: `F0000001   `, unique in its folder.
fn short_name(number: u32) -> [u8; 11] {
    let mut name = *b"F0000000   ";
    name[1..8].copy_from_slice(&format!("{number:07}").as_bytes()[..7]);
    name
}

fn short_entry(name: &[u8; 11], attributes: u8, cluster: u32, size: u32) -> [u8; 32] {
    let mut entry = [0; 32];
    entry[0..11].copy_from_slice(name);
    entry[11] = attributes;
    for at in [16, 18, 24] {
        entry[at..at + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    entry[20..22].copy_from_slice(&((cluster >> 16) as u16).to_le_bytes());
    entry[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
    entry[28..32].copy_from_slice(&size.to_le_bytes());
    entry
}

/// Long-name entries, last part first ("Long Directory Entries").
fn long_entries(name: &str, short: &[u8; 11]) -> Vec<u8> {
    let sum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let units: Vec<u16> = name.encode_utf16().collect();
    let mut data = Vec::new();
    let parts: Vec<&[u16]> = units.chunks(13).collect();
    for (index, part) in parts.iter().enumerate().rev() {
        let mut padded = [0xFFFF_u16; 13];
        padded[..part.len()].copy_from_slice(part);
        if part.len() < 13 {
            padded[part.len()] = 0;
        }
        let last = if index + 1 == parts.len() { 0x40 } else { 0 };
        let mut entry = [0; 32];
        entry[0] = (index as u8 + 1) | last;
        entry[11] = LONG_NAME;
        entry[13] = sum;
        let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
        for (place, unit) in places.zip(padded) {
            entry[place..place + 2].copy_from_slice(&unit.to_le_bytes());
        }
        data.extend(entry);
    }
    data
}
