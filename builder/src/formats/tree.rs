//! The tree: what a file system will hold, as a value. Parts give trees, composition
//! merges them, the packers write them.
//!
//! **Invariant:** every path is relative to the root, normalised, and without `.` or `..`,
//! because [`TreePath`] has no other constructor. The map's order is the order on disk.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use contract::Digest;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A path below the root, such as `usr/bin/kubelet`; the empty path is the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(String);

/// A text that cannot be a path in a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` cannot be a path in the image: {reason}")]
pub struct InvalidPath {
    /// What was given, shortened.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl TreePath {
    /// Longest path in bytes (`PATH_MAX` of Linux).
    pub const MAX_LENGTH: usize = 4096;
    /// Longest name in bytes (`NAME_MAX` of Linux).
    pub const MAX_NAME_LENGTH: usize = 255;

    /// The root folder.
    pub fn root() -> Self {
        Self(String::new())
    }

    /// Parses `/usr/bin/x`, `./usr/bin/x` or `usr/bin/x`; a trailing slash is dropped.
    ///
    /// # Errors
    /// [`InvalidPath`] for `..`, control characters and over-long names.
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        let invalid = |reason| InvalidPath { path: text.chars().take(200).collect(), reason };
        if text.len() > Self::MAX_LENGTH {
            return Err(invalid("it is longer than 4096 bytes"));
        }
        let mut names = Vec::new();
        for name in text.split('/') {
            match name {
                "" | "." => {}
                ".." => return Err(invalid("`..` would leave its folder")),
                _ if name.len() > Self::MAX_NAME_LENGTH => {
                    return Err(invalid("a name in it is longer than 255 bytes"));
                }
                _ if name.chars().any(char::is_control) => {
                    return Err(invalid("it holds a control character"));
                }
                _ => names.push(name),
            }
        }
        Ok(Self(names.join("/")))
    }

    /// The path as text, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the root folder.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last name of the path; empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The folder that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(Self(self.0.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned()))
    }

    /// All folders above this path, from the root downwards.
    pub fn ancestors(&self) -> Vec<Self> {
        let mut found: Vec<Self> = std::iter::successors(self.parent(), Self::parent).collect();
        found.reverse();
        found
    }

    /// This folder's entry `name`.
    ///
    /// # Errors
    /// [`InvalidPath`] as for [`TreePath::parse`].
    pub fn join(&self, name: &str) -> Result<Self, InvalidPath> {
        Self::parse(&format!("{}/{name}", self.0))
    }

    /// True when this path is `folder` or lies below it.
    pub fn is_within(&self, folder: &TreePath) -> bool {
        folder.is_root()
            || self.0 == folder.0
            || self.0.strip_prefix(&folder.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Where a symbolic link at this path leads, lexically; links above the root stay at
    /// the root, as the kernel resolves them.
    pub fn resolve_link(&self, target: &str) -> Self {
        let mut names: Vec<&str> = match (target.starts_with('/'), self.0.rsplit_once('/')) {
            (false, Some((folder, _))) => folder.split('/').collect(),
            _ => Vec::new(),
        };
        for name in target.split('/') {
            match name {
                "" | "." => {}
                ".." => {
                    names.pop();
                }
                _ => names.push(name),
            }
        }
        Self(names.join("/"))
    }
}

impl FromStr for TreePath {
    type Err = InvalidPath;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TreePath {
    type Error = InvalidPath;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> Self {
        path.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

/// The bytes of a regular file: in memory, or a range of a file in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    backing: Backing,
    size: u64,
    digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Backing {
    Bytes(Arc<[u8]>),
    Range { file: Arc<Path>, offset: u64 },
}

impl Content {
    /// Content that is in memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self {
            size: bytes.len() as u64,
            digest: Digest::of(&bytes),
            backing: Backing::Bytes(bytes),
        }
    }

    /// A whole file on disk, which is read once for its digest and must not change after.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let (digest, size) = digest_reader(&mut File::open(path)?)?;
        Ok(Self::from_range(path.into(), 0, size, digest))
    }

    /// `size` bytes at `offset` of a file whose digest is known already.
    pub fn from_range(file: Arc<Path>, offset: u64, size: u64, digest: Digest) -> Self {
        Self { backing: Backing::Range { file, offset }, size, digest }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// SHA-256 of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// A reader over exactly [`Content::size`] bytes.
    ///
    /// # Errors
    /// When the cached file cannot be opened.
    pub fn reader(&self) -> io::Result<Box<dyn Read + Send>> {
        match &self.backing {
            Backing::Bytes(bytes) => Ok(Box::new(io::Cursor::new(Arc::clone(bytes)))),
            Backing::Range { file, offset } => {
                let mut open = File::open(file)?;
                open.seek(SeekFrom::Start(*offset))?;
                Ok(Box::new(open.take(self.size)))
            }
        }
    }

    /// All bytes, in memory.
    ///
    /// # Errors
    /// When the cached file cannot be read, or has become shorter.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.size).unwrap_or_default());
        self.reader()?.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != self.size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} bytes expected, {} found", self.size, bytes.len()),
            ));
        }
        Ok(bytes)
    }
}

