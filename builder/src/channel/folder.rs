//! The channel's folder on disk: one writer at a time, and files that are whole.
//!
//! **Invariant:** a name that a reader can see is complete: everything is written under
//! `.slipway-tmp/`, synced and renamed. **Invariant:** whoever has a [`Folder`] has the lock.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

use super::ChannelError;

/// File that is locked while a command runs.
pub const LOCK_FILE: &str = ".slipway-lock";
/// Folder of what is not whole yet.
pub const TEMPORARY_DIR: &str = ".slipway-tmp";

/// A locked channel folder; copies share the lock.
#[derive(Debug, Clone)]
pub struct Folder(Arc<Locked>);

#[derive(Debug)]
struct Locked {
    path: PathBuf,
    /// Held for its lock, which the kernel drops with the process.
    _lock: File,
    /// Steps that are still allowed: a crash, for tests.
    steps: AtomicU32,
}

impl Folder {
    /// Locks a folder that exists, and removes what a crashed writer left unfinished.
    ///
    /// # Errors
    /// [`ChannelError::Locked`] when another process has it, [`ChannelError::Io`].
    pub fn lock(path: &Path) -> Result<Self, ChannelError> {
        let file = path.join(LOCK_FILE);
        let failed = |error| ChannelError::Io(file.clone(), error);
        let lock = File::options().create(true).truncate(false).write(true).open(&file);
        let lock = lock.map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(ChannelError::Locked(path.into())),
            Err(error) => return Err(failed(error.into())),
        }
        let steps = AtomicU32::new(u32::MAX);
        let folder = Self(Arc::new(Locked { path: path.into(), _lock: lock, steps }));
        let temporary = path.join(TEMPORARY_DIR);
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ChannelError::Io(temporary, error))
            }
            _ => Ok(folder),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Lets `steps` more files be put or removed, and fails then: what a crash leaves behind.
    /// Only tests call it.
    pub fn stop_after(&self, steps: u32) {
        self.0.steps.store(steps, Ordering::Relaxed);
    }

    fn step(&self) -> Result<(), ChannelError> {
        let left = self.0.steps.load(Ordering::Relaxed);
        let left = left.checked_sub(1).ok_or(ChannelError::Stopped)?;
        self.0.steps.store(left, Ordering::Relaxed);
        Ok(())
    }

    /// A file that readers do not see; gone when dropped, kept by [`Folder::put`].
    ///
    /// # Errors
    /// [`ChannelError::Io`].
    pub fn temporary(&self) -> Result<NamedTempFile, ChannelError> {
        let folder = self.0.path.join(TEMPORARY_DIR);
        fs::create_dir_all(&folder)
            .and_then(|()| NamedTempFile::new_in(&folder))
            .map_err(|error| ChannelError::Io(folder, error))
    }

    /// Syncs a temporary file and gives it its name; [`Folder::sync`] makes the name last.
    ///
    /// # Errors
    /// [`ChannelError::Io`].
    pub fn put(&self, file: NamedTempFile, name: &str) -> Result<(), ChannelError> {
        self.step()?;
        let path = self.0.path.join(name);
        let put = || {
            // Temporary files are private; a web server must read these.
            file.as_file().set_permissions(Permissions::from_mode(0o644))?;
            file.as_file().sync_all()?;
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            file.persist(&path).map_err(|error| error.error)
        };
        put().map(drop).map_err(|error| ChannelError::Io(path.clone(), error))
    }

    /// [`Folder::put`] with these bytes.
    ///
    /// # Errors
    /// [`ChannelError::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ChannelError> {
        let mut file = self.temporary()?;
        let written = file.write_all(bytes);
        written.map_err(|error| ChannelError::Io(self.0.path.join(name), error))?;
        self.put(file, name)
    }

    /// Makes the names of these files last over a power cut.
    ///
    /// # Errors
    /// [`ChannelError::Io`].
    pub fn sync<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<(), ChannelError> {
        let folders = names.into_iter().flat_map(|name| Path::new(name).ancestors().skip(1));
        for folder in folders.collect::<BTreeSet<_>>() {
            let folder = self.0.path.join(folder);
            let synced = File::open(&folder).and_then(|open| open.sync_all());
            synced.map_err(|error| ChannelError::Io(folder, error))?;
        }
        Ok(())
    }

    /// Removes a file, if it is there, and the folders that it leaves empty.
    ///
    /// # Errors
    /// [`ChannelError::Io`].
    pub fn remove(&self, name: &str) -> Result<(), ChannelError> {
        self.step()?;
        let path = self.0.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ChannelError::Io(path, error));
            }
            _ => {}
        }
        // Not those directly below the channel's folder, which belong to its shape.
        for parent in Path::new(name).ancestors().skip(1).filter(|one| one.iter().count() > 1) {
            if fs::remove_dir(self.0.path.join(parent)).is_err() {
                // Something is in it.
                break;
            }
        }
        Ok(())
    }

    /// Names of all files below `name`, itself included in each; none when it is not there.
    ///
    /// # Errors
    /// [`ChannelError::Io`].
    pub fn files(&self, name: &str) -> Result<BTreeSet<String>, ChannelError> {
        let mut found = BTreeSet::new();
        let mut folders = vec![name.to_owned()];
        while let Some(folder) = folders.pop() {
            let path = self.0.path.join(&folder);
            let failed = |error| ChannelError::Io(path.clone(), error);
            let entries = match fs::read_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let inner = format!("{folder}/{}", entry.file_name().to_string_lossy());
                if entry.file_type().map_err(failed)?.is_dir() {
                    folders.push(inner);
                } else {
                    found.insert(inner);
                }
            }
        }
        Ok(found)
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// [`ChannelError::TooLarge`], [`ChannelError::Io`].
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ChannelError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    read.map_err(|error| ChannelError::Io(path.into(), error))?;
    if bytes.len() as u64 > limit {
        return Err(ChannelError::TooLarge { file: path.into(), limit });
    }
    Ok(bytes)
}
