//! The cache folder: content-addressed blobs and what was derived from them, under
//! `$XDG_CACHE_HOME/slipway` (or `~/.cache/slipway`).
//!
//! **Invariant:** a name that exists is complete. Everything is written under a temporary
//! name in the same file system, synced where it would be lost, and renamed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use contract::Digest;
use tempfile::{NamedTempFile, TempDir};

/// What can go wrong with the cache folder.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Neither variable that would name the folder is set.
    #[error("no cache folder: set XDG_CACHE_HOME or HOME")]
    NoHome,
    /// The file system refused.
    #[error("cannot write to the cache at {path}: free some room or set XDG_CACHE_HOME elsewhere")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// An opened cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The user's cache.
    ///
    /// # Errors
    /// [`CacheError`] when there is none or it cannot be created.
    pub fn open_default() -> Result<Self, CacheError> {
        let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let root = match (folder("XDG_CACHE_HOME"), folder("HOME")) {
            (Some(cache), _) => PathBuf::from(cache),
            (None, Some(home)) => PathBuf::from(home).join(".cache"),
            (None, None) => return Err(CacheError::NoHome),
        };
        Self::open(&root.join("slipway"))
    }

    /// The cache at `root`, created when missing.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        let cache = Self { root: root.to_owned() };
        cache.folder("tmp")?;
        cache.folder("blobs")?;
        Ok(cache)
    }

    /// Where the blob with that SHA-256 is, or would be.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.to_string())
    }

    /// A folder of derived things, such as `packages` or `go`; created when missing.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn folder(&self, name: &str) -> Result<PathBuf, CacheError> {
        let path = self.root.join(name);
        fs::create_dir_all(&path)
            .map_err(|source| CacheError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    /// A temporary file on the cache's file system; gone when dropped, kept by
    /// [`persist`].
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn temporary_file(&self) -> Result<NamedTempFile, CacheError> {
        let folder = self.root.join("tmp");
        NamedTempFile::new_in(&folder).map_err(|source| CacheError::Io { path: folder, source })
    }

    /// A temporary folder on the cache's file system; gone when dropped.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn temporary_folder(&self) -> Result<TempDir, CacheError> {
        let folder = self.root.join("tmp");
        TempDir::new_in(&folder).map_err(|source| CacheError::Io { path: folder, source })
    }

    /// Writes `bytes` to `path`, a place in the cache: the old file or the whole new one.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
        let mut file = self.temporary_file()?;
        file.write_all(bytes).map_err(|source| CacheError::Io { path: path.to_owned(), source })?;
        persist(file, path)
    }
}

/// Renames a temporary file to its final name; readable for others, as a cache may be shared.
///
/// # Errors
/// [`CacheError::Io`].
pub fn persist(file: NamedTempFile, path: &Path) -> Result<(), CacheError> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |source| CacheError::Io { path: path.to_owned(), source };
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
