//! Reading an image back: for `inspect` and `verify`, and for tests.
//!
//! In: any bytes. Out: all entries with their digests. **Invariant:** every offset is
//! checked before use, depth and count are bounded, and nothing panics.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom};

use contract::Digest;
use sha2::Digest as _;

use super::format::{
    BLOCK, BLOCK_BITS, COMPACT_INODE_BYTES, DIRECTORY_ENTRY_BYTES, EXTENDED_INODE_BYTES,
    INODE_UNIT, LAYOUT_INLINE, LAYOUT_PLAIN, MAGIC, MODE_DIRECTORY, MODE_FILE, MODE_KIND,
    MODE_LINK, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, XATTR_HEADER_BYTES, checksum,
};
use crate::formats::tree::TreePath;

const MAX_ENTRIES: usize = 1_000_000;
const MAX_DIRECTORY_BYTES: u64 = 64 << 20;
const MAX_LINK_BYTES: u64 = 4096;

/// One entry of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEntry {
    /// Where it is.
    pub path: TreePath,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it is.
    pub kind: ReadKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadKind {
    /// A folder.
    Directory,
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// SHA-256 of the content.
        digest: Digest,
    },
    /// A symbolic link.
    Symlink(String),
    /// A device or pipe.
    Special,
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes cannot be had.
    #[error("cannot read the root file system")]
    Io(#[from] io::Error),
    /// Not erofs, or not as this program writes it.
    #[error("not a root file system of Slipway: {0}")]
    Format(&'static str),
}

/// Reads every entry of the image that starts at `offset` of `file`, in path order.
///
/// # Errors
/// [`ReadError`] for anything that is not an uncompressed erofs image.
pub fn read(file: &mut (impl Read + Seek), offset: u64) -> Result<Vec<ReadEntry>, ReadError> {
    let mut image = Image { file, offset, bytes: 0 };
    let root = image.superblock()?;
    let mut entries = Vec::new();
    let mut folders = BTreeSet::new();
    let mut open = vec![(TreePath::root(), root)];
    while let Some((path, number)) = open.pop() {
        if entries.len() >= MAX_ENTRIES {
            return Err(ReadError::Format("more than a million entries"));
        }
        let inode = image.inode(number)?;
        let kind = match inode.mode & MODE_KIND {
            MODE_DIRECTORY => {
                if !folders.insert(number) {
                    return Err(ReadError::Format("a folder is inside itself"));
                }
                for (name, child) in image.directory(&inode)? {
                    let path = path.join(&name);
                    let path = path.map_err(|_| ReadError::Format("an impossible file name"))?;
                    open.push((path, child));
                }
                ReadKind::Directory
            }
            MODE_FILE => image.file(&inode)?,
            MODE_LINK => {
                let bytes = image.small(&inode, MAX_LINK_BYTES)?;
                let target = String::from_utf8(bytes);
                ReadKind::Symlink(target.map_err(|_| ReadError::Format("a link is not UTF-8"))?)
            }
            _ => ReadKind::Special,
        };
        let mode = (inode.mode & 0o7777) as u16;
        entries.push(ReadEntry { path, mode, uid: inode.uid, gid: inode.gid, kind });
    }
    entries.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(entries)
}

struct Image<'a, F> {
    file: &'a mut F,
    offset: u64,
    bytes: u64,
}

