//! A download that is not whole yet: `partial/<digest>` in the cache, with the server's
//! validator (ETag or time) beside it. In go chunks; out comes a blob of the cache.
//!
//! **Invariant:** one process writes a partial file at a time (a file lock); the others
//! download into a temporary file of their own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use contract::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;

use super::FetchError;
use super::wanted::Wanted;
use crate::inputs::cache::Cache;

/// Longest validator that is kept, in bytes.
const MAX_VALIDATOR_BYTES: usize = 512;

/// The beginning of a file.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    validator_path: Option<PathBuf>,
    validator: Option<String>,
    length: u64,
    hasher: Sha256,
    /// Removes the file when this process did not get the shared one.
    _temporary: Option<TempPath>,
}

impl Partial {
    /// Opens what an earlier try left of the blob, or nothing.
    pub(super) fn open(cache: &Cache, digest: &Digest) -> Result<Self, FetchError> {
        let path = cache.folder("partial")?.join(digest.to_string());
        let Some(mut file) = lock_shared(&path).map_err(|error| FetchError::io(&path, error))?
        else {
            return Self::open_alone(cache);
        };
        let validator_path = path.with_extension("validator");
        // Without its validator a beginning is of no use, and is overwritten.
        let validator = fs::read_to_string(&validator_path)
            .ok()
            .filter(|text| !text.is_empty() && text.len() <= MAX_VALIDATOR_BYTES);
        let (length, hasher) = match validator {
            None => (0, Sha256::new()),
            Some(_) => hash_rest(&mut file).map_err(|error| FetchError::io(&path, error))?,
        };
        let validator_path = Some(validator_path);
        Ok(Self { file, path, validator_path, validator, length, hasher, _temporary: None })
    }

    fn open_alone(cache: &Cache) -> Result<Self, FetchError> {
        let (file, temporary) = cache.temporary_file()?.into_parts();
        Ok(Self {
            file,
            path: temporary.to_path_buf(),
            validator_path: None,
            validator: None,
            length: 0,
            hasher: Sha256::new(),
            _temporary: Some(temporary),
        })
    }

    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The server's mark of the file that these bytes begin.
    pub(super) fn validator(&self) -> Option<&str> {
        self.validator.as_deref()
    }

    /// Notes the mark, for a later process too.
    pub(super) fn remember(&mut self, validator: Option<String>) -> Result<(), FetchError> {
        self.validator = validator.filter(|text| text.len() <= MAX_VALIDATOR_BYTES);
        if let Some(path) = &self.validator_path {
            let text = self.validator.as_deref().unwrap_or_default();
            fs::write(path, text).map_err(|error| FetchError::io(path, error))?;
        }
        Ok(())
    }

    /// Forgets all bytes.
    pub(super) fn restart(&mut self) -> Result<(), FetchError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|error| FetchError::io(&self.path, error))?;
        self.length = 0;
        self.hasher = Sha256::new();
        self.remember(None)
    }

    /// Adds a chunk, unless the file becomes longer than it may be.
    pub(super) fn append(&mut self, chunk: &[u8], wanted: &Wanted) -> Result<(), FetchError> {
        let length = self.length + chunk.len() as u64;
        if length > wanted.size.unwrap_or(wanted.limit) {
            self.restart()?;
            return Err(wrong_size(wanted, length));
        }
        self.file.write_all(chunk).map_err(|error| FetchError::io(&self.path, error))?;
        self.hasher.update(chunk);
        self.length = length;
        Ok(())
    }

    /// True when these bytes are the whole wanted file.
    pub(super) fn fits(&self, wanted: &Wanted) -> bool {
        self.digest() == wanted.sha256
    }

    fn digest(&self) -> Digest {
        <[u8; 32]>::from(self.hasher.clone().finalize()).into()
    }

    /// Checks size and digest, and makes the file a blob of the cache.
    pub(super) fn finish(self, cache: &Cache, wanted: &Wanted) -> Result<(), FetchError> {
        if wanted.size.is_some_and(|size| size != self.length) {
            return Err(wrong_size(wanted, self.length));
        }
        let found = self.digest();
        if found != wanted.sha256 {
            remove(&self.path)?;
            self.validator_path.as_deref().map_or(Ok(()), remove)?;
            let (name, expected) = (wanted.name.clone(), wanted.sha256);
            return Err(FetchError::WrongDigest { name, expected, found });
        }
        let blob = cache.blob(&wanted.sha256);
        // A name in the cache must not outlive its bytes when the power goes.
        self.file
            .set_permissions(fs::Permissions::from_mode(0o644))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.path, &blob))
            .map_err(|error| FetchError::io(&blob, error))?;
        self.validator_path.as_deref().map_or(Ok(()), remove)
    }
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FetchError::io(path, error)),
        _ => Ok(()),
    }
}

