//! What is in a slot: its hash tree, and every byte of its root.
//!
//! In: the two partitions of a slot, past dm-verity. Out: an item for the tree, and one for the
//! content. The tree's own superblock gives salt and size: lies there lead to another root hash.

use std::io;

use contract::node::api::{DriftItem, Outcome, Subject};
use contract::release::layout::{BLOCK_BYTES, MIB, ROOT_BYTES};
use contract::release::verity::{
    BLOCK, BlockHasher, HASH, HashTree, leaves_start, parse_superblock, tree_bytes,
};
use contract::{RootHash, Slot};
use uuid::Uuid;

use super::item;
use crate::effects::{Area, BootedSlot, Slots};

/// Bytes that are read at a time.
const CHUNK: usize = MIB as usize;

/// A slot that is read.
pub struct SlotReader<'a> {
    /// The partitions.
    pub slots: &'a dyn Slots,
    /// The slot that runs.
    pub booted: BootedSlot,
    /// The one that is read.
    pub slot: Slot,
}

impl SlotReader<'_> {
    fn read(&self, area: Area, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.slot == self.booted.slot() {
            self.slots.read_booted(area, offset, buffer)
        } else {
            self.slots.read_target(self.booted.target(), area, offset, buffer)
        }
    }

    fn name(&self) -> String {
        format!("slot {}", self.slot)
    }
}

/// A hash tree whose root hash was found to be the right one.
pub struct Tree {
    /// The UUID in its superblock, which the kernel's device has in its name.
    pub uuid: Uuid,
    hasher: BlockHasher,
    leaves: Vec<u8>,
    data_bytes: u64,
}

/// Why a tree is not what it should be.
enum Wrong {
    Unreadable(io::Error),
    Different(String),
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Wrong::Unreadable(error)
    }
}

/// Compares the hash tree, and returns it when it is right.
pub fn tree_item(source: &SlotReader<'_>, expected: &RootHash) -> (Option<Tree>, DriftItem) {
    let (tree, outcome, detail) = match read_tree(source, expected) {
        Ok(tree) => (Some(tree), Outcome::Same, format!("leads to root hash {expected}")),
        Err(Wrong::Different(detail)) => (None, Outcome::Differs, detail),
        Err(Wrong::Unreadable(error)) => {
            (None, Outcome::Unknown, format!("cannot be read: {error}"))
        }
    };
    (tree, item(Subject::HashTree, source.name(), outcome, detail))
}

fn read_tree(source: &SlotReader<'_>, expected: &RootHash) -> Result<Tree, Wrong> {
    let different = |detail: &str| Err(Wrong::Different(detail.to_owned()));
    let mut block = [0; BLOCK];
    source.read(Area::Verity, 0, &mut block)?;
    let blocks = block[72..80].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let data_bytes = blocks.saturating_mul(BLOCK_BYTES);
    if !(BLOCK_BYTES..=ROOT_BYTES).contains(&data_bytes) {
        return different("the superblock gives an impossible size");
    }
    let Some((salt, uuid)) = parse_superblock(&block, data_bytes) else {
        return different("the superblock is not one of dm-verity");
    };
    let hasher = BlockHasher::new(&salt);
    let leaves = read_leaves(source, &hasher, data_bytes)?;
    let Some(tree) = HashTree::over(leaves.clone(), &hasher) else {
        return different("the tree is empty");
    };
    if tree.root != *expected {
        let found = tree.root;
        return Err(Wrong::Different(format!("leads to root hash {found}, not to {expected}")));
    }
    // The kernel reads the upper levels too: a difference there ends the node as well.
    let mut offset = BLOCK_BYTES;
    for level in tree.on_disk() {
        for piece in level.chunks(CHUNK) {
            let mut found = vec![0; piece.len()];
            source.read(Area::Verity, offset, &mut found)?;
            if found != piece {
                return Err(Wrong::Different(format!("a level differs near byte {offset}")));
            }
            offset += piece.len() as u64;
        }
    }
    Ok(Tree { uuid, hasher, leaves, data_bytes })
}

/// The hash of each data block, as the tree holds it.
fn read_leaves(
    source: &SlotReader<'_>,
    hasher: &BlockHasher,
    data_bytes: u64,
) -> io::Result<Vec<u8>> {
    let blocks = data_bytes / BLOCK_BYTES;
    if tree_bytes(data_bytes) == BLOCK_BYTES {
        // A single block has no level above it: its own hash is the root hash.
        let mut block = [0; BLOCK];
        source.read(Area::Root, 0, &mut block)?;
        return Ok(hasher.hash(&block).to_vec());
    }
    let bytes = usize::try_from(blocks).map_err(io::Error::other)? * HASH;
    let mut leaves = vec![0; bytes];
    source.read(Area::Verity, leaves_start(data_bytes), &mut leaves)?;
    Ok(leaves)
}

/// Compares every block of the root with the tree.
pub fn content_item(source: &SlotReader<'_>, tree: &Tree, going: &dyn Fn() -> bool) -> DriftItem {
    let result = differing_blocks(source, tree, going);
    let (outcome, detail) = match result {
        Ok(None) => (Outcome::Unknown, "the comparison was stopped".to_owned()),
        Ok(Some((0, _))) => (Outcome::Same, format!("all {} bytes", tree.data_bytes)),
        Ok(Some((count, first))) => {
            (Outcome::Differs, format!("blocks that differ: {count}, the first at byte {first}"))
        }
        Err(error) => (Outcome::Unknown, format!("cannot be read: {error}")),
    };
    item(Subject::Slot, source.name(), outcome, detail)
}

/// How many blocks differ, and where the first starts; none when stopped.
fn differing_blocks(
    source: &SlotReader<'_>,
    tree: &Tree,
    going: &dyn Fn() -> bool,
) -> io::Result<Option<(u64, u64)>> {
    let (mut count, mut first) = (0, 0);
    let mut buffer = vec![0; CHUNK];
    let mut hashes = Vec::with_capacity(CHUNK / BLOCK * HASH);
    let chunk_leaves = tree.leaves.chunks(CHUNK / BLOCK * HASH);
    for (index, leaves) in chunk_leaves.enumerate() {
        if !going() {
            return Ok(None);
        }
        let start = (index * CHUNK) as u64;
        let content = &mut buffer[..leaves.len() / HASH * BLOCK];
        source.read(Area::Root, start, content)?;
        hashes.clear();
        tree.hasher.hash_all(content, &mut hashes);
        let pairs = hashes.chunks(HASH).zip(leaves.chunks(HASH)).enumerate();
        for (block, _) in pairs.filter(|(_, (found, expected))| found != expected) {
            if count == 0 {
                first = start + block as u64 * BLOCK_BYTES;
            }
            count += 1;
        }
    }
    Ok(Some((count, first)))
}