/// SHA-256 and length in bytes of everything that `reader` yields.
///
/// # Errors
/// Those of the reader.
pub fn digest_reader(reader: &mut impl Read) -> io::Result<(Digest, u64)> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
    Ok((<[u8; 32]>::from(hasher.finalize()).into(), size))
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link and its target, as written.
    Symlink(String),
    /// Another name of the regular file at that path.
    HardLink(TreePath),
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// Who put an entry into the tree, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The manifest's part.
    pub part: String,
    /// Package, module or file that it was taken from, such as `libc6`.
    pub package: String,
    /// Version of that package; empty where there is none.
    pub version: String,
    /// One clause: "listed", "library of /usr/bin/kmod", "module needed by erofs".
    pub reason: String,
}

/// One entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub node: Node,
    /// Permission bits with setuid, setgid and sticky: `0o0000..=0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by full name, such as `security.capability`.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Where it comes from.
    pub origin: Origin,
}

impl Entry {
    /// An entry of root:root without extended attributes.
    pub fn new(node: Node, mode: u16, origin: Origin) -> Self {
        Self { node, mode, uid: 0, gid: 0, xattrs: BTreeMap::new(), origin }
    }
}

/// A whole file system tree, sorted by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<TreePath, Entry>,
}

impl Tree {
    /// A tree without any entry, not even the root.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an entry in place, in memory, and gives back what stood there.
    pub fn insert(&mut self, path: TreePath, entry: Entry) -> Option<Entry> {
        self.entries.insert(path, entry)
    }

    /// Takes an entry out; entries below it stay.
    pub fn remove(&mut self, path: &TreePath) -> Option<Entry> {
        self.entries.remove(path)
    }

    /// The entry at exactly this path, without following links.
    pub fn entry(&self, path: &TreePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// As [`Tree::entry`], to be changed in place.
    pub fn entry_mut(&mut self, path: &TreePath) -> Option<&mut Entry> {
        self.entries.get_mut(path)
    }

    /// True when there is an entry at exactly this path.
    pub fn contains(&self, path: &TreePath) -> bool {
        self.entries.contains_key(path)
    }

    /// All entries in path order, so that a folder comes before what it holds.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Entry)> {
        self.entries.iter()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without any entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The path that `path` leads to when every symbolic link in it is followed inside the
    /// tree; `None` when something on the way is missing or the links form a loop.
    pub fn resolve(&self, path: &TreePath) -> Option<TreePath> {
        const MAX_LINKS: usize = 40;
        let mut followed = 0;
        let mut done = TreePath::root();
        let mut rest: Vec<String> = path.as_str().rsplit('/').map(str::to_owned).collect();
        while let Some(name) = rest.pop() {
            if name.is_empty() {
                continue;
            }
            let next = TreePath(if done.is_root() { name } else { format!("{}/{name}", done.0) });
            match &self.entry(&next)?.node {
                Node::Symlink(target) => {
                    followed += 1;
                    if followed > MAX_LINKS {
                        return None;
                    }
                    let target = next.resolve_link(target);
                    rest.extend(target.as_str().rsplit('/').map(str::to_owned));
                    done = TreePath::root();
                }
                _ => done = next,
            }
        }
        Some(done)
    }
}

impl IntoIterator for Tree {
    type Item = (TreePath, Entry);
    type IntoIter = std::collections::btree_map::IntoIter<TreePath, Entry>;
    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl FromIterator<(TreePath, Entry)> for Tree {
    fn from_iter<T: IntoIterator<Item = (TreePath, Entry)>>(entries: T) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text).unwrap()
    }

    fn link(target: &str) -> Entry {
        Entry::new(Node::Symlink(target.into()), 0o777, Origin::default())
    }

    fn folder() -> Entry {
        Entry::new(Node::Directory, 0o755, Origin::default())
    }

    #[test]
    fn paths_are_normalised() {
        assert_eq!(path("./usr//bin/x/"), path("/usr/bin/x"));
        assert!(path("/").is_root());
        assert_eq!(path("usr/bin/x").parent(), Some(path("usr/bin")));
        assert_eq!(path("usr").parent(), Some(TreePath::root()));
    }

    #[test]
    fn paths_out_of_the_tree_are_refused() {
        for text in ["../etc/passwd", "usr/../../etc", "a\nb", &"x".repeat(256)] {
            assert!(TreePath::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn links_are_followed_inside_the_tree() {
        let tree: Tree = [
            (path("usr"), folder()),
            (path("usr/lib"), folder()),
            (path("lib"), link("usr/lib")),
            (path("usr/lib/x.so"), link("../../lib/x.so.1")),
            (path("usr/lib/x.so.1"), Entry::new(Node::Fifo, 0o644, Origin::default())),
            (path("loop"), link("/loop")),
            (path("up"), link("../../../usr")),
        ]
        .into_iter()
        .collect();
        assert_eq!(tree.resolve(&path("lib/x.so")), Some(path("usr/lib/x.so.1")));
        assert_eq!(tree.resolve(&path("up/lib")), Some(path("usr/lib")));
        assert_eq!(tree.resolve(&path("loop")), None);
        assert_eq!(tree.resolve(&path("lib/missing")), None);
    }

    #[test]
    fn a_neighbour_with_the_same_beginning_is_not_within() {
        assert!(path("usr/lib/x").is_within(&path("usr/lib")));
        assert!(!path("usr/lib64/x").is_within(&path("usr/lib")));
    }
}
