//! The seed disk: a small file system with the label `cidata`, as cloud-init's NoCloud has it.
//!
//! In: the folder in which systemd mounts a disk of that label (`run-slipway-seed.mount`): read
//! only, without devices and programs. Out: its `user-data`. **Invariant:** one bounded file is
//! read, and a link in its place is not followed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use contract::node::settings::MAX_SETTINGS_BYTES;

use super::SeedDisk;

/// Where systemd mounts a seed disk.
pub const FOLDER: &str = "/run/slipway/seed";
/// The file with the settings.
const FILE: &str = "user-data";
/// Longest file that is read, in bytes: settings, and a first line that marks them. One that is longer
/// is cut off where the check of the settings notices it.
const MOST_BYTES: u64 = MAX_SETTINGS_BYTES + 64;

/// Why a seed disk cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The file.
    #[error("cannot read `user-data`")]
    File(#[source] io::Error),
    /// A link, a folder or a device.
    #[error("`user-data` is no plain file")]
    NoFile,
}

/// The disk that systemd mounted.
#[derive(Debug, Clone)]
pub struct MountedSeed {
    /// The folder, such as `/run/slipway/seed`; without a disk it is empty or absent.
    pub folder: PathBuf,
}

impl SeedDisk for MountedSeed {
    fn user_data(&self) -> Result<Option<Vec<u8>>, SeedError> {
        let path = self.folder.join(FILE);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => read_bounded(&path).map_err(SeedError::File),
            Ok(_) => Err(SeedError::NoFile),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SeedError::File(error)),
        }
    }
}

/// The content of a file that may hold settings, of at most [`MOST_BYTES`]; `None` when there is no such
/// file.
///
/// # Errors
/// When it is there and cannot be read.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_place_of_the_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let seed = MountedSeed { folder: folder.path().into() };
        assert!(matches!(seed.user_data(), Ok(None)));
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join(FILE)).unwrap();
        assert!(matches!(seed.user_data(), Err(SeedError::NoFile)));
        fs::remove_file(folder.path().join(FILE)).unwrap();
        fs::write(folder.path().join(FILE), "x").unwrap();
        assert_eq!(seed.user_data().unwrap().unwrap(), b"x");
    }
}
