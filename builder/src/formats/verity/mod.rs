//! dm-verity: the hash tree over the root, and the root hash that vouches for it.
//!
//! In: a file system image. Out: superblock and tree, bit for bit as `veritysetup format`
//! writes them (cryptsetup's on-disk format, version 1, SHA-256, blocks of 4096 bytes).

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;

use contract::release::layout::BLOCK_BYTES;
use contract::release::verity::{BLOCK, BlockHasher, HASH, HashTree, parse_superblock, superblock};
use contract::{Digest, RootHash};
use uuid::Uuid;

pub use contract::release::verity::tree_bytes;

/// Bytes that are hashed at a time, by all threads together.
const PIECE: usize = 8 << 20;

/// What the tree depends on besides the data.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Salt that every block is hashed with.
    pub salt: Digest,
    /// UUID of the superblock.
    pub uuid: Uuid,
}

/// Why there is no tree, or why it does not fit.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// Data that is empty or not in whole blocks.
    #[error("the root file system has {0} bytes, not a multiple of 4096")]
    Size(u64),
    /// No superblock of the expected kind.
    #[error(
        "the hash tree has no dm-verity superblock for SHA-256 and blocks of 4096 bytes: the image is damaged, build it again"
    )]
    Superblock,
    /// A data block that the tree does not vouch for.
    #[error(
        "block {block} of the root file system is not the one that was signed: do not use this image"
    )]
    Data {
        /// Number of the block, from 0.
        block: u64,
    },
    /// A hash block that is not as computed from the data.
    #[error("block {block} of the hash tree is not the one that was signed: do not use this image")]
    Tree {
        /// Number of the block after the superblock, from 0.
        block: u64,
    },
    /// The root hash is another.
    #[error("the root hash is {found} instead of {expected}: do not use this image")]
    RootHash {
        /// As signed.
        expected: RootHash,
        /// As computed from the data.
        found: RootHash,
    },
    /// Reading or writing failed.
    #[error(
        "cannot read the root file system or write its hash tree: check that the disk is not full"
    )]
    Io(#[from] io::Error),
}

/// Writes superblock and tree for `data_bytes` of `data`, and gives the root hash.
///
/// # Errors
/// [`VerityError`]; what was written by then is of no use.
pub fn format(
    data: &mut impl Read,
    data_bytes: u64,
    options: &Options,
    out: &mut impl Write,
) -> Result<RootHash, VerityError> {
    let made = compute(data, data_bytes, &options.salt)?;
    out.write_all(&superblock(data_bytes, &options.salt, &options.uuid))?;
    made.on_disk().try_for_each(|level| out.write_all(level))?;
    Ok(made.root)
}

/// Recomputes the tree of `data` and compares it with `tree` and `expected`.
///
/// # Errors
/// [`VerityError::Data`], [`VerityError::Tree`] or [`VerityError::RootHash`] for whatever
/// differs first.
pub fn verify(
    data: &mut impl Read,
    data_bytes: u64,
    tree: &mut (impl Read + Seek),
    expected: &RootHash,
) -> Result<(), VerityError> {
    let start = tree.stream_position()?;
    let mut block = [0; BLOCK];
    tree.read_exact(&mut block)?;
    let (salt, _) = parse_superblock(&block, data_bytes).ok_or(VerityError::Superblock)?;
    let HashTree { levels, root: found } = compute(data, data_bytes, &salt)?;
    tree.seek(SeekFrom::Start(start + BLOCK_BYTES))?;
    let mut number = 0;
    for (level, blocks) in levels.iter().enumerate().rev() {
        for computed in blocks.chunks_exact(BLOCK) {
            tree.read_exact(&mut block)?;
            if block != *computed {
                return Err(first_difference(level, computed, &block, number, found == *expected));
            }
            number += 1;
        }
    }
    if found != *expected {
        return Err(VerityError::RootHash { expected: *expected, found });
    }
    Ok(())
}

/// Blames the data when a leaf differs and the computed root hash is not the signed one,
/// else the tree.
fn first_difference(
    level: usize,
    computed: &[u8],
    stored: &[u8],
    number: u64,
    data_is_right: bool,
) -> VerityError {
    if level > 0 || data_is_right {
        return VerityError::Tree { block: number };
    }
    let hashes = computed.chunks_exact(HASH).zip(stored.chunks_exact(HASH));
    let index = hashes.take_while(|(left, right)| left == right).count() as u64;
    VerityError::Data { block: index }
}

