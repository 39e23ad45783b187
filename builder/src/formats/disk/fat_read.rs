//! Reading a FAT32 volume: only what the writer beside it, systemd-boot's counter and
//! mtools produce.
//!
//! **Invariant:** cluster chains are bounded by the volume, so that a loop ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::formats::tree::TreePath;

const MAX_FILES: usize = 4096;
const MAX_DIRECTORY_CLUSTERS: usize = 1024;
const MAX_CLUSTER_BYTES: u64 = 128 << 10;
const END_OF_CHAIN: u32 = 0x0FFF_FFF8;

/// A FAT32 volume inside a file.
pub struct Volume<'a> {
    file: &'a mut File,
    start: u64,
    bytes: u64,
    cluster_bytes: u64,
    table_at: u64,
    data_at: u64,
    root: u32,
}

type Problem = &'static str;

fn le16(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes).into()
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

impl<'a> Volume<'a> {
    /// Reads the boot sector of the volume of `bytes` at `start`.
    pub fn open(file: &'a mut File, start: u64, bytes: u64) -> Result<Self, Problem> {
        let mut volume =
            Self { file, start, bytes, cluster_bytes: 0, table_at: 0, data_at: 0, root: 0 };
        let sector = volume.at(0, 512)?;
        let sector_bytes = u64::from(le16(&sector, 11));
        let tables = u64::from(*sector.get(16).unwrap_or(&0));
        volume.cluster_bytes = u64::from(*sector.get(13).unwrap_or(&0)) * sector_bytes;
        volume.table_at = u64::from(le16(&sector, 14)) * sector_bytes;
        volume.data_at = volume.table_at + tables * u64::from(le32(&sector, 36)) * sector_bytes;
        volume.root = le32(&sector, 44);
        let plausible = sector.ends_with(&[0x55, 0xAA])
            && (1..=MAX_CLUSTER_BYTES).contains(&volume.cluster_bytes)
            && volume.data_at < bytes;
        if plausible { Ok(volume) } else { Err("no FAT32 boot sector") }
    }

    fn at(&mut self, at: u64, length: u64) -> Result<Vec<u8>, Problem> {
        if at.checked_add(length).is_none_or(|end| end > self.bytes) {
            return Err("something lies outside the partition");
        }
        let mut bytes = vec![0; length as usize];
        self.file
            .seek(SeekFrom::Start(self.start + at))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|_| "it cannot be read")?;
        Ok(bytes)
    }

    /// The bytes of a chain of at most `limit` clusters.
    fn chain(&mut self, first: u32, limit: usize) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        let mut cluster = first;
        for _ in 0..limit {
            let index = cluster.checked_sub(2).ok_or("a chain leaves the volume")?;
            let at = self.data_at + u64::from(index) * self.cluster_bytes;
            bytes.append(&mut self.at(at, self.cluster_bytes)?);
            let next = self.at(self.table_at + u64::from(cluster) * 4, 4)?;
            cluster = le32(&next, 0) & 0x0FFF_FFFF;
            if cluster >= END_OF_CHAIN {
                return Ok(bytes);
            }
        }
        Err("a chain does not end")
    }

    /// Every file with its bytes.
    pub fn files(&mut self) -> Result<BTreeMap<TreePath, Vec<u8>>, Problem> {
        let mut files = BTreeMap::new();
        let mut folders = 0;
        let mut open = vec![(TreePath::root(), self.root)];
        while let Some((folder, cluster)) = open.pop() {
            folders += 1;
            if folders > MAX_FILES || files.len() > MAX_FILES {
                return Err("too many files");
            }
            for entry in entries(&self.chain(cluster, MAX_DIRECTORY_CLUSTERS)?) {
                let path = folder.join(&entry.name).map_err(|_| "an impossible file name")?;
                if entry.folder {
                    open.push((path, entry.cluster));
                    continue;
                }
                let mut bytes = Vec::new();
                if entry.size > 0 {
                    let clusters = u64::from(entry.size).div_ceil(self.cluster_bytes);
                    bytes = self.chain(entry.cluster, clusters as usize)?;
                    bytes.truncate(entry.size as usize);
                }
                files.insert(path, bytes);
            }
        }
        Ok(files)
    }
}

struct Entry {
    name: String,
    folder: bool,
    cluster: u32,
    size: u32,
}

/// Files and folders of a directory, without `.`, `..` and the label.
fn entries(data: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut long: Vec<u16> = Vec::new();
    for entry in data.chunks_exact(32) {
        match (entry[0], entry[11]) {
            (0, _) => break,
            (0xE5, _) => long.clear(),
            (_, 0x0F) => {
                let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain([28, 30]);
                let part = places.map(|at| le16(entry, at) as u16);
                // Parts stand last first.
                long = part.take_while(|unit| *unit != 0).chain(long.iter().copied()).collect();
            }
            (_, attributes) => {
                let short = short_name(entry);
                let name = if long.is_empty() { short } else { String::from_utf16_lossy(&long) };
                long.clear();
                if attributes & 0x08 != 0 || name == "." || name == ".." {
                    continue;
                }
                found.push(Entry {
                    name,
                    folder: attributes & 0x10 != 0,
                    cluster: (le16(entry, 20) << 16) | le16(entry, 26),
                    size: le32(entry, 28),
                });
            }
        }
    }
    found
}

/// `NAME    EXT` as `name.ext` or as written, by the case bits of byte 12.
fn short_name(entry: &[u8]) -> String {
    let text = |bytes: &[u8], lower: bool| {
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        if lower { text.to_ascii_lowercase() } else { text }
    };
    let base = text(&entry[0..8], entry[12] & 0x08 != 0);
    let extension = text(&entry[8..11], entry[12] & 0x10 != 0);
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}
