//! Documents in a folder of the state partition.
//!
//! In: a name and bytes. Out: the same after any power cut: the old document or the new one,
//! whole. **Invariant:** no name leads out of the folder, and no document is larger than
//! [`MAX_DOCUMENT_BYTES`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::StateStore;

/// Largest document that is read or saved, in bytes.
pub const MAX_DOCUMENT_BYTES: u64 = 4 << 20;
/// Appended to the name of a document that is being written.
const UNFINISHED: &str = ".new";

/// A folder of documents.
pub struct StateFolder {
    folder: PathBuf,
}

impl StateFolder {
    /// The documents in `folder`, such as `/var/lib/slipway`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Path of a document: one or two parts of `a-z`, `0-9`, `-` and `.`.
    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        let good =
            |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed);
        if name.split('/').count() > 2 || !name.split('/').all(good) || name.ends_with(UNFINISHED) {
            let text = format!("`{name}` cannot be the name of a document");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(self.folder.join(name))
    }
}

fn too_large(path: &Path) -> io::Error {
    let text = format!("{} has more than {MAX_DOCUMENT_BYTES} bytes", path.display());
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

/// Makes renames and removals in a document's folder last.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    File::open(folder)?.sync_all()
}

impl StateStore for StateFolder {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(too_large(&path));
        }
        Ok(Some(bytes))
    }

    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(too_large(&path));
        }
        let unfinished = self.folder.join(format!("{name}{UNFINISHED}"));
        let mut options = OpenOptions::new();
        // Settings hold keys: nobody but root reads a document.
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        sync_folder(&path)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_document_is_replaced_removed_and_only_for_root() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateFolder::new(folder.path());
        assert_eq!(store.load("update.json").unwrap(), None);
        store.save("update.json", b"old").unwrap();
        store.save("update.json", b"new").unwrap();
        assert_eq!(store.load("update.json").unwrap().as_deref(), Some(&b"new"[..]));
        let mode = fs::metadata(folder.path().join("update.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        store.remove("update.json").unwrap();
        store.remove("update.json").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_save_that_was_cut_off_leaves_the_old_document() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateFolder::new(folder.path());
        store.save("update.json", b"old").unwrap();
        fs::write(folder.path().join("update.json.new"), "ne").unwrap();
        assert_eq!(store.load("update.json").unwrap().as_deref(), Some(&b"old"[..]));
        store.save("update.json", b"newer").unwrap();
        assert_eq!(store.load("update.json").unwrap().as_deref(), Some(&b"newer"[..]));
    }

    #[test]
    fn names_stay_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateFolder::new(folder.path());
        for name in ["", "..", "../x", "/etc/passwd", "a//b", "a/b/c", ".x", "x.new", "a/../b", "X"]
        {
            assert!(store.save(name, b"x").is_err(), "{name}");
            assert!(store.load(name).is_err(), "{name}");
        }
        fs::create_dir(folder.path().join("boot")).unwrap();
        store.save("boot/initrd", b"x").unwrap();
        assert!(store.load("boot/initrd").unwrap().is_some());
    }

    #[test]
    fn a_document_that_is_too_large_is_neither_read_nor_saved() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateFolder::new(folder.path());
        let large = vec![0; MAX_DOCUMENT_BYTES as usize + 1];
        assert!(store.save("large", &large).is_err());
        fs::write(folder.path().join("large"), &large).unwrap();
        assert!(store.load("large").is_err());
    }
}
