//! The release folder: made beside its place, and put there in one step.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use contract::{FileDescription, ReleaseDocument, Slot};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::boot::SignedBoot;
use super::{BuildError, pack};
use crate::formats::disk::{self, DiskContents};
use crate::formats::tree::{Content, digest_reader};
use crate::image::report::Report;
use crate::manifest::Manifest;
use crate::signing::keys::KeyFolder;

/// Name of the release document.
pub const RELEASE_FILE: &str = "release.json";
/// Ed25519 signature over the release document, 128 hexadecimal digits.
pub const SIGNATURE_FILE: &str = "release.json.sig";
/// Name of the report.
pub const REPORT_FILE: &str = "report.json";

/// Which disk images are written besides the raw one.
pub struct DiskFormat {
    /// `disk.qcow2`.
    pub qcow2: bool,
}

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

    /// Puts the folder in place; what was there goes.
    fn commit(self) -> Result<(), BuildError> {
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

/// Writes the UKIs of both slots.
pub fn write_boot_files(staging: &Staging, signed: &SignedBoot) -> Result<(), BuildError> {
    for slot in Slot::ALL {
        write_content(&staging.path(&format!("slipway-{slot}.efi")), &signed.ukis[&slot])?;
    }
    Ok(())
}

fn write_content(path: &Path, content: &Content) -> Result<(), BuildError> {
    let failed = |error| BuildError::Write(path.into(), error);
    let mut reader = content.reader().map_err(failed)?;
    let mut file = File::create_new(path).map_err(failed)?;
    io::copy(&mut reader, &mut file).map_err(failed)?;
    Ok(())
}

/// Writes the disk images.
pub fn write_disk(
    staging: &Staging,
    manifest: &Manifest,
    signed: &SignedBoot,
    format: &DiskFormat,
) -> Result<(), BuildError> {
    let raw = staging.path("disk.raw");
    let failed = |error| BuildError::Write(raw.clone(), error);
    let mut file =
        File::options().read(true).write(true).create_new(true).open(&raw).map_err(failed)?;
    let contents = DiskContents {
        esp: signed.esp.clone(),
        root: &staging.path("root.erofs"),
        verity: &staging.hash_tree(),
        architecture: manifest.image.architecture,
        seed: pack::seed(manifest),
    };
    disk::write(&contents, &mut file)?;
    if format.qcow2 {
        let path = staging.path("disk.qcow2");
        let mut out = File::create_new(&path).map_err(|error| BuildError::Write(path, error))?;
        disk::write_qcow2(&mut file, &mut out)?;
    }
    Ok(())
}

/// Writes report and release document, signs the latter, and puts the folder in place.
pub fn finish(
    staging: Staging,
    mut document: ReleaseDocument,
    report: &Report,
    keys: &KeyFolder,
) -> Result<ReleaseDocument, BuildError> {
    write_text(&staging.path(REPORT_FILE), &report.to_json()?)?;
    document.files = describe(staging.folder.path())?;
    let text = document.to_json()?;
    write_text(&staging.path(RELEASE_FILE), &text)?;
    let signature = keys.release_signer().sign(text.as_bytes())?;
    let digits: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    write_text(&staging.path(SIGNATURE_FILE), &(digits + "\n"))?;
    staging.commit()?;
    Ok(document)
}

fn write_text(path: &Path, text: &str) -> Result<(), BuildError> {
    fs::write(path, text).map_err(|error| BuildError::Write(path.into(), error))
}

/// Every file of the folder by name, hashed in parallel.
fn describe(folder: &Path) -> Result<Vec<FileDescription>, BuildError> {
    let failed = |error| BuildError::Write(folder.into(), error);
    let names: BTreeSet<String> = fs::read_dir(folder)
        .and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        })
        .map_err(failed)?;
    std::thread::scope(|scope| {
        let workers: Vec<_> = names
            .into_iter()
            .map(|name| {
                scope.spawn(move || {
                    let (sha256, bytes) = digest_reader(&mut File::open(folder.join(&name))?)?;
                    Ok(FileDescription { name, bytes, sha256 })
                })
            })
            .collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, io::Result<_>>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect::<io::Result<_>>().map_err(failed)
    })
}