/// The tree over all data blocks, computed on all cores.
fn compute(data: &mut impl Read, data_bytes: u64, salt: &Digest) -> Result<HashTree, VerityError> {
    if data_bytes == 0 || !data_bytes.is_multiple_of(BLOCK_BYTES) {
        return Err(VerityError::Size(data_bytes));
    }
    let hasher = BlockHasher::new(salt);
    let mut leaves = Vec::with_capacity((data_bytes / BLOCK_BYTES) as usize * HASH);
    let mut left = data_bytes;
    let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
    while left > 0 {
        let count = piece.len().min(usize::try_from(left).unwrap_or(PIECE));
        data.read_exact(&mut piece[..count])?;
        hash_blocks(&piece[..count], &hasher, &mut leaves);
        left -= count as u64;
    }
    HashTree::over(leaves, &hasher).ok_or(VerityError::Size(data_bytes))
}

/// Appends the hash of every block, computed on all cores, in order.
fn hash_blocks(bytes: &[u8], hasher: &BlockHasher, out: &mut Vec<u8>) {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = (bytes.len() / BLOCK).div_ceil(threads).max(64) * BLOCK;
    std::thread::scope(|scope| {
        let hash_share = |part| {
            let mut hashes = Vec::new();
            hasher.hash_all(part, &mut hashes);
            hashes
        };
        let workers: Vec<_> =
            bytes.chunks(share).map(|part| scope.spawn(move || hash_share(part))).collect();
        for worker in workers {
            match worker.join() {
                Ok(hashes) => out.extend(hashes),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn options() -> Options {
        Options { salt: [7; 32].into(), uuid: Uuid::from_bytes([9; 16]) }
    }

    fn formatted(blocks: usize) -> (Vec<u8>, Vec<u8>, RootHash) {
        let data: Vec<u8> = (0..blocks * BLOCK).map(|at| (at / 7) as u8).collect();
        let mut tree = Vec::new();
        let root = format(&mut data.as_slice(), data.len() as u64, &options(), &mut tree).unwrap();
        (data, tree, root)
    }

    fn verified(data: &[u8], tree: &[u8], root: &RootHash) -> Result<(), VerityError> {
        verify(&mut &*data, data.len() as u64, &mut Cursor::new(tree), root)
    }

    #[test]
    fn what_was_formatted_verifies() {
        for blocks in [1, 2, 128, 129, 300] {
            let (data, tree, root) = formatted(blocks);
            verified(&data, &tree, &root).unwrap();
            assert_eq!(tree.len() as u64, tree_bytes(data.len() as u64), "{blocks}");
        }
    }

    #[test]
    fn a_flipped_byte_in_the_data_is_placed() {
        let (mut data, tree, root) = formatted(300);
        data[5 * BLOCK + 17] ^= 1;
        assert!(matches!(
            verified(&data, &tree, &root),
            Err(VerityError::Data { .. } | VerityError::Tree { .. })
        ));
    }

    #[test]
    fn a_flipped_byte_anywhere_in_the_tree_is_found() {
        let (data, tree, root) = formatted(300);
        for at in [0, 20, 100, BLOCK, 2 * BLOCK + 5, tree.len() - 1] {
            let mut bad = tree.clone();
            bad[at] ^= 1;
            // The UUID is not hashed: nothing depends on it.
            let harmless = (16..32).contains(&at);
            assert_eq!(verified(&data, &bad, &root).is_ok(), harmless, "{at}");
        }
    }

    #[test]
    fn another_root_hash_is_refused() {
        let (data, tree, _) = formatted(3);
        let other = RootHash::from([1; 32]);
        assert!(matches!(verified(&data, &tree, &other), Err(VerityError::RootHash { .. })));
    }

    #[test]
    fn a_partial_block_is_refused() {
        let mut out = Vec::new();
        let result = format(&mut &[0_u8; 100][..], 100, &options(), &mut out);
        assert!(matches!(result, Err(VerityError::Size(100))));
    }
}
