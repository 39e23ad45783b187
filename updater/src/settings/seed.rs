//! The seed disk: a small file system with the label `cidata`, as cloud-init's NoCloud has it.
//!
//! In: the device of that label. Out: its `user-data`. **Invariant:** the disk is mounted
//! read-only, without devices, programs or links that are followed out of it, in a folder that
//! only root may enter; and no longer than it takes to read one bounded file.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::sources::read_bounded;

/// The file with the settings.
const FILE: &str = "user-data";
/// Labels of a seed disk; FAT has capitals only.
const LABELS: [&str; 2] = ["cidata", "CIDATA"];
/// Where an ISO 9660 file system names itself, in bytes, and how.
const ISO_MAGIC: (u64, &[u8; 5]) = (32769, b"CD001");

/// A disk that may be there at the first boot.
pub trait SeedDisk {
    /// Its `user-data`; none when there is no such disk, or no such file on it.
    ///
    /// # Errors
    /// When the disk is there and cannot be read.
    fn user_data(&self) -> Result<Option<Vec<u8>>, SeedError>;
}

/// Why a seed disk cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The device.
    #[error("cannot read the device {0}")]
    Device(PathBuf, #[source] io::Error),
    /// The mount.
    #[error("cannot mount {device} as {kind}: make the disk as ISO 9660 or FAT")]
    Mount {
        /// The device.
        device: PathBuf,
        /// The file system.
        kind: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The folder that it is mounted in.
    #[error("cannot use the folder {0}")]
    Folder(PathBuf, #[source] io::Error),
    /// The file.
    #[error("cannot read `user-data`")]
    File(#[source] io::Error),
}

/// The disk with the label, by udev's links.
#[derive(Debug, Clone)]
pub struct LabelledDisk {
    /// Folder of the links, `/dev/disk/by-label`.
    pub labels: PathBuf,
    /// Folder to mount in, such as `/run/slipway/seed`.
    pub mount_point: PathBuf,
}

impl SeedDisk for LabelledDisk {
    fn user_data(&self) -> Result<Option<Vec<u8>>, SeedError> {
        let device = LABELS.iter().map(|label| self.labels.join(label)).find(|path| path.exists());
        let Some(device) = device else { return Ok(None) };
        let kind =
            file_system(&device).map_err(|error| SeedError::Device(device.clone(), error))?;
        let folder = |error| SeedError::Folder(self.mount_point.clone(), error);
        fs::create_dir_all(&self.mount_point).map_err(folder)?;
        fs::set_permissions(&self.mount_point, Permissions::from_mode(0o700)).map_err(folder)?;
        let flags =
            MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount(&device, &self.mount_point, kind, flags, None).map_err(|error| SeedError::Mount {
            device: device.clone(),
            kind,
            source: error.into(),
        })?;
        let content = read_user_data(&self.mount_point);
        unmount(&self.mount_point, UnmountFlags::DETACH).map_err(|error| folder(error.into()))?;
        content.map_err(SeedError::File)
    }
}

fn read_user_data(folder: &Path) -> io::Result<Option<Vec<u8>>> {
    let path = folder.join(FILE);
    // A link could lead to any file of the node, and this is shown when it is refused.
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => read_bounded(&path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a plain file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Only these two are tried: a file system is the kernel's to parse, and most are made for
/// disks that one trusts.
fn file_system(device: &Path) -> io::Result<&'static str> {
    let mut file = File::open(device)?;
    file.seek(SeekFrom::Start(ISO_MAGIC.0))?;
    let mut magic = Vec::new();
    file.take(ISO_MAGIC.1.len() as u64).read_to_end(&mut magic)?;
    Ok(if magic == ISO_MAGIC.1 { "iso9660" } else { "vfat" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_seed_disk_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let disk = LabelledDisk {
            labels: folder.path().join("by-label"),
            mount_point: folder.path().join("seed"),
        };
        assert!(matches!(disk.user_data(), Ok(None)));
        assert!(!disk.mount_point.exists());
    }

    #[test]
    fn a_disk_is_iso_or_fat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let mut disk = vec![0; 40_000];
        fs::write(&path, &disk).unwrap();
        assert_eq!(file_system(&path).unwrap(), "vfat");
        disk[32769..32774].copy_from_slice(b"CD001");
        fs::write(&path, &disk).unwrap();
        assert_eq!(file_system(&path).unwrap(), "iso9660");
        fs::write(&path, b"").unwrap();
        assert_eq!(file_system(&path).unwrap(), "vfat");
    }

    #[test]
    fn a_link_on_the_disk_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "x").unwrap();
        assert!(read_user_data(folder.path()).unwrap().is_none());
        std::os::unix::fs::symlink("secret", folder.path().join(FILE)).unwrap();
        assert!(read_user_data(folder.path()).is_err());
    }
}
