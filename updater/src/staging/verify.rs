//! The end of each part. In: an assembled part. Out: proof, by reading back from the device,
//! that it is the one of the offer. For the root this also writes the hash tree. [`confirm`]
//! proves the same of a whole release that was staged a while ago.
//! **Invariant:** nothing but the offer's root hash and the UKI's SHA-256 is compared with.
//!
//! Everything here blocks.

use std::io;

use contract::release::layout::MIB;
use contract::release::verity::{self, BLOCK, BlockHasher, HASH, HashTree};
use contract::{Digest, Offer, RootDescription};
use sha2::{Digest as _, Sha256};

use super::assembly::Assembly;
use super::destination::Destination;
use super::error::{DeviceError, Part, ReadBack, StageError};
use super::hash::hash_blocks;
use crate::effects::{Area, Effects, Slots, TargetSlot};
use crate::planted::{Planted, is_planted};

/// Bytes that are read or written at a time.
const PIECE: usize = MIB as usize;

/// Why a part was not sealed.
#[derive(Debug)]
pub enum SealError {
    /// The way brought other bytes than the offer names: another way may do better.
    WrongBytes,
    /// Nothing else will do better.
    Fatal(StageError),
}

impl<E: Into<StageError>> From<E> for SealError {
    fn from(error: E) -> Self {
        Self::Fatal(error.into())
    }
}

/// Compares root hashes, writes the hash tree, syncs and reads everything back.
pub fn seal_root(
    assembly: &Assembly,
    slots: &dyn Slots,
    target: TargetSlot,
    root: &RootDescription,
) -> Result<(), SealError> {
    let written = assembly.hashes();
    let tree = HashTree::over(written.clone(), assembly.hasher());
    let tree = tree.filter(|tree| is_root_of(tree, root)).ok_or(SealError::WrongBytes)?;
    let disk = TreeOnDisk { slots, target };
    if !is_planted(Planted::TreeNotWritten) {
        disk.write(root, &tree)?;
    }
    assembly.destination().sync()?;
    drop(tree);

    let read = read_back(assembly, &written)?;
    drop(written);
    let tree = HashTree::over(read, assembly.hasher());
    // Of the same hashes as above, so this cannot fail; it is the last word all the same.
    let tree = tree.filter(|tree| is_root_of(tree, root)).ok_or(SealError::WrongBytes)?;
    Ok(disk.compare(root, &tree)?)
}

/// Syncs, reads everything back and compares its SHA-256.
pub fn seal_uki(assembly: &Assembly) -> Result<(), SealError> {
    let destination = assembly.destination();
    destination.sync()?;
    read_back(assembly, &assembly.hashes())?;
    let payload = assembly.payload();
    let digest = digest_of(destination, payload.bytes)?;
    if digest == payload.sha256 { Ok(()) } else { Err(SealError::WrongBytes) }
}

/// Reads a staged release once more, and compares it with its offer. Writes nothing.
pub fn confirm(effects: &Effects, target: TargetSlot, offer: &Offer) -> Result<(), StageError> {
    let root = &offer.release.root;
    let uki = offer.ukis.get(&target.slot()).ok_or(StageError::NoUki(target.slot()))?;
    let place = Destination::new(effects, target, Part::Root);
    let hasher = BlockHasher::new(&root.salt);
    let read = |offset, buffer: &mut [u8]| place.read(offset, buffer);
    let hashes = hash_blocks(offer.root.bytes, &hasher, read)
        .map_err(|failed| place.failed("read", failed.offset, failed.source))?;
    let tree = HashTree::over(hashes, &hasher).filter(|tree| is_root_of(tree, root));
    let tree = tree.ok_or(StageError::Changed(Part::Root))?;
    TreeOnDisk { slots: effects.slots.as_ref(), target }.compare(root, &tree)?;
    let place = Destination::new(effects, target, Part::Uki);
    if digest_of(&place, uki.bytes)? == uki.sha256 {
        Ok(())
    } else {
        Err(StageError::Changed(Part::Uki))
    }
}

fn is_root_of(tree: &HashTree, root: &RootDescription) -> bool {
    tree.root == root.root_hash || is_planted(Planted::RootHashNotCompared)
}

fn digest_of(destination: &Destination, bytes: u64) -> Result<Digest, DeviceError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; PIECE];
    for offset in (0..bytes).step_by(PIECE) {
        let length = (bytes - offset).min(PIECE as u64) as usize;
        let read = destination.read(offset, &mut buffer[..length]);
        read.map_err(|source| destination.failed("read back", offset, source))?;
        hasher.update(&buffer[..length]);
    }
    Ok(Digest::from(<[u8; HASH]>::from(hasher.finalize())))
}

/// Hashes what the device holds, and compares with the hashes of what was written.
fn read_back(assembly: &Assembly, written: &[u8]) -> Result<Vec<u8>, StageError> {
    let destination = assembly.destination();
    let read = |offset, buffer: &mut [u8]| destination.read(offset, buffer);
    let hashes = hash_blocks(assembly.payload().bytes, assembly.hasher(), read)
        .map_err(|failed| destination.failed("read back", failed.offset, failed.source))?;
    match first_difference(&hashes, written, HASH) {
        None => Ok(hashes),
        Some(block) => Err(StageError::ReadBack {
            part: ReadBack::Part(destination.part()),
            offset: block * BLOCK as u64,
        }),
    }
}

/// Number of the first of the equal parts of `size` bytes in which two runs differ.
fn first_difference(left: &[u8], right: &[u8], size: usize) -> Option<u64> {
    let same = left.chunks(size).zip(right.chunks(size)).take_while(|(a, b)| a == b).count();
    (left.len() != right.len() || same < left.len().div_ceil(size)).then_some(same as u64)
}

struct TreeOnDisk<'a> {
    slots: &'a dyn Slots,
    target: TargetSlot,
}

impl TreeOnDisk<'_> {
    fn write(&self, root: &RootDescription, tree: &HashTree) -> Result<(), DeviceError> {
        each_piece(root, tree, |offset, piece| {
            let written = self.slots.write_target(self.target, Area::Verity, offset, piece);
            written.map_err(|source| failed("write", offset, source))
        })
    }

    fn compare(&self, root: &RootDescription, tree: &HashTree) -> Result<(), StageError> {
        let mut buffer = vec![0; PIECE];
        each_piece(root, tree, |offset, piece| {
            let read = &mut buffer[..piece.len()];
            self.slots
                .read_target(self.target, Area::Verity, offset, read)
                .map_err(|source| failed("read back", offset, source))?;
            match first_difference(read, piece, BLOCK) {
                None => Ok(()),
                Some(block) => Err(StageError::ReadBack {
                    part: ReadBack::Tree,
                    offset: offset + block * BLOCK as u64,
                }),
            }
        })
    }
}

/// Superblock and levels with their places, in pieces.
fn each_piece<E>(
    root: &RootDescription,
    tree: &HashTree,
    mut work: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let superblock = verity::superblock(root.bytes, &root.salt, &root.verity_uuid);
    let mut offset = 0;
    for level in std::iter::once(&superblock[..]).chain(tree.on_disk()) {
        for piece in level.chunks(PIECE) {
            work(offset, piece)?;
            offset += piece.len() as u64;
        }
    }
    Ok(())
}

fn failed(doing: &'static str, offset: u64, source: io::Error) -> DeviceError {
    DeviceError { doing, part: ReadBack::Tree, offset, source }
}
