//! dm-verity's hash tree, bit for bit as `veritysetup format` makes it (cryptsetup's on-disk
//! format, version 1, SHA-256, blocks of 4096 bytes).
//!
//! The builder makes the tree of an image, and a node makes it again while it writes a slot:
//! both from here. In: the hash of each data block. Out: superblock, levels, root hash.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::release::layout::BLOCK_BYTES;
use crate::release::offer::LEAF_BYTES;
use crate::{Digest, RootHash};

/// Bytes of a block.
pub const BLOCK: usize = BLOCK_BYTES as usize;
/// Bytes of a hash.
pub const HASH: usize = 32;

const MAGIC: &[u8; 8] = b"verity\0\0";

/// Hashes blocks with a salt that is absorbed once.
#[derive(Clone)]
pub struct BlockHasher {
    salted: Sha256,
    /// Of a block of zeros, of which images and empty slots have many.
    zeros: [u8; HASH],
}

impl BlockHasher {
    /// A hasher for this salt.
    pub fn new(salt: &Digest) -> Self {
        let salted = Sha256::new_with_prefix(salt.as_bytes());
        let zeros = salted.clone().chain_update([0; BLOCK]).finalize().into();
        Self { salted, zeros }
    }

    /// The hash of one block: SHA-256 over salt and block. A shorter block, which only a
    /// payload that is no file system ends with, is filled with zeros.
    pub fn hash(&self, block: &[u8]) -> [u8; HASH] {
        let (words, rest) = block.as_chunks();
        if words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|b| *b == 0)
        {
            return self.zeros;
        }
        let mut hasher = self.salted.clone();
        hasher.update(block);
        hasher.update(&[0; BLOCK][..BLOCK.saturating_sub(block.len())]);
        hasher.finalize().into()
    }

    /// Appends the hash of every block of `bytes`.
    pub fn hash_all(&self, bytes: &[u8], out: &mut Vec<u8>) {
        bytes.chunks(BLOCK).for_each(|block| out.extend(self.hash(block)));
    }
}

/// The entry of a leaf index for a block with this hash.
pub fn leaf(hash: &[u8; HASH]) -> [u8; LEAF_BYTES as usize] {
    let mut leaf = [0; LEAF_BYTES as usize];
    leaf.copy_from_slice(&hash[..LEAF_BYTES as usize]);
    leaf
}

/// A finished tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashTree {
    /// Levels from the leaves upwards, each padded with zeros to whole blocks; none for a
    /// single data block.
    pub levels: Vec<Vec<u8>>,
    /// The hash above the last level.
    pub root: RootHash,
}

impl HashTree {
    /// The tree over the hashes of all data blocks, in order; `None` without any.
    pub fn over(leaves: Vec<u8>, hasher: &BlockHasher) -> Option<Self> {
        let mut levels = Vec::new();
        let mut level = leaves;
        // A single data block has no level above it: its hash is the root hash.
        while level.len() > HASH {
            level.resize(level.len().next_multiple_of(BLOCK), 0);
            let mut above = Vec::with_capacity(level.len() / BLOCK * HASH);
            hasher.hash_all(&level, &mut above);
            levels.push(std::mem::replace(&mut level, above));
        }
        let root = <[u8; HASH]>::try_from(level.as_slice()).ok()?;
        Some(Self { levels, root: root.into() })
    }

    /// The levels in the order in which they lie behind the superblock.
    pub fn on_disk(&self) -> impl Iterator<Item = &[u8]> {
        self.levels.iter().rev().map(Vec::as_slice)
    }
}

/// Bytes of superblock and tree for `data_bytes` of data.
pub fn tree_bytes(data_bytes: u64) -> u64 {
    let mut blocks = data_bytes / BLOCK_BYTES;
    let mut total = 1;
    while blocks > 1 {
        blocks = blocks.div_ceil((BLOCK / HASH) as u64);
        total += blocks;
    }
    total * BLOCK_BYTES
}

