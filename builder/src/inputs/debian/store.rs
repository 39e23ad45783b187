//! Packages as trees. In goes a package that the cache has; out comes its tree, whose files
//! are ranges of one content file in the cache. Unpacking is done once: afterwards only a
//! small index is read.
//!
//! **Invariant:** an index in the cache is believed only with its own digest right, its
//! format known, and its content file as long as it says; else both are made again.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use contract::Digest;
use serde::{Deserialize, Serialize};

use super::deb::{Kind, PackedEntry, read_deb};
use super::deb_error::DebError;
use crate::formats::tree::{Content, Entry, Node, Origin, Tree, digest_reader};
use crate::inputs::cache::{Cache, CacheError, persist};
use crate::lock::PackageLock;
use crate::progress::Progress;

/// Changes whenever what is unpacked changes.
const FORMAT: u32 = 1;
/// Largest index that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 128 << 20;

/// Why a package gives no tree.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Not fetched.
    #[error("the package {package} is not in the cache: run `slipway fetch` first")]
    Missing {
        /// Name and version.
        package: String,
    },
    /// The cached file is not what the lock pins.
    #[error("the cached file of {package} is damaged: remove {path} and run `slipway fetch`")]
    Damaged {
        /// Name and version.
        package: String,
        /// The blob.
        path: PathBuf,
    },
    /// Hostile or broken, although its digest is the one that the lock pins.
    #[error("the package {package} is refused: take another version or suite of it")]
    Refused {
        /// Name and version.
        package: String,
        /// What is wrong with it.
        #[source]
        source: DebError,
    },
    /// The disk is full.
    #[error(
        "no room left to unpack {package} below {path}: free some, or set XDG_CACHE_HOME to a larger file system"
    )]
    DiskFull {
        /// Name and version.
        package: String,
        /// The folder of unpacked packages.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot read or write {path}: check its permissions")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The cache folder.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// A package's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Package name.
    pub name: String,
    /// Package version.
    pub version: String,
    /// What it holds; each entry's origin names package and version.
    pub tree: Tree,
}

/// The stored form of an unpacked package.
#[derive(Serialize, Deserialize)]
struct Index {
    format: u32,
    content_bytes: u64,
    entries: Vec<PackedEntry>,
}

/// The tree of one package, from the cache.
///
/// # Errors
/// [`UnpackError`], naming the package.
pub fn unpack(package: &PackageLock, cache: &Cache) -> Result<Tree, UnpackError> {
    let place = Place::new(package, cache)?;
    let index = match place.read_index() {
        Some(index) => index,
        None => place.fill(package, cache)?,
    };
    Ok(place.tree(package, index))
}

