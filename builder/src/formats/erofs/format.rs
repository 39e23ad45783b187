//! Numbers of the on-disk format (kernel: `fs/erofs/erofs_fs.h`).

use crate::formats::tree::Node;

pub const BLOCK: u64 = 4096;
pub const BLOCK_BITS: u8 = 12;
pub const SUPERBLOCK_OFFSET: u64 = 1024;
pub const SUPERBLOCK_BYTES: usize = 128;
pub const MAGIC: u32 = 0xE0F5_E1E2;
/// Superblock checksum and per-image modification time.
pub const FEATURES_COMPATIBLE: u32 = 1 | 2;
/// Inode numbers count units of 32 bytes.
pub const INODE_UNIT: u64 = 32;
pub const EXTENDED_INODE_BYTES: u64 = 64;
pub const COMPACT_INODE_BYTES: u64 = 32;
/// Data in whole blocks only.
pub const LAYOUT_PLAIN: u16 = 0;
/// The last, partial block stands behind the inode.
pub const LAYOUT_INLINE: u16 = 2;
pub const NO_BLOCK: u32 = u32::MAX;
pub const DIRECTORY_ENTRY_BYTES: usize = 12;
pub const XATTR_HEADER_BYTES: usize = 12;

pub const MODE_KIND: u32 = 0o170_000;
pub const MODE_FIFO: u32 = 0o010_000;
pub const MODE_CHARACTER: u32 = 0o020_000;
pub const MODE_DIRECTORY: u32 = 0o040_000;
pub const MODE_BLOCK: u32 = 0o060_000;
pub const MODE_FILE: u32 = 0o100_000;
pub const MODE_LINK: u32 = 0o120_000;

/// File type bits of `st_mode`.
pub fn mode_kind(node: &Node) -> u32 {
    match node {
        Node::Directory => MODE_DIRECTORY,
        Node::File(_) | Node::HardLink(_) => MODE_FILE,
        Node::Symlink(_) => MODE_LINK,
        Node::CharacterDevice { .. } => MODE_CHARACTER,
        Node::BlockDevice { .. } => MODE_BLOCK,
        Node::Fifo => MODE_FIFO,
    }
}

/// `d_type` as directories store it (`FT_*` of `include/linux/fs_types.h`).
pub fn entry_type(mode: u32) -> u8 {
    match mode & MODE_KIND {
        MODE_FILE => 1,
        MODE_DIRECTORY => 2,
        MODE_CHARACTER => 3,
        MODE_BLOCK => 4,
        MODE_FIFO => 5,
        _ => 7,
    }
}

/// A device number in the kernel's `new_encode_dev` form.
pub fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// CRC-32C as erofs wants it: without the final inversion.
pub fn checksum(bytes: &[u8]) -> u32 {
    const ALGORITHM: crc::Algorithm<u32> = crc::Algorithm { xorout: 0, ..crc::CRC_32_ISCSI };
    crc::Crc::<u32>::new(&ALGORITHM).checksum(bytes)
}