struct Inode {
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    /// Byte offset of the data in whole blocks.
    blocks_at: u64,
    /// Byte offset and length of the tail.
    tail: Option<(u64, u64)>,
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl<F: Read + Seek> Image<'_, F> {
    /// Reads `length` bytes at `at`, which must lie inside the image.
    fn at(&mut self, at: u64, length: u64) -> Result<Vec<u8>, ReadError> {
        let end = at.checked_add(length);
        if self.bytes > 0 && end.is_none_or(|end| end > self.bytes) {
            return Err(ReadError::Format("something lies outside the image"));
        }
        self.file.seek(SeekFrom::Start(self.offset.saturating_add(at)))?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Checks the superblock and gives the root's inode number.
    fn superblock(&mut self) -> Result<u64, ReadError> {
        let mut block = self.at(SUPERBLOCK_OFFSET, BLOCK - SUPERBLOCK_OFFSET)?;
        let (magic, sum) = (le32(&block, 0), le32(&block, 4));
        block[4..8].fill(0);
        if magic != MAGIC || block[12] != BLOCK_BITS || block.len() < SUPERBLOCK_BYTES {
            return Err(ReadError::Format("no erofs superblock with blocks of 4096 bytes"));
        }
        if checksum(&block) != sum {
            return Err(ReadError::Format("the superblock's checksum is wrong"));
        }
        if le32(&block, 80) != 0 {
            return Err(ReadError::Format("it uses compression or other features"));
        }
        self.bytes = u64::from(le32(&block, 36)) * BLOCK;
        Ok(u64::from(le16(&block, 14)))
    }

    fn inode(&mut self, number: u64) -> Result<Inode, ReadError> {
        let position =
            number.checked_mul(INODE_UNIT).ok_or(ReadError::Format("an impossible inode"))?;
        let head = self.at(position, COMPACT_INODE_BYTES)?;
        let extended = le16(&head, 0) & 1 == 1;
        let (bytes, length) = if extended {
            (self.at(position, EXTENDED_INODE_BYTES)?, EXTENDED_INODE_BYTES)
        } else {
            (head, COMPACT_INODE_BYTES)
        };
        let attribute_bytes = match u64::from(le16(&bytes, 2)) {
            0 => 0,
            units => XATTR_HEADER_BYTES as u64 + (units - 1) * 4,
        };
        let size = if extended { le64(&bytes, 8) } else { u64::from(le32(&bytes, 8)) };
        if size > self.bytes {
            return Err(ReadError::Format("a file is larger than the image"));
        }
        let tail = match (le16(&bytes, 0) >> 1) & 7 {
            LAYOUT_PLAIN => None,
            LAYOUT_INLINE => Some((position + length + attribute_bytes, size % BLOCK)),
            _ => return Err(ReadError::Format("a file is compressed")),
        };
        let (uid, gid) = if extended {
            (le32(&bytes, 24), le32(&bytes, 28))
        } else {
            (u32::from(le16(&bytes, 24)), u32::from(le16(&bytes, 26)))
        };
        let blocks_at = u64::from(le32(&bytes, 16)) * BLOCK;
        Ok(Inode { mode: u32::from(le16(&bytes, 4)), uid, gid, size, blocks_at, tail })
    }

    fn small(&mut self, inode: &Inode, limit: u64) -> Result<Vec<u8>, ReadError> {
        if inode.size > limit {
            return Err(ReadError::Format("a folder or link is too long"));
        }
        let (tail_at, tail) = inode.tail.unwrap_or_default();
        let mut bytes = Vec::new();
        if inode.size > tail {
            bytes = self.at(inode.blocks_at, inode.size - tail)?;
        }
        bytes.append(&mut self.at(tail_at, tail)?);
        Ok(bytes)
    }

    fn file(&mut self, inode: &Inode) -> Result<ReadKind, ReadError> {
        const PIECE: u64 = 1 << 20;
        let (tail_at, tail) = inode.tail.unwrap_or_default();
        let mut hasher = sha2::Sha256::new();
        let mut done = 0;
        while done < inode.size - tail {
            let count = PIECE.min(inode.size - tail - done);
            hasher.update(self.at(inode.blocks_at.saturating_add(done), count)?);
            done += count;
        }
        hasher.update(self.at(tail_at, tail)?);
        let digest = <[u8; 32]>::from(hasher.finalize()).into();
        Ok(ReadKind::File { size: inode.size, digest })
    }

    fn directory(&mut self, inode: &Inode) -> Result<Vec<(String, u64)>, ReadError> {
        let data = self.small(inode, MAX_DIRECTORY_BYTES)?;
        let mut entries = Vec::new();
        for block in data.chunks(BLOCK as usize) {
            let wrong = || ReadError::Format("a folder is damaged");
            let count = usize::from(le16(block, 8)) / DIRECTORY_ENTRY_BYTES;
            if count == 0 || count * DIRECTORY_ENTRY_BYTES > block.len() {
                return Err(wrong());
            }
            for index in 0..count {
                let at = index * DIRECTORY_ENTRY_BYTES;
                let start = usize::from(le16(block, at + 8));
                let end = if index + 1 == count {
                    block.len()
                } else {
                    usize::from(le16(block, at + DIRECTORY_ENTRY_BYTES + 8))
                };
                let name = block.get(start..end).ok_or_else(wrong)?;
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                let name = std::str::from_utf8(name).map_err(|_| wrong())?;
                if name.is_empty() || name.contains('/') {
                    return Err(wrong());
                }
                if name != "." && name != ".." {
                    entries.push((name.to_owned(), le64(block, at)));
                }
            }
        }
        Ok(entries)
    }
}