fn wrong_size(wanted: &Wanted, found: u64) -> FetchError {
    let expected = match wanted.size {
        Some(size) => size.to_string(),
        None => format!("at most {}", wanted.limit),
    };
    FetchError::WrongSize { name: wanted.name.clone(), found, expected }
}

/// Opens and locks the file; `None` when another process has it.
fn lock_shared(path: &Path) -> io::Result<Option<File>> {
    loop {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        // Its former owner may have made it a blob meanwhile: that one is not to be written.
        match fs::metadata(path) {
            Ok(named) if named.ino() == file.metadata()?.ino() => return Ok(Some(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// Length and hash state of a file, which is left at its end.
fn hash_rest(file: &mut File) -> io::Result<(u64, Sha256)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((length, hasher));
        }
        hasher.update(&buffer[..count]);
        length += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::fetch::Address;

    fn wanted(bytes: &[u8]) -> Wanted {
        Wanted {
            name: "sample".into(),
            address: Address::File("/nowhere".into()),
            size: Some(bytes.len() as u64),
            limit: 100,
            sha256: Digest::of(bytes),
        }
    }

    #[test]
    fn two_processes_do_not_write_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let wanted = wanted(b"abcdef");
        let mut first = Partial::open(&cache, &wanted.sha256).unwrap();
        let mut second = Partial::open(&cache, &wanted.sha256).unwrap();
        first.append(b"abc", &wanted).unwrap();
        second.append(b"abcdef", &wanted).unwrap();
        second.finish(&cache, &wanted).unwrap();
        first.append(b"def", &wanted).unwrap();
        first.finish(&cache, &wanted).unwrap();
        assert_eq!(fs::read(cache.blob(&wanted.sha256)).unwrap(), b"abcdef");
        for rest in ["partial", "tmp"] {
            assert_eq!(fs::read_dir(folder.path().join(rest)).unwrap().count(), 0, "{rest}");
        }
    }

    #[test]
    fn a_wrong_file_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let wanted = wanted(b"abcdef");
        let mut partial = Partial::open(&cache, &wanted.sha256).unwrap();
        partial.remember(Some("\"mark\"".into())).unwrap();
        partial.append(b"abcdeX", &wanted).unwrap();
        let error = partial.finish(&cache, &wanted).unwrap_err();
        assert!(matches!(error, FetchError::WrongDigest { .. }), "{error}");
        assert!(!cache.blob(&wanted.sha256).exists());
        assert_eq!(fs::read_dir(folder.path().join("partial")).unwrap().count(), 0);
    }

    #[test]
    fn a_full_disk_is_named_with_the_way_on() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let wanted = wanted(b"abcdef");
        let mut partial = Partial::open(&cache, &wanted.sha256).unwrap();
        // The kernel's own full disk.
        partial.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = partial.append(b"abc", &wanted).unwrap_err();
        assert!(matches!(error, FetchError::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("XDG_CACHE_HOME"), "{error}");
    }
}
