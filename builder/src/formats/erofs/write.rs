//! Writing a planned image: data blocks are streamed, metadata follows at the end.

use std::io::{self, Read, Seek, SeekFrom, Write};

use contract::Digest;
use sha2::{Digest as _, Sha256};

use super::format::{
    BLOCK, BLOCK_BITS, FEATURES_COMPATIBLE, LAYOUT_INLINE, LAYOUT_PLAIN, MAGIC, SUPERBLOCK_BYTES,
    SUPERBLOCK_OFFSET, XATTR_HEADER_BYTES, checksum, device_number,
};
use super::plan::{Inode, Plan, directory_data, plan};
use super::{Options, WriteError};
use crate::formats::tree::{Node, Tree};

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// Writes the image of `tree` at the start of `out` and gives its length in bytes, a
/// multiple of 4096. Memory holds inodes and tails, never a whole file.
///
/// # Errors
/// [`WriteError`]; what was written by then is of no use.
pub fn write(
    tree: &Tree,
    options: &Options,
    out: &mut (impl Write + Seek),
) -> Result<u64, WriteError> {
    let plan = plan(tree)?;
    let mut metadata = vec![0; plan.metadata_bytes as usize];
    out.seek(SeekFrom::Start(plan.metadata_bytes)).map_err(WriteError::Write)?;
    for inode in &plan.inodes {
        let tail = write_data(&plan, inode, out)?;
        place_inode(inode, options, &tail, &mut metadata);
    }
    place_superblock(&plan, options, &mut metadata);
    out.seek(SeekFrom::Start(0)).map_err(WriteError::Write)?;
    out.write_all(&metadata).map_err(WriteError::Write)?;
    Ok(u64::from(plan.blocks) * BLOCK)
}

/// Writes an inode's whole blocks, which stand in inode order, and gives back its tail.
fn write_data(
    plan: &Plan<'_>,
    inode: &Inode<'_>,
    out: &mut impl Write,
) -> Result<Vec<u8>, WriteError> {
    match &inode.entry.node {
        Node::File(content) => {
            let unreadable = |source| WriteError::Content { path: inode.path.clone(), source };
            let mut reader = content.reader().map_err(unreadable)?;
            let (tail, found) =
                copy_blocks(&mut reader, inode, out).map_err(|error| match error {
                    CopyError::Read(source) => unreadable(source),
                    CopyError::Write(source) => WriteError::Write(source),
                })?;
            // A cache that rots is noticed here, before anything is signed.
            if found != content.digest() {
                return Err(WriteError::Changed(inode.path.clone()));
            }
            Ok(tail)
        }
        Node::Directory => split(&directory_data(&plan.inodes, inode), inode, out),
        Node::Symlink(target) => split(target.as_bytes(), inode, out),
        _ => Ok(Vec::new()),
    }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

fn copy_blocks(
    reader: &mut impl Read,
    inode: &Inode<'_>,
    out: &mut impl Write,
) -> Result<(Vec<u8>, Digest), CopyError> {
    let mut hasher = Sha256::new();
    let mut left = inode.block_bytes();
    let mut buffer = vec![0; COPY_BYTES.min(left as usize)];
    while left > 0 {
        let count = buffer.len().min(left as usize);
        reader.read_exact(&mut buffer[..count]).map_err(CopyError::Read)?;
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(CopyError::Write)?;
        left -= count as u64;
    }
    pad(inode, out).map_err(CopyError::Write)?;
    let mut tail = vec![0; inode.inline as usize];
    reader.read_exact(&mut tail).map_err(CopyError::Read)?;
    hasher.update(&tail);
    Ok((tail, <[u8; 32]>::from(hasher.finalize()).into()))
}

fn split(data: &[u8], inode: &Inode<'_>, out: &mut impl Write) -> Result<Vec<u8>, WriteError> {
    let (blocks, tail) = data.split_at(inode.block_bytes() as usize);
    out.write_all(blocks).and_then(|()| pad(inode, out)).map_err(WriteError::Write)?;
    Ok(tail.to_vec())
}

/// Fills the last block when its data is too long to stand behind the inode.
fn pad(inode: &Inode<'_>, out: &mut impl Write) -> io::Result<()> {
    let used = inode.block_bytes() % BLOCK;
    if used > 0 {
        out.write_all(&vec![0; (BLOCK - used) as usize])?;
    }
    Ok(())
}

fn place_inode(inode: &Inode<'_>, options: &Options, tail: &[u8], metadata: &mut [u8]) {
    let layout = if inode.inline > 0 { LAYOUT_INLINE } else { LAYOUT_PLAIN };
    let attribute_units = match inode.attributes.len() {
        0 => 0,
        bytes => ((bytes - XATTR_HEADER_BYTES) / 4 + 1) as u16,
    };
    let place = match inode.entry.node {
        Node::CharacterDevice { major, minor } | Node::BlockDevice { major, minor } => {
            device_number(major, minor)
        }
        _ => inode.block,
    };
    let mut bytes = Vec::with_capacity(64 + inode.attributes.len() + tail.len());
    // Bit 0: extended inode; from bit 1: data layout.
    bytes.extend((1 | (layout << 1)).to_le_bytes());
    bytes.extend(attribute_units.to_le_bytes());
    bytes.extend((inode.mode as u16).to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(inode.size.to_le_bytes());
    bytes.extend(place.to_le_bytes());
    bytes.extend((inode.number() as u32).to_le_bytes());
    bytes.extend(inode.entry.uid.to_le_bytes());
    bytes.extend(inode.entry.gid.to_le_bytes());
    bytes.extend(options.time.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(inode.links.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(&inode.attributes);
    bytes.extend(tail);
    let start = inode.position as usize;
    metadata[start..start + bytes.len()].copy_from_slice(&bytes);
}

fn place_superblock(plan: &Plan<'_>, options: &Options, metadata: &mut [u8]) {
    let root = plan.inodes.first().map_or(0, Inode::number);
    let mut bytes = [0; SUPERBLOCK_BYTES];
    bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..12].copy_from_slice(&FEATURES_COMPATIBLE.to_le_bytes());
    bytes[12] = BLOCK_BITS;
    bytes[14..16].copy_from_slice(&(root as u16).to_le_bytes());
    bytes[16..24].copy_from_slice(&(plan.inodes.len() as u64).to_le_bytes());
    bytes[24..32].copy_from_slice(&options.time.to_le_bytes());
    bytes[36..40].copy_from_slice(&plan.blocks.to_le_bytes());
    bytes[48..64].copy_from_slice(&options.uuid);
    let start = SUPERBLOCK_OFFSET as usize;
    metadata[start..start + SUPERBLOCK_BYTES].copy_from_slice(&bytes);
    // The checksum covers the rest of the first block, inodes included.
    let sum = checksum(&metadata[start..BLOCK as usize]);
    metadata[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}
