//! A `.deb` as a stream of files. In go its bytes, which may be hostile; out come an index of
//! entries and one stream with the bytes of all regular files.
//!
//! Formats: deb(5), ar(5), tar as dpkg accepts it (ustar with GNU long names; no pax, no
//! sparse files).
//!
//! **Invariant:** memory stays bounded whatever comes in, and a path that is given out lies
//! inside the tree, below folders only.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};

use contract::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::deb_error::DebError;
use super::deb_stream::{Bounded, StreamTooLong, find_data, xz_reader};
use crate::formats::tree::TreePath;

/// Most entries of one package (Debian's largest has some 90,000).
pub const MAX_ENTRIES: usize = 200_000;
/// Most unpacked bytes of one package.
pub const MAX_UNPACKED_BYTES: u64 = 4 << 30;
/// Most unpacked bytes for each packed one, beyond [`FREE_UNPACKED_BYTES`]. Zeros reach some
/// thousands, programs and texts at most 30.
pub const MAX_RATIO: u64 = 100;
/// Unpacked bytes that need no justification by the packed size.
pub const FREE_UNPACKED_BYTES: u64 = 64 << 20;
/// Most bytes of a long name or link target.
const MAX_NAME_BYTES: u64 = 4096;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A folder.
    Directory,
    /// A file: where it is in the stream, its length and digest.
    File(u64, u64, Digest),
    /// A symbolic link and its target.
    Symlink(String),
    /// Another name of a file of this package.
    Hardlink(TreePath),
}

/// One entry of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedEntry {
    /// Where it is in the tree, with the top-level `bin`, `lib`… moved below `usr`.
    pub path: TreePath,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it is.
    pub kind: Kind,
}

/// Reads the package `deb` of `packed` bytes and appends its files to `content`.
///
/// # Errors
/// [`DebError`] for whatever dpkg would refuse, and for what an image must not hold.
pub fn read_deb(
    deb: impl Read,
    packed: u64,
    content: &mut impl Write,
) -> Result<Vec<PackedEntry>, DebError> {
    let data = find_data(BufReader::with_capacity(1 << 16, deb))?;
    let limit = MAX_UNPACKED_BYTES.min(FREE_UNPACKED_BYTES + packed.saturating_mul(MAX_RATIO));
    let mut writer = ContentWriter { content, offset: 0, limit };
    // The tar stream may be somewhat longer than its files: headers and padding.
    let bounded = Bounded { inner: data, left: limit.saturating_mul(2) };
    let mut entries = Entries::default();
    let mut archive = tar::Archive::new(bounded);
    let mut names = LongNames::default();
    let format = |error: io::Error| match error.downcast::<StreamTooLong>() {
        Ok(_) => DebError::TooLarge(format!("{} bytes", limit)),
        Err(error) => DebError::Format(error.to_string()),
    };
    for entry in archive.entries().map_err(format)?.raw(true) {
        let mut entry = entry.map_err(format)?;
        if names.take_from(&mut entry)? {
            continue;
        }
        let header = Header::read(&entry, std::mem::take(&mut names))?;
        entries.add(header, &mut entry, &mut writer)?;
    }
    entries.check_links()?;
    Ok(entries.found.into_values().collect())
}

