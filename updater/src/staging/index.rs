//! Which blocks the running system has. In: what is booted. Out: where to find a block by its
//! leaf. What is found is a guess until the block was read and hashed: a leaf is eight bytes of
//! a hash, and the tree on the disk is not checked here.

use std::io;

use contract::release::layout::{BLOCK_BYTES, MIB, ROOT_BYTES};
use contract::release::offer::{LEAF_BYTES, MAX_UKI_BYTES};
use contract::release::verity::{self, BLOCK, BlockHasher, HASH};
use contract::{Digest, UkiName};

use super::destination::Origin;
use super::hash::{SEGMENT, hash_blocks, on_cores};
use crate::effects::{Area, Effects};

/// Distance of the places in a UKI that are looked at, in bytes: the alignment of sections in
/// a PE file. A longer initrd moves the kernel behind it by a multiple of this.
const UKI_STRIDE: u64 = 512;

/// The leaf index of a payload: eight bytes for each block.
#[derive(Debug, Clone)]
pub struct LeafIndex(Vec<u8>);

impl LeafIndex {
    /// From a blob whose digest and size were checked.
    pub fn new(blob: Vec<u8>) -> Self {
        Self(blob)
    }

    /// The leaf of a block; `None` behind the end.
    pub fn leaf(&self, block: u64) -> Option<u64> {
        let leaf = self.0.as_chunks::<{ LEAF_BYTES as usize }>().0.get(block as usize)?;
        Some(u64::from_be_bytes(*leaf))
    }
}

/// The leaf that a hash starts with.
pub fn leaf_of(hash: &[u8; HASH]) -> u64 {
    u64::from_be_bytes(verity::leaf(hash))
}

/// Places of the running system, by leaf.
pub struct Locations {
    /// Leaf, and place in units.
    sorted: Vec<(u64, u32)>,
    unit: u64,
    origin: Origin,
}

impl Locations {
    /// Where a block with this leaf may be, in bytes.
    pub fn find(&self, leaf: u64) -> Option<u64> {
        let index = self.sorted.binary_search_by_key(&leaf, |(leaf, _)| *leaf).ok()?;
        Some(u64::from(self.sorted.get(index)?.1) * self.unit)
    }

    /// Reads from the running system.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.origin.read(offset, buffer)
    }

    fn new(leaves: impl Iterator<Item = u64>, unit: u64, origin: Origin) -> Self {
        let mut sorted: Vec<_> = leaves.zip(0_u32..).collect();
        sorted.sort_unstable();
        sorted.dedup_by_key(|(leaf, _)| *leaf);
        Self { sorted, unit, origin }
    }

    /// Every block of the running root. Its own hash tree has the leaves when the salt is the
    /// same; otherwise the blocks are read and hashed. `None` when there is no valid tree.
    /// Blocks the caller.
    ///
    /// # Errors
    /// As the device gives them.
    pub fn of_root(effects: &Effects, salt: &Digest) -> io::Result<Option<Self>> {
        let slots = effects.slots.as_ref();
        let mut superblock = [0; BLOCK];
        slots.read_booted(Area::Verity, 0, &mut superblock)?;
        let Some((bytes, its_salt)) = described(&superblock) else { return Ok(None) };
        let origin = Origin::Root(effects.clone());
        let hashes = if its_salt == *salt && bytes > BLOCK_BYTES {
            let start = verity::leaves_start(bytes);
            let mut hashes = vec![0; (bytes / BLOCK_BYTES) as usize * HASH];
            for (piece, offset) in
                hashes.chunks_mut(MIB as usize).zip((start..).step_by(MIB as usize))
            {
                slots.read_booted(Area::Verity, offset, piece)?;
            }
            hashes
        } else {
            let read = |offset, buffer: &mut [u8]| origin.read(offset, buffer);
            hash_blocks(bytes, &BlockHasher::new(salt), read).map_err(|failed| failed.source)?
        };
        let leaves = hashes.as_chunks::<HASH>().0.iter().map(leaf_of);
        Ok(Some(Self::new(leaves, BLOCK_BYTES, origin)))
    }

    /// Every 512th byte of the running UKI. Blocks the caller.
    ///
    /// # Errors
    /// As the partition gives them.
    pub fn of_uki(effects: &Effects, name: UkiName, salt: &Digest) -> io::Result<Option<Self>> {
        let bytes = effects.esp.uki_bytes(&name)?;
        if bytes == 0 || bytes > MAX_UKI_BYTES {
            return Ok(None);
        }
        let origin = Origin::Uki(effects.clone(), name, bytes);
        let hasher = BlockHasher::new(salt);
        let mut leaves = vec![0; bytes.div_ceil(UKI_STRIDE) as usize];
        let each = SEGMENT / UKI_STRIDE as usize;
        let hash = |offset, buffer: &mut [u8], leaves: &mut [u64]| {
            // The last places of a segment are of blocks that reach into the next one.
            origin.read(offset, buffer)?;
            for (leaf, start) in leaves.iter_mut().zip((0..).step_by(UKI_STRIDE as usize)) {
                *leaf = leaf_of(&hasher.hash(&buffer[start..start + BLOCK]));
            }
            Ok(())
        };
        on_cores(&mut leaves, each, SEGMENT + BLOCK, hash).map_err(|failed| failed.source)?;
        Ok(Some(Self::new(leaves.into_iter(), UKI_STRIDE, origin)))
    }
}

/// Data size in bytes and salt of a valid superblock.
fn described(superblock: &[u8; BLOCK]) -> Option<(u64, Digest)> {
    let blocks = u64::from_le_bytes(superblock[72..80].try_into().ok()?);
    let bytes = blocks.checked_mul(BLOCK_BYTES).filter(|bytes| (1..=ROOT_BYTES).contains(bytes))?;
    verity::parse_superblock(superblock, bytes).map(|(salt, _)| (bytes, salt))
}
