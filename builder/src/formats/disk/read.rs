//! Reading a disk image back, for `inspect`, `verify` and tests.
//!
//! In: any raw file. Out: its partitions and the files of its ESP. **Invariant:** nothing
//! outside the file is read, and nothing panics.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use contract::release::layout::ESP_LABEL;

use super::fat_read::Volume;
use super::{GPT, SECTOR};
use crate::formats::tree::TreePath;

/// An opened disk image.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    partitions: Vec<Partition>,
}

/// A partition of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// PARTLABEL.
    pub label: String,
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// Why a disk image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DiskReadError {
    /// The file cannot be read.
    #[error("cannot read {}: check the path and its permissions", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// No partition table.
    #[error("{} has no partition table (GPT): it is not a disk image of Slipway; a qcow2 image must be converted first", .0.display())]
    Table(PathBuf),
    /// A partition beyond the file's end.
    #[error("{}: the partition `{label}` ends after the file: the image is cut short, copy it again", .path.display())]
    CutShort {
        /// The image.
        path: PathBuf,
        /// The partition.
        label: String,
    },
    /// No partition of that label.
    #[error("{} has no partition `{label}`: it is not a disk image of Slipway", .path.display())]
    NoPartition {
        /// The image.
        path: PathBuf,
        /// The partition.
        label: String,
    },
    /// The ESP is no FAT32 volume.
    #[error("{}: the EFI system partition is damaged ({problem}): use another copy", .path.display())]
    Esp {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Disk {
    /// Opens a raw image and reads its table.
    ///
    /// # Errors
    /// [`DiskReadError`] for what is not a disk image.
    pub fn open(path: &Path) -> Result<Self, DiskReadError> {
        let failed = |error| DiskReadError::Io(path.into(), error);
        let mut file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let table = GPT::find_from(&mut file).map_err(|_| DiskReadError::Table(path.into()))?;
        let mut partitions = Vec::new();
        for (_, entry) in table.iter().filter(|(_, entry)| entry.is_used()) {
            let label = entry.partition_name.as_str().to_owned();
            let start = entry.starting_lba.saturating_mul(SECTOR);
            let end = entry.ending_lba.saturating_add(1).saturating_mul(SECTOR);
            if end > bytes || end < start {
                return Err(DiskReadError::CutShort { path: path.into(), label });
            }
            partitions.push(Partition { label, start, bytes: end - start });
        }
        Ok(Self { file, path: path.into(), partitions })
    }

    /// All partitions, in table order.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The file, for reading a partition's bytes.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// The partition with this label.
    ///
    /// # Errors
    /// [`DiskReadError::NoPartition`].
    pub fn partition(&self, label: &str) -> Result<Partition, DiskReadError> {
        let found = self.partitions.iter().find(|partition| partition.label == label);
        found.cloned().ok_or_else(|| DiskReadError::NoPartition {
            path: self.path.clone(),
            label: label.into(),
        })
    }

    /// All files of the EFI system partition with their bytes.
    ///
    /// # Errors
    /// [`DiskReadError::Esp`] for a damaged volume.
    pub fn esp_files(&mut self) -> Result<BTreeMap<TreePath, Vec<u8>>, DiskReadError> {
        let esp = self.partition(ESP_LABEL)?;
        let damaged = |problem| DiskReadError::Esp { path: self.path.clone(), problem };
        Volume::open(&mut self.file, esp.start, esp.bytes)
            .and_then(|mut volume| volume.files())
            .map_err(damaged)
    }
}