/// GNU tar's separate entries for names that do not fit a header.
#[derive(Default)]
struct LongNames {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl LongNames {
    /// True when the entry was such a name.
    fn take_from(&mut self, entry: &mut tar::Entry<impl Read>) -> Result<bool, DebError> {
        let place = match entry.header().entry_type() {
            EntryType::GNULongName => &mut self.path,
            EntryType::GNULongLink => &mut self.link,
            _ => return Ok(false),
        };
        let mut name = Vec::new();
        let read = entry.take(MAX_NAME_BYTES + 1).read_to_end(&mut name);
        read.map_err(|error| DebError::Format(error.to_string()))?;
        if name.len() as u64 > MAX_NAME_BYTES {
            return Err(refuse(&name, "has a name of more than 4096 bytes"));
        }
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        *place = Some(name);
        Ok(true)
    }
}

/// A tar header, with its names checked to be text.
struct Header {
    path: String,
    link: String,
    kind: EntryType,
    size: u64,
    mode: u16,
    uid: u32,
    gid: u32,
}

impl Header {
    fn read(entry: &tar::Entry<impl Read>, names: LongNames) -> Result<Self, DebError> {
        let header = entry.header();
        let path = names.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = names
            .link
            .or_else(|| header.link_name_bytes().map(|name| name.into_owned()))
            .unwrap_or_default();
        let damaged = |error: io::Error| refuse(&path, &format!("has a damaged header: {error}"));
        let number = |value: u64| {
            u32::try_from(value).map_err(|_| refuse(&path, "has an owner beyond 32 bits"))
        };
        let text = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map_err(|_| refuse(bytes, "is not UTF-8"))?;
            Ok::<_, DebError>(text.to_owned())
        };
        Ok(Self {
            kind: header.entry_type(),
            size: header.size().map_err(damaged)?,
            mode: (header.mode().map_err(damaged)? & 0o7777) as u16,
            uid: number(header.uid().map_err(damaged)?)?,
            gid: number(header.gid().map_err(damaged)?)?,
            link: text(&link)?,
            path: text(&path)?,
        })
    }
}

fn refuse(path: &[u8], reason: &str) -> DebError {
    let path = String::from_utf8_lossy(path).chars().take(200).collect();
    DebError::Entry { path, reason: reason.to_owned() }
}

/// What was read until now, by path.
#[derive(Default)]
struct Entries {
    found: BTreeMap<TreePath, PackedEntry>,
    count: usize,
}

impl Entries {
    fn add(
        &mut self,
        header: Header,
        data: &mut impl Read,
        writer: &mut ContentWriter<impl Write>,
    ) -> Result<(), DebError> {
        let refused = |reason: &str| refuse(header.path.as_bytes(), reason);
        self.count += 1;
        if self.count > MAX_ENTRIES {
            return Err(DebError::TooLarge(format!("{MAX_ENTRIES} entries")));
        }
        if header.path.starts_with('/') {
            return Err(refused("has an absolute path"));
        }
        let written = TreePath::parse(&header.path).map_err(|error| refused(error.reason))?;
        let mut path = below_usr(&written);
        let kind = match header.kind {
            EntryType::Directory => Kind::Directory,
            EntryType::Regular => {
                let kind = writer.file(&header, data)?;
                path = raw_name(path);
                kind
            }
            // Base-files' own merge of /usr: composition makes these links.
            EntryType::Symlink if path != written && !written.as_str().contains('/') => {
                return Ok(());
            }
            EntryType::Symlink => Kind::Symlink(checked_target(&header, &written)?),
            EntryType::Link => {
                let target =
                    TreePath::parse(&header.link).map_err(|error| refused(error.reason))?;
                if header.link.starts_with('/') {
                    return Err(refused("is a hard link to an absolute path"));
                }
                path = raw_name(path);
                Kind::Hardlink(raw_name(below_usr(&target)))
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                return Err(refused("is a device or pipe, which no image takes from a package"));
            }
            EntryType::GNUSparse => return Err(refused("is a sparse file")),
            _ => return Err(refused("is of a kind that packages do not have")),
        };
        let Header { mode, uid, gid, .. } = header;
        self.insert(PackedEntry { path, mode, uid, gid, kind }, &header.path)
    }

    fn insert(&mut self, entry: PackedEntry, written: &str) -> Result<(), DebError> {
        match self.found.get(&entry.path).map(|there| &there.kind) {
            // `lib/` and `usr/lib/` become one.
            Some(Kind::Directory) if entry.kind == Kind::Directory => Ok(()),
            Some(_) => Err(refuse(written.as_bytes(), "is there twice")),
            None => {
                self.found.insert(entry.path.clone(), entry);
                Ok(())
            }
        }
    }

