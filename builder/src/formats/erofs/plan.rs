//! Where everything goes: inodes, inline tails, directory blocks, data blocks.
//!
//! In: a tree. Out: [`Plan`], with all positions fixed before a byte is written.

use std::collections::BTreeMap;

use super::WriteError;
use super::format::{
    BLOCK, DIRECTORY_ENTRY_BYTES, EXTENDED_INODE_BYTES, INODE_UNIT, MODE_DIRECTORY, MODE_KIND,
    NO_BLOCK, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, XATTR_HEADER_BYTES, entry_type, mode_kind,
};
use crate::formats::tree::{Entry, Node, Tree, TreePath};

/// One inode with its place.
#[derive(Debug)]
pub struct Inode<'a> {
    pub path: &'a TreePath,
    pub entry: &'a Entry,
    /// File type and permission bits.
    pub mode: u32,
    pub links: u32,
    /// Extended attributes as they stand behind the inode.
    pub attributes: Vec<u8>,
    /// Names and inode indexes, sorted; for folders.
    pub children: Vec<(&'a str, usize)>,
    pub parent: usize,
    /// Bytes of data.
    pub size: u64,
    /// Bytes of the data's end that stand behind the inode.
    pub inline: u64,
    /// Byte offset of the inode.
    pub position: u64,
    /// First data block, or [`NO_BLOCK`].
    pub block: u32,
}

impl Inode<'_> {
    /// The inode number: its position in units of 32 bytes.
    pub fn number(&self) -> u64 {
        self.position / INODE_UNIT
    }

    /// Bytes of the data that stand in whole blocks.
    pub fn block_bytes(&self) -> u64 {
        self.size - self.inline
    }
}

/// A whole image, planned.
#[derive(Debug)]
pub struct Plan<'a> {
    /// In path order; the root is first.
    pub inodes: Vec<Inode<'a>>,
    /// Bytes of superblock, inodes and tails, in whole blocks.
    pub metadata_bytes: u64,
    /// Blocks of the image.
    pub blocks: u32,
}

/// Plans the image of a tree.
///
/// # Errors
/// [`WriteError`] for a tree that is not one, or does not fit.
pub fn plan(tree: &Tree) -> Result<Plan<'_>, WriteError> {
    let mut inodes = collect(tree)?;
    let mut position = SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES as u64;
    for inode in &mut inodes {
        position = position.next_multiple_of(INODE_UNIT);
        let body = EXTENDED_INODE_BYTES + inode.attributes.len() as u64;
        let tail = inode.size % BLOCK;
        inode.inline = if body + tail <= BLOCK { tail } else { 0 };
        let end = position + body + inode.inline;
        // A tail is read with the block that holds its inode: both in one block.
        if inode.inline > 0 && position / BLOCK != (end - 1) / BLOCK {
            position = position.next_multiple_of(BLOCK);
        }
        inode.position = position;
        position += body + inode.inline;
    }
    let metadata_bytes = position.next_multiple_of(BLOCK);
    let mut block = u32::try_from(metadata_bytes / BLOCK).map_err(|_| WriteError::TooLarge)?;
    for inode in &mut inodes {
        let count = inode.block_bytes().div_ceil(BLOCK);
        if count > 0 {
            inode.block = block;
            let count = u32::try_from(count).map_err(|_| WriteError::TooLarge)?;
            block = block.checked_add(count).ok_or(WriteError::TooLarge)?;
        }
    }
    Ok(Plan { inodes, metadata_bytes, blocks: block })
}

/// All inodes with their children, unplaced; sizes are known here, since a directory's
/// size depends on its names alone.
fn collect(tree: &Tree) -> Result<Vec<Inode<'_>>, WriteError> {
    let mut inodes: Vec<Inode<'_>> = Vec::with_capacity(tree.len());
    let mut index_of: BTreeMap<&TreePath, usize> = BTreeMap::new();
    for (path, entry) in tree.iter().filter(|(_, entry)| !matches!(entry.node, Node::HardLink(_))) {
        index_of.insert(path, inodes.len());
        inodes.push(Inode {
            path,
            entry,
            mode: mode_kind(&entry.node) | u32::from(entry.mode),
            links: 1,
            attributes: attributes(path, entry)?,
            children: Vec::new(),
            parent: 0,
            size: match &entry.node {
                Node::File(content) => content.size(),
                Node::Symlink(target) => target.len() as u64,
                _ => 0,
            },
            inline: 0,
            position: 0,
            block: NO_BLOCK,
        });
    }
    for (path, entry) in tree.iter() {
        let index = match &entry.node {
            Node::HardLink(target) => {
                let index = index_of.get(target).copied();
                let file = |index: &usize| matches!(inodes[*index].entry.node, Node::File(_));
                let index = index.filter(file).ok_or_else(|| WriteError::HardLink {
                    path: path.clone(),
                    target: target.clone(),
                })?;
                inodes[index].links += 1;
                index
            }
            _ => index_of[path],
        };
        let Some(parent) = path.parent() else { continue };
        let parent = index_of.get(&parent).copied();
        let is_folder = |index: &usize| inodes[*index].mode & MODE_KIND == MODE_DIRECTORY;
        let parent = parent.filter(is_folder).ok_or_else(|| WriteError::NoParent(path.clone()))?;
        inodes[parent].children.push((path.name(), index));
        inodes[index].parent = parent;
    }
    if inodes.first().is_none_or(|inode| !inode.path.is_root()) {
        return Err(WriteError::NoParent(TreePath::root()));
    }
    finish_directories(&mut inodes);
    Ok(inodes)
}

