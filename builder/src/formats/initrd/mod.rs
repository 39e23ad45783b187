//! The initrd as the kernel reads it: a newc cpio archive, compressed with zstd.
//!
//! In: a [`Tree`]. Out: bytes that depend on the tree alone
//! (kernel: `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::io::{self, Write};

use crate::formats::tree::{Content, Node, Tree, TreePath};

/// Smallest initrd within a few seconds; one thread, because the number of threads
/// would change the bytes.
const LEVEL: i32 = 19;

/// Why no initrd was written.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// A file over what newc can hold.
    #[error("{0} is larger than 4 GiB, which an initrd cannot hold")]
    TooLarge(TreePath),
    /// A hard link to nothing.
    #[error("the hard link {path} names {target}, which is not a file of the initrd")]
    HardLink {
        /// The link.
        path: TreePath,
        /// What it names.
        target: TreePath,
    },
    /// A file of the tree cannot be read, or the archive cannot be written.
    #[error("cannot write the initrd: check that the disk is not full, or clear the cache")]
    Io(#[from] io::Error),
}

/// Writes the compressed archive.
///
/// # Errors
/// [`InitrdError`].
pub fn write(tree: &Tree, out: &mut impl Write) -> Result<(), InitrdError> {
    let mut encoder = zstd::Encoder::new(out, LEVEL)?;
    // The kernel's decoder has a window limit of 128 MiB; checksums are not needed.
    encoder.window_log(24)?;
    write_archive(tree, &mut encoder)?;
    encoder.finish()?;
    Ok(())
}

/// Writes the archive as it is.
///
/// # Errors
/// [`InitrdError`].
pub fn write_archive(tree: &Tree, out: &mut impl Write) -> Result<(), InitrdError> {
    for (index, (path, entry)) in (1..).zip(tree.iter().filter(|(path, _)| !path.is_root())) {
        let content = match &entry.node {
            // Every name of a file carries the content: the kernel needs no link table.
            Node::HardLink(target) => Some(linked(tree, path, target)?),
            Node::File(content) => Some(content),
            _ => None,
        };
        let (kind, device, target) = match &entry.node {
            Node::Directory => (0o040_000, (0, 0), None),
            Node::File(_) | Node::HardLink(_) => (0o100_000, (0, 0), None),
            Node::Symlink(target) => (0o120_000, (0, 0), Some(target)),
            Node::CharacterDevice { major, minor } => (0o020_000, (*major, *minor), None),
            Node::BlockDevice { major, minor } => (0o060_000, (*major, *minor), None),
            Node::Fifo => (0o010_000, (0, 0), None),
        };
        let bytes = match (content, target) {
            (Some(content), _) => content.size(),
            (_, Some(target)) => target.len() as u64,
            _ => 0,
        };
        let header = Header {
            number: index,
            mode: kind | u32::from(entry.mode),
            owner: (entry.uid, entry.gid),
            links: if matches!(entry.node, Node::Directory) { 2 } else { 1 },
            bytes: u32::try_from(bytes).map_err(|_| InitrdError::TooLarge(path.clone()))?,
            device,
        };
        write_header(&header, path.as_str(), out)?;
        if let Some(content) = content {
            io::copy(&mut content.reader()?, out)?;
        } else if let Some(target) = target {
            out.write_all(target.as_bytes())?;
        }
        pad(bytes, out)?;
    }
    let trailer = Header { number: 0, mode: 0, owner: (0, 0), links: 1, bytes: 0, device: (0, 0) };
    write_header(&trailer, "TRAILER!!!", out)?;
    Ok(())
}

fn linked<'a>(
    tree: &'a Tree,
    path: &TreePath,
    target: &TreePath,
) -> Result<&'a Content, InitrdError> {
    match tree.entry(target).map(|entry| &entry.node) {
        Some(Node::File(content)) => Ok(content),
        _ => Err(InitrdError::HardLink { path: path.clone(), target: target.clone() }),
    }
}

struct Header {
    number: u32,
    mode: u32,
    owner: (u32, u32),
    links: u32,
    bytes: u32,
    device: (u32, u32),
}

fn write_header(header: &Header, name: &str, out: &mut impl Write) -> io::Result<()> {
    let name_bytes = name.len() as u32 + 1;
    let fields = [
        header.number,
        header.mode,
        header.owner.0,
        header.owner.1,
        header.links,
        0, // modification time
        header.bytes,
        0, // device that holds the file, major and minor
        0,
        header.device.0,
        header.device.1,
        name_bytes,
        0, // checksum, unused in newc
    ];
    out.write_all(b"070701")?;
    for field in fields {
        write!(out, "{field:08x}")?;
    }
    out.write_all(name.as_bytes())?;
    out.write_all(&[0])?;
    pad(110 + u64::from(name_bytes), out)
}

/// Fills up to a multiple of four bytes.
fn pad(bytes: u64, out: &mut impl Write) -> io::Result<()> {
    let missing = bytes.next_multiple_of(4) - bytes;
    out.write_all(&[0; 3][..missing as usize])
}