/// Bytes of the partition before the leaves' level, for `data_bytes` of data.
pub fn leaves_start(data_bytes: u64) -> u64 {
    let leaves = (data_bytes / BLOCK_BYTES * HASH as u64).next_multiple_of(BLOCK_BYTES);
    tree_bytes(data_bytes).saturating_sub(leaves)
}

/// The first block of a hash partition.
pub fn superblock(data_bytes: u64, salt: &Digest, uuid: &Uuid) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[0..8].copy_from_slice(MAGIC);
    block[8..12].copy_from_slice(&1_u32.to_le_bytes());
    block[12..16].copy_from_slice(&1_u32.to_le_bytes());
    block[16..32].copy_from_slice(uuid.as_bytes());
    block[32..38].copy_from_slice(b"sha256");
    block[64..68].copy_from_slice(&(BLOCK as u32).to_le_bytes());
    block[68..72].copy_from_slice(&(BLOCK as u32).to_le_bytes());
    block[72..80].copy_from_slice(&(data_bytes / BLOCK_BYTES).to_le_bytes());
    block[80..82].copy_from_slice(&(HASH as u16).to_le_bytes());
    block[88..88 + HASH].copy_from_slice(salt.as_bytes());
    block
}

/// Salt and UUID of a superblock that is in every other field the one expected.
pub fn parse_superblock(block: &[u8; BLOCK], data_bytes: u64) -> Option<(Digest, Uuid)> {
    let salt = Digest::from(<[u8; HASH]>::try_from(&block[88..88 + HASH]).ok()?);
    let uuid = Uuid::from_slice(&block[16..32]).ok()?;
    (superblock(data_bytes, &salt, &uuid) == *block).then_some((salt, uuid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_is_read_back() {
        let (salt, uuid) = (Digest::of(b"salt"), Uuid::from_bytes([7; 16]));
        let mut block = superblock(8192, &salt, &uuid);
        assert_eq!(parse_superblock(&block, 8192), Some((salt, uuid)));
        assert_eq!(parse_superblock(&block, 4096), None);
        block[33] ^= 1;
        assert_eq!(parse_superblock(&block, 8192), None);
    }

    #[test]
    fn the_sizes_of_a_tree_are_those_of_its_levels() {
        let hasher = BlockHasher::new(&Digest::of(b"salt"));
        for blocks in [1_u64, 2, 128, 129, 128 * 128 + 1] {
            let leaves = vec![1; blocks as usize * HASH];
            let tree = HashTree::over(leaves, &hasher).unwrap();
            let levels: usize = tree.levels.iter().map(Vec::len).sum();
            let bytes = blocks * BLOCK_BYTES;
            assert_eq!(tree_bytes(bytes), BLOCK_BYTES + levels as u64);
            let above: usize = tree.levels.iter().skip(1).map(Vec::len).sum();
            if blocks > 1 {
                assert_eq!(leaves_start(bytes), BLOCK_BYTES + above as u64);
            }
        }
        assert_eq!(HashTree::over(Vec::new(), &hasher), None);
    }

    #[test]
    fn a_block_of_zeros_has_the_hash_of_its_bytes() {
        let salt = Digest::of(b"salt");
        let expected = Sha256::new_with_prefix(salt.as_bytes()).chain_update([0; BLOCK]).finalize();
        let hasher = BlockHasher::new(&salt);
        assert_eq!(hasher.hash(&[0; BLOCK]), *expected);
        assert_eq!(hasher.hash(&[0; 3]), *expected);
        for changed in [0, 2000, BLOCK - 1] {
            let mut block = [0; BLOCK];
            block[changed] = 1;
            let expected = Sha256::new_with_prefix(salt.as_bytes()).chain_update(block).finalize();
            assert_eq!(hasher.hash(&block), *expected);
        }
    }

    #[test]
    fn a_short_block_is_filled_with_zeros() {
        let hasher = BlockHasher::new(&Digest::of(b"salt"));
        let mut full = [0; BLOCK];
        full[..3].copy_from_slice(b"abc");
        assert_eq!(hasher.hash(b"abc"), hasher.hash(&full));
    }
}
