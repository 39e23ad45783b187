//! casync, as peer of the bytes that an update moves.
//!
//! In: the images of a release. Out: its chunks, as `casync make` compresses and names them,
//! and the indexes. A node with the old chunks fetches the others and the new indexes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::measure::run;

/// A release in chunks.
#[derive(Debug)]
pub struct Chunked {
    /// Compressed bytes of each chunk by its name.
    chunks: BTreeMap<String, u64>,
    /// Bytes of all indexes.
    index: u64,
}

impl Chunked {
    /// Cuts `images` into chunks, in a new folder `folder`.
    ///
    /// # Errors
    /// When casync fails.
    pub fn new(folder: &Path, images: &[PathBuf]) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let store = folder.join("store.castr");
        let mut index = 0;
        for (number, image) in images.iter().enumerate() {
            let file = folder.join(format!("{number}.caibx"));
            let mut command = Command::new("casync");
            command.arg("make").arg("--store").arg(&store).arg(&file).arg(image);
            run(&command, &folder.join("casync.log"))?;
            index += fs::metadata(&file)?.len();
        }
        let mut chunks = BTreeMap::new();
        for group in fs::read_dir(&store)? {
            for chunk in fs::read_dir(group?.path())? {
                let chunk = chunk?;
                let name = chunk.file_name().to_string_lossy().into_owned();
                chunks.insert(name, chunk.metadata()?.len());
            }
        }
        Ok(Self { chunks, index })
    }

    /// Bytes that a node with `old` fetches.
    pub fn bytes_after(&self, old: &Self) -> u64 {
        let missing = self.chunks.iter().filter(|(name, _)| !old.chunks.contains_key(*name));
        self.index + missing.map(|(_, bytes)| bytes).sum::<u64>()
    }
}

/// Fails when there is no casync, with what to do.
///
/// # Errors
/// That it cannot run.
pub fn is_there() -> Result<()> {
    let output = Command::new("casync").arg("--version").output();
    output.context("cannot run casync: apt install casync").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unknown_chunks_and_the_index_move() {
        let release = |chunks: &[(&str, u64)], index| Chunked {
            chunks: chunks.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect(),
            index,
        };
        let old = release(&[("a", 10), ("b", 20)], 3);
        assert_eq!(release(&[("b", 20), ("c", 40)], 5).bytes_after(&old), 45);
        assert_eq!(old.bytes_after(&old), 3);
    }
}
