//! A release folder that is being made: beside its place, and put there in one step.
//!
//! **Invariant:** nothing but an earlier release, or an empty folder, is ever replaced.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::BuildError;

/// Name of the release document.
pub const RELEASE_FILE: &str = "release.json";
/// Ed25519 signature over the release document, 128 hexadecimal digits.
pub const SIGNATURE_FILE: &str = "release.json.sig";
/// Name of the report.
pub const REPORT_FILE: &str = "report.json";

/// A release folder that is being made; removed when dropped.
pub struct Staging {
    folder: TempDir,
    scratch: TempDir,
    out: PathBuf,
}

impl Staging {
    /// Makes the folder beside `out`, so that a rename can put it there.
    pub fn new(out: &Path) -> Result<Self, BuildError> {
        refuse_foreign(out)?;
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let failed = |error| BuildError::Write(parent.into(), error);
        fs::create_dir_all(parent).map_err(failed)?;
        let folder = |prefix| tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
        Ok(Self {
            folder: folder(".slipway-release-").map_err(failed)?,
            scratch: folder(".slipway-scratch-").map_err(failed)?,
            out: out.into(),
        })
    }

    /// A file of the release.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The hash tree, which is part of the disk image and not of the release.
    pub fn hash_tree(&self) -> PathBuf {
        self.scratch.path().join("verity")
    }

    /// The folder as it is now.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts the folder in place; what was there goes.
    ///
    /// # Errors
    /// [`BuildError::Write`]; `out` is then as it was.
    pub fn commit(self) -> Result<(), BuildError> {
        let failed = |error| BuildError::Write(self.out.clone(), error);
        set_public(self.folder.path()).map_err(failed)?;
        let staged = self.folder.path();
        match renameat_with(CWD, staged, CWD, &self.out, RenameFlags::EXCHANGE) {
            // The old release now stands in the staging folder and goes with it.
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::NOENT) => fs::rename(staged, &self.out).map_err(failed),
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Temporary folders are private; a release is for everyone.
fn set_public(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// Nothing but an earlier release, or an empty folder, is ever replaced.
fn refuse_foreign(out: &Path) -> Result<(), BuildError> {
    let failed = |error| BuildError::Write(out.into(), error);
    match fs::read_dir(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(BuildError::NotARelease(out.into()))
        }
        Err(error) => Err(failed(error)),
        Ok(mut entries) => {
            if entries.next().is_none() || out.join(RELEASE_FILE).exists() {
                return Ok(());
            }
            Err(BuildError::NotARelease(out.into()))
        }
    }
}
