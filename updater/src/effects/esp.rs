//! UKIs on the mounted EFI system partition.
//!
//! In: the folder that it is mounted at. Out: names and contents. **Invariant:** only files
//! whose name parses as a [`UkiName`], and the temporary file, are ever touched.
//!
//! FAT has no journal. What makes a rename safe is that both directory entries lie in the
//! first sector of one folder: `.`, `..`, two UKIs, the temporary file and a new name take at
//! most 13 of its 16 places, and Linux fills free places from the front (`fat_add_entries`).
//! One sector is written whole or not at all. That is why the temporary file is in the folder
//! of the UKIs; its name does not end with `.efi`, so systemd-boot passes over it. A power cut
//! while a file grows can leave clusters that nothing owns; only `fsck.fat` gives them back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use contract::UkiName;
use contract::release::layout::ESP_UKI_DIR;
use rustix::fs::{Advice, fadvise, statvfs, syncfs};

use super::Esp;

/// Name of the temporary file.
const TEMPORARY: &str = "staged.uki";
/// The unit that mounts the partition.
const UNIT: &str = "efi.mount";

/// The mounted EFI system partition.
pub struct MountedEsp {
    folder: PathBuf,
    systemctl: PathBuf,
}

impl MountedEsp {
    /// The partition that is mounted at `mount`, such as `/efi`, by the service manager that
    /// `systemctl` speaks to.
    pub fn new(mount: &Path, systemctl: &Path) -> Self {
        Self { folder: mount.join(ESP_UKI_DIR), systemctl: systemctl.to_owned() }
    }

    fn path(&self, name: &UkiName) -> PathBuf {
        self.folder.join(name.to_string())
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join(TEMPORARY)
    }

    /// The folder of the UKIs; it is missing when the partition is not mounted.
    fn folder(&self) -> io::Result<File> {
        File::open(&self.folder)
            .map_err(|error| io::Error::new(error.kind(), self.named(&self.folder, &error)))
    }

    fn named(&self, path: &Path, error: &io::Error) -> String {
        format!("{}: {error}", path.display())
    }
}

impl Esp for MountedEsp {
    fn mount(&self) -> io::Result<()> {
        let mut command = Command::new(&self.systemctl);
        let output = command.args(["--quiet", "start", UNIT]).stdin(Stdio::null()).output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("{UNIT} does not start"))),
        }
    }

    fn list(&self) -> io::Result<Vec<UkiName>> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), self.named(&self.folder, &error));
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(named)? {
            let name = entry.map_err(named)?.file_name();
            names.extend(name.to_str().and_then(|name| name.parse::<UkiName>().ok()));
        }
        names.sort();
        Ok(names)
    }

    fn uki_bytes(&self, name: &UkiName) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.len())
    }

    fn read(&self, name: &UkiName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        File::open(self.path(name))?.read_exact_at(buffer, offset)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let free = statvfs(&self.folder)?;
        let temporary = self.temporary_bytes()?.unwrap_or_default();
        Ok(free.f_bavail.saturating_mul(free.f_frsize).saturating_add(temporary))
    }

    fn create_temporary(&self, bytes: u64) -> io::Result<()> {
        self.folder()?;
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).open(self.temporary())?;
        // FAT has no holes: this takes the room, or says that there is none.
        file.set_len(bytes)
    }

    fn temporary_bytes(&self) -> io::Result<Option<u64>> {
        self.folder()?;
        match fs::metadata(self.temporary()) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_temporary(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.temporary())?;
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > file.metadata().map_or(0, |metadata| metadata.len())) {
            return Err(io::Error::other("a write past the end of the temporary file"));
        }
        file.write_all_at(bytes, offset)
    }

    fn read_temporary(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = File::open(self.temporary())?;
        // After a sync its pages are clean, and this drops them.
        fadvise(&file, 0, None, Advice::DontNeed)?;
        file.read_exact_at(buffer, offset)
    }

    fn rename_temporary(&self, name: &UkiName) -> io::Result<()> {
        fs::rename(self.temporary(), self.path(name))
    }

    fn rename(&self, from: &UkiName, to: &UkiName) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &UkiName) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.folder().map(drop),
            result => result,
        }
    }

    fn sync(&self) -> io::Result<()> {
        match File::open(self.temporary()) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let folder = self.folder()?;
        folder.sync_all()?;
        // The allocation table belongs to no file: only this writes it for sure.
        Ok(syncfs(&folder)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UkiName {
        text.parse().unwrap()
    }

    fn mounted() -> (tempfile::TempDir, MountedEsp) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("EFI/Linux")).unwrap();
        let esp = MountedEsp::new(folder.path(), Path::new("/nonexistent"));
        (folder, esp)
    }

    #[test]
    fn a_uki_gets_its_name_and_loses_its_counter() {
        let (folder, esp) = mounted();
        assert_eq!(esp.temporary_bytes().unwrap(), None);
        esp.create_temporary(6).unwrap();
        esp.write_temporary(0, b"UK").unwrap();
        esp.write_temporary(2, b"I---").unwrap();
        esp.sync().unwrap();
        let mut read = [0; 6];
        esp.read_temporary(0, &mut read).unwrap();
        assert_eq!(&read, b"UKI---");
        let (armed, blessed) = (name("slipway-000002-b+3.efi"), name("slipway-000002-b.efi"));
        esp.rename_temporary(&armed).unwrap();
        esp.rename(&armed, &blessed).unwrap();
        esp.sync().unwrap();
        fs::write(folder.path().join("EFI/Linux/foreign.efi"), "x").unwrap();
        assert_eq!(esp.list().unwrap(), [blessed]);
        assert_eq!(esp.uki_bytes(&blessed).unwrap(), 6);
        esp.remove(&blessed).unwrap();
        esp.remove(&blessed).unwrap();
        assert_eq!(esp.list().unwrap(), []);
        assert!(folder.path().join("EFI/Linux/foreign.efi").exists());
    }

    #[test]
    fn the_temporary_file_is_no_name_that_a_loader_takes() {
        assert!(!TEMPORARY.to_ascii_lowercase().ends_with(".efi"));
        assert!(TEMPORARY.parse::<UkiName>().is_err());
    }

    #[test]
    fn a_temporary_file_does_not_grow_and_counts_as_free() {
        let (_folder, esp) = mounted();
        esp.create_temporary(1 << 20).unwrap();
        assert!(esp.write_temporary((1 << 20) - 1, b"xx").is_err());
        assert!(esp.free_bytes().unwrap() >= 1 << 20);
        esp.create_temporary(3).unwrap();
        assert_eq!(esp.temporary_bytes().unwrap(), Some(3));
    }

    #[test]
    fn a_partition_that_is_not_mounted_is_an_error_and_not_empty() {
        let folder = tempfile::tempdir().unwrap();
        let esp = MountedEsp::new(folder.path(), Path::new("/bin/false"));
        assert!(esp.list().is_err());
        assert!(esp.mount().is_err());
        assert!(esp.temporary_bytes().is_err());
        assert!(esp.create_temporary(1).is_err());
        assert!(esp.remove(&name("slipway-000002-b.efi")).is_err());
        assert!(esp.sync().is_err());
    }
}
