//! `slipway lock` and `slipway fetch`.

use std::path::Path;
use std::time::SystemTime;

use serde_json::json;

use super::arguments::{FetchArguments, LockArguments};
use super::environment::{cache, jobs, source};
use super::outcome::{Answer, ExitStatus, Failed};
use crate::assemble::{
    self, BuildError, Gathering, check_lock, find_lock, go_locks, lock_of, read_lock,
};
use crate::inputs::debian::ExpirationEnforcement;
use crate::inputs::fetch::{FetchError, Source, fill_store};
use crate::lock::{Lock, LockError, LockRequest, lock_packages};
use crate::manifest::{self, Manifest, lock_path};
use crate::progress::Progress;

/// Writes or checks the lock.
pub async fn lock(arguments: &LockArguments, progress: &Progress) -> Result<Answer, Failed> {
    let manifest = manifest::read(&arguments.manifest).map_err(BuildError::from)?;
    if arguments.check {
        let file = find_lock(&manifest);
        check_lock(&manifest, &read_lock(&file)?, &file)?;
        return Ok(Answer {
            text: format!("{} matches its manifest\n", file.display()),
            json: json!({ "lock": file, "matches": true }),
        });
    }
    let file = arguments.out.clone().unwrap_or_else(|| lock_path(&manifest.file));
    let before = read_lock(&file).ok();
    let lock = resolve(&manifest, arguments, progress).await?;
    let text = lock.to_text().map_err(Failed::other)?;
    write_lock(&file, &text)?;
    Ok(describe(&file, before.as_ref(), &lock))
}

async fn resolve(
    manifest: &Manifest,
    arguments: &LockArguments,
    progress: &Progress,
) -> Result<Lock, Failed> {
    let Source::Mirrors(mirrors) = source(&arguments.source)? else {
        return Err(Failed {
            message:
                "`slipway lock` asks a mirror which packages there are: run it without --offline"
                    .into(),
            status: ExitStatus::Usage,
        });
    };
    let request = LockRequest {
        suites: manifest.debian.suites.clone(),
        components: manifest.debian.components.clone(),
        packages: manifest.requested_packages(),
        architecture: manifest.image.architecture,
        keyring: manifest.debian.keyring.clone(),
        now: SystemTime::now(),
        expiration: if arguments.allow_expired_index {
            ExpirationEnforcement::Ignore
        } else {
            ExpirationEnforcement::Enforce
        },
    };
    let debian =
        lock_packages(&request, &mirrors, &cache()?, progress).await.map_err(
            |error| match error {
                LockError::Fetch(error) => Failed::other(error),
                error => Failed::input(error),
            },
        )?;
    Ok(lock_of(debian, go_locks(manifest).map_err(BuildError::from)?))
}

/// Writes the lock through a temporary file: a failure leaves the old one as it was.
fn write_lock(file: &Path, text: &str) -> Result<(), Failed> {
    let failed = |error| Failed::from(BuildError::Write(file.into(), error));
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    std::fs::write(temporary.path(), text).map_err(failed)?;
    let public = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    temporary.as_file().set_permissions(public).map_err(failed)?;
    temporary.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}

/// What changed, a line for each package.
fn describe(file: &Path, before: Option<&Lock>, lock: &Lock) -> Answer {
    let version = |lock: Option<&Lock>, name: &str| {
        let package = lock?.debian.package.iter().find(|package| package.name == name)?;
        Some(package.version.clone())
    };
    let mut names: Vec<&str> = before
        .into_iter()
        .chain([lock])
        .flat_map(|lock| lock.debian.package.iter().map(|package| package.name.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut text = String::new();
    let mut changes = Vec::new();
    for name in names {
        let (old, new) = (version(before, name), version(Some(lock), name));
        if old == new || before.is_none() {
            continue;
        }
        let show = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".into());
        text += &format!("{name}: {} -> {}\n", show(&old), show(&new));
        changes.push(json!({ "package": name, "old": old, "new": new }));
    }
    let (packages, modules) = (lock.debian.package.len(), lock.go.len());
    text += &format!("{}: {packages} packages, {modules} Go modules\n", file.display());
    Answer {
        text,
        json: json!({ "lock": file, "packages": packages, "goModules": modules, "changes": changes }),
    }
}

/// Fetches what the lock pins.
pub async fn fetch(arguments: &FetchArguments, progress: &Progress) -> Result<Answer, Failed> {
    let manifest = manifest::read(&arguments.manifest).map_err(BuildError::from)?;
    let file = arguments.lock.clone().unwrap_or_else(|| find_lock(&manifest));
    let lock = read_lock(&file)?;
    let (source, cache) = (source(&arguments.source)?, cache()?);
    let gathering =
        Gathering { source: &source, jobs: jobs(arguments.source.jobs), cache: &cache, progress };
    let fetched = assemble::fetch(&manifest, &lock, &gathering).await?;
    let mut text =
        format!("{} packages downloaded, {} were there\n", fetched.downloaded, fetched.cached);
    let mut stored = None;
    if let Some(store) = &arguments.store {
        let count = fill_store(&lock.debian.package, store, &cache)
            .map_err(|error: FetchError| Failed::other(error))?;
        text += &format!("{count} packages copied to {}\n", store.display());
        stored = Some(count);
    }
    let json = json!({
        "downloaded": fetched.downloaded,
        "cached": fetched.cached,
        "bytes": fetched.bytes,
        "stored": stored,
    });
    Ok(Answer { text, json })
}
