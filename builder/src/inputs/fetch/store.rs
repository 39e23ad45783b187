//! A store: packages in the layout of a mirror, for the day when mirrors have dropped them.
//! In go packages that the cache has; out comes a folder that `--mirror` takes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::FetchError;
use super::mirror::archive_folder;
use crate::formats::tree::digest_reader;
use crate::inputs::cache::{Cache, persist};
use crate::lock::PackageLock;

/// Writes every package to `<folder>/<archive>/<path>`; gives the number of files that were
/// not there yet. Fetches nothing, and removes nothing from the folder.
///
/// # Errors
/// [`FetchError`]; a package that the cache lacks is [`FetchError::Missing`].
pub fn fill_store(
    packages: &[PackageLock],
    folder: &Path,
    cache: &Cache,
) -> Result<usize, FetchError> {
    let mut written = 0;
    for package in packages {
        let target = folder.join(archive_folder(&package.suite)).join(&package.path);
        let there = fs::metadata(&target).is_ok_and(|found| found.len() == package.size);
        if !there {
            copy_blob(package, &target, cache)?;
            written += 1;
        }
    }
    Ok(written)
}

fn copy_blob(package: &PackageLock, target: &Path, cache: &Cache) -> Result<(), FetchError> {
    let failed = |error| FetchError::io(target, error);
    let parent: PathBuf = target.parent().unwrap_or(Path::new(".")).to_owned();
    let mut blob =
        fs::File::open(cache.blob(&package.sha256)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                FetchError::Missing { files: vec![format!("{} {}", package.name, package.version)] }
            }
            _ => failed(error),
        })?;
    fs::create_dir_all(&parent).map_err(failed)?;
    let mut file = NamedTempFile::new_in(&parent).map_err(failed)?;
    io::copy(&mut blob, &mut file).map_err(failed)?;
    let mut copy = file.reopen().map_err(failed)?;
    let (found, _) = digest_reader(&mut copy).map_err(failed)?;
    if found != package.sha256 {
        let name = format!("{} {}", package.name, package.version);
        return Err(FetchError::WrongDigest { name, expected: package.sha256, found });
    }
    Ok(persist(file, target)?)
}