/// The trees of all packages, in the order given, with `jobs` threads.
///
/// # Errors
/// The first [`UnpackError`] in the order of the packages.
pub fn unpack_all(
    packages: &[PackageLock],
    jobs: usize,
    cache: &Cache,
    progress: &Progress,
) -> Result<Vec<Unpacked>, UnpackError> {
    let task = progress.bytes("unpacking", packages.iter().map(|package| package.size).sum());
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(package) = packages.get(number) else { return };
            let result = unpack(package, cache);
            task.advance(package.size);
            let failed = result.is_err();
            results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
            if failed {
                // Nothing else is begun: the result is an error already.
                next.store(packages.len(), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, packages.len().max(1)) {
            scope.spawn(work);
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    let mut unpacked = Vec::with_capacity(packages.len());
    for (number, result) in results {
        let PackageLock { name, version, .. } = &packages[number];
        unpacked.push(Unpacked { name: name.clone(), version: version.clone(), tree: result? });
    }
    task.finish(&format!("{} packages", unpacked.len()));
    Ok(unpacked)
}

/// Where a package's unpacked form is in the cache.
struct Place {
    folder: PathBuf,
    content: PathBuf,
    index: PathBuf,
}

impl Place {
    fn new(package: &PackageLock, cache: &Cache) -> Result<Self, UnpackError> {
        let folder = cache.folder("packages")?;
        Ok(Self {
            content: folder.join(format!("{}-{FORMAT}.content", package.sha256)),
            index: folder.join(format!("{}-{FORMAT}.index", package.sha256)),
            folder,
        })
    }

    /// The stored index; `None` when it is absent or not to be believed.
    fn read_index(&self) -> Option<Index> {
        let mut bytes = Vec::new();
        File::open(&self.index).ok()?.take(MAX_INDEX_BYTES).read_to_end(&mut bytes).ok()?;
        let (digest, json) = bytes.split_at_checked(65)?;
        let digest: Digest = std::str::from_utf8(digest).ok()?.trim_end().parse().ok()?;
        if digest != Digest::of(json) {
            return None;
        }
        let index: Index = serde_json::from_slice(json).ok()?;
        let content = fs::metadata(&self.content).ok()?;
        (index.format == FORMAT && content.len() == index.content_bytes).then_some(index)
    }

    /// Unpacks the cached `.deb`; content first, so that an index always has its content.
    fn fill(&self, package: &PackageLock, cache: &Cache) -> Result<Index, UnpackError> {
        let title = format!("{} {}", package.name, package.version);
        let blob = cache.blob(&package.sha256);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| UnpackError::Io { path, source }
        };
        let mut deb = File::open(&blob).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => UnpackError::Missing { package: title.clone() },
            _ => failed(&blob)(error),
        })?;
        let (digest, size) = digest_reader(&mut deb).map_err(failed(&blob))?;
        if digest != package.sha256 {
            return Err(UnpackError::Damaged { package: title, path: blob });
        }
        io::Seek::rewind(&mut deb).map_err(failed(&blob))?;
        let file = cache.temporary_file()?;
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        let entries = read_deb(deb, size, &mut writer)
            .map_err(|source| self.refusal(title.clone(), source))?;
        let file = writer
            .into_inner()
            .map_err(|error| self.refusal(title.clone(), DebError::Write(error.into_error())))?;
        let content_bytes = file.as_file().metadata().map_err(failed(&self.content))?.len();
        file.as_file().sync_data().map_err(failed(&self.content))?;
        persist(file, &self.content)?;
        let index = Index { format: FORMAT, content_bytes, entries };
        let json = serde_json::to_vec(&index).map_err(io::Error::from);
        let json = json.map_err(failed(&self.index))?;
        let mut bytes = Vec::with_capacity(json.len() + 65);
        writeln!(bytes, "{}", Digest::of(&json)).map_err(failed(&self.index))?;
        bytes.extend(json);
        cache.write(&self.index, &bytes)?;
        Ok(index)
    }

    fn refusal(&self, package: String, source: DebError) -> UnpackError {
        match source {
            DebError::Write(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    UnpackError::DiskFull { package, path: self.folder.clone() }
                }
                _ => UnpackError::Io { path: self.content.clone(), source: error },
            },
            source => UnpackError::Refused { package, source },
        }
    }

    fn tree(&self, package: &PackageLock, index: Index) -> Tree {
        let file: Arc<Path> = self.content.as_path().into();
        let origin = Origin {
            package: package.name.clone(),
            version: package.version.clone(),
            ..Origin::default()
        };
        let entry = |packed: PackedEntry| {
            let node = match packed.kind {
                Kind::Directory => Node::Directory,
                Kind::File(offset, size, digest) => {
                    Node::File(Content::from_range(Arc::clone(&file), offset, size, digest))
                }
                Kind::Symlink(target) => Node::Symlink(target),
                Kind::Hardlink(target) => Node::HardLink(target),
            };
            let mut entry = Entry::new(node, packed.mode, origin.clone());
            (entry.uid, entry.gid) = (packed.uid, packed.gid);
            (packed.path, entry)
        };
        index.entries.into_iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_the_way_on() {
        let place = Place { folder: "/c".into(), content: "/c/x".into(), index: "/c/y".into() };
        // The kernel's own full disk.
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let error = full.and_then(|mut full| full.write_all(b"x")).unwrap_err();
        let error = place.refusal("sample 1-1".into(), DebError::Write(error));
        assert!(matches!(error, UnpackError::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("XDG_CACHE_HOME"), "{error}");
    }
}
