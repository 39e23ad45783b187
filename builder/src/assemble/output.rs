//! What a release folder holds: boot files, disk images, report, and the signed document.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use contract::{FileDescription, ReleaseDocument, Slot};

use super::boot::SignedBoot;
use super::staging::{RELEASE_FILE, REPORT_FILE, SIGNATURE_FILE, Staging};
use super::{BuildError, pack};
use crate::formats::disk::{self, DiskContents};
use crate::formats::tree::{Content, digest_reader};
use crate::image::report::Report;
use crate::manifest::Manifest;
use crate::signing::keys::KeyFolder;

/// Which disk images are written besides the raw one.
pub struct DiskFormat {
    /// `disk.qcow2`.
    pub qcow2: bool,
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

/// Writes the report.
pub fn write_report(staging: &Staging, report: &Report) -> Result<(), BuildError> {
    write_text(&staging.path(REPORT_FILE), &report.to_json()?)
}

/// Writes the release document, signs it, and puts the folder in place.
pub fn finish(
    staging: Staging,
    document: &ReleaseDocument,
    keys: &KeyFolder,
) -> Result<(), BuildError> {
    let text = document.to_json()?;
    write_text(&staging.path(RELEASE_FILE), &text)?;
    let signature = keys.release_signer().sign(text.as_bytes())?;
    let digits: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    write_text(&staging.path(SIGNATURE_FILE), &(digits + "\n"))?;
    staging.commit()
}

fn write_text(path: &Path, text: &str) -> Result<(), BuildError> {
    fs::write(path, text).map_err(|error| BuildError::Write(path.into(), error))
}

/// Every file that is there by name, hashed in parallel.
pub fn describe(staging: &Staging) -> Result<Vec<FileDescription>, BuildError> {
    let folder = staging.folder();
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