fn finish_directories(inodes: &mut [Inode<'_>]) {
    for index in 0..inodes.len() {
        if inodes[index].mode & MODE_KIND != MODE_DIRECTORY {
            continue;
        }
        let parent = inodes[index].parent;
        let mut children = std::mem::take(&mut inodes[index].children);
        let folders =
            children.iter().filter(|(_, child)| inodes[*child].mode & MODE_KIND == MODE_DIRECTORY);
        let links = 2 + folders.count() as u32;
        children.push((".", index));
        children.push(("..", parent));
        children.sort_unstable_by_key(|(name, _)| name.as_bytes());
        let inode = &mut inodes[index];
        inode.links = links;
        inode.size = directory_size(&children);
        inode.children = children;
    }
}

/// Number of leading entries that fit into one directory block.
fn entries_in_block(entries: &[(&str, usize)]) -> usize {
    let mut bytes = 0;
    entries
        .iter()
        .take_while(|(name, _)| {
            bytes += DIRECTORY_ENTRY_BYTES + name.len();
            bytes as u64 <= BLOCK
        })
        .count()
}

fn directory_size(mut entries: &[(&str, usize)]) -> u64 {
    let mut size = 0;
    while !entries.is_empty() {
        let (block, rest) = entries.split_at(entries_in_block(entries));
        entries = rest;
        let bytes: usize = block.iter().map(|(name, _)| DIRECTORY_ENTRY_BYTES + name.len()).sum();
        size += if entries.is_empty() { bytes as u64 } else { BLOCK };
    }
    size
}

/// A directory's data: per block the fixed entries, then the names.
pub fn directory_data(inodes: &[Inode<'_>], directory: &Inode<'_>) -> Vec<u8> {
    let mut data = Vec::with_capacity(directory.size as usize);
    let mut entries = directory.children.as_slice();
    while !entries.is_empty() {
        let start = data.len();
        let (block, rest) = entries.split_at(entries_in_block(entries));
        entries = rest;
        let mut name_offset = block.len() * DIRECTORY_ENTRY_BYTES;
        for (name, child) in block {
            data.extend(inodes[*child].number().to_le_bytes());
            data.extend((name_offset as u16).to_le_bytes());
            data.push(entry_type(inodes[*child].mode));
            data.push(0);
            name_offset += name.len();
        }
        for (name, _) in block {
            data.extend(name.as_bytes());
        }
        if !entries.is_empty() {
            data.resize(start + BLOCK as usize, 0);
        }
    }
    data
}

/// Extended attributes as erofs stores them behind an inode: name prefixes are numbers.
fn attributes(path: &TreePath, entry: &Entry) -> Result<Vec<u8>, WriteError> {
    const PREFIXES: [(&str, u8); 5] = [
        ("user.", 1),
        ("system.posix_acl_access", 2),
        ("system.posix_acl_default", 3),
        ("trusted.", 4),
        ("security.", 6),
    ];
    if entry.xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; XATTR_HEADER_BYTES];
    for (name, value) in &entry.xattrs {
        let impossible = || WriteError::Attribute { path: path.clone(), name: name.clone() };
        let known = PREFIXES
            .iter()
            .find_map(|(prefix, number)| Some((name.strip_prefix(prefix)?, *number)));
        let (rest, number) = known.ok_or_else(impossible)?;
        bytes.push(u8::try_from(rest.len()).map_err(|_| impossible())?);
        bytes.push(number);
        bytes.extend(u16::try_from(value.len()).map_err(|_| impossible())?.to_le_bytes());
        bytes.extend(rest.as_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        // All attributes of an inode have to fit beside it.
        if bytes.len() as u64 > BLOCK / 2 {
            return Err(impossible());
        }
    }
    Ok(bytes)
}