    /// A hard link names a file of the same package, and nothing lies below a non-folder.
    fn check_links(&self) -> Result<(), DebError> {
        let is = |path: &TreePath, wanted: fn(&Kind) -> bool| {
            self.found.get(path).is_none_or(|entry| wanted(&entry.kind))
        };
        for (path, entry) in &self.found {
            let refused = |reason: &str| refuse(path.as_str().as_bytes(), reason);
            if !path.ancestors().iter().all(|folder| is(folder, |kind| *kind == Kind::Directory)) {
                return Err(refused("lies below something that is no folder"));
            }
            if let Kind::Hardlink(target) = &entry.kind
                && !(self.found.contains_key(target)
                    && is(target, |kind| matches!(kind, Kind::File(..))))
            {
                return Err(refused("is a hard link to no file of the package"));
            }
        }
        Ok(())
    }
}

/// Modules are kept decompressed, under the name that says so.
fn raw_name(path: TreePath) -> TreePath {
    let raw = path.as_str().strip_suffix(".xz").filter(|raw| raw.ends_with(".ko"));
    match raw.map(TreePath::parse) {
        Some(Ok(raw)) => raw,
        _ => path,
    }
}

/// Where an entry lies in a tree with a merged /usr.
fn below_usr(path: &TreePath) -> TreePath {
    let top = path.as_str().split('/').next().unwrap_or_default();
    match top {
        "bin" | "sbin" | "lib" | "lib64" => {
            // Only a path at the limit of length can fail, and then stays where it is.
            TreePath::parse(&format!("usr/{}", path.as_str())).unwrap_or_else(|_| path.clone())
        }
        _ => path.clone(),
    }
}

/// A link may be absolute, as it is followed inside the tree; `..` above the root may not.
fn checked_target(header: &Header, path: &TreePath) -> Result<String, DebError> {
    let refused = |reason: &str| refuse(header.path.as_bytes(), reason);
    let target = &header.link;
    if target.is_empty() || target.chars().any(char::is_control) {
        return Err(refused("is a link without a proper target"));
    }
    let mut depth = if target.starts_with('/') { 0 } else { path.ancestors().len() as i64 - 1 };
    for name in target.split('/') {
        depth += match name {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        if depth < 0 {
            return Err(refused("is a link out of the tree"));
        }
    }
    Ok(target.clone())
}

/// Appends files to one stream, and hashes each.
struct ContentWriter<'a, W> {
    content: &'a mut W,
    offset: u64,
    limit: u64,
}

impl<W: Write> ContentWriter<'_, W> {
    /// Writes one file. Modules are decompressed: their signatures stay valid, and updates
    /// of them become small.
    fn file(&mut self, header: &Header, data: &mut impl Read) -> Result<Kind, DebError> {
        if header.path.ends_with(".ko.xz") {
            let refused = |error: io::Error| refuse(header.path.as_bytes(), &error.to_string());
            return self.append(header, &mut xz_reader(data).map_err(refused)?);
        }
        match self.append(header, data)? {
            Kind::File(_, size, _) if size != header.size => {
                Err(DebError::Format(format!("it ends inside `{}`", header.path)))
            }
            kind => Ok(kind),
        }
    }

    fn append(&mut self, header: &Header, data: &mut impl Read) -> Result<Kind, DebError> {
        let start = self.offset;
        let mut hasher = Sha256::new();
        let mut buffer = [0; 1 << 16];
        loop {
            let count = data.read(&mut buffer).map_err(|error| {
                DebError::Format(format!("`{}` cannot be read: {error}", header.path))
            })?;
            if count == 0 {
                break;
            }
            self.offset += count as u64;
            if self.offset > self.limit {
                return Err(DebError::TooLarge(format!("{} bytes", self.limit)));
            }
            hasher.update(&buffer[..count]);
            self.content.write_all(&buffer[..count]).map_err(DebError::Write)?;
        }
        let digest = <[u8; 32]>::from(hasher.finalize()).into();
        Ok(Kind::File(start, self.offset - start, digest))
    }
}
