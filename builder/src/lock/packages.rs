//! From a request for packages to their lock. In go suites, names and a keyring; out comes
//! the whole closure with versions and digests, and which signed indexes it was taken from.
//!
//! **Invariant:** each package's digest comes from an index whose own digest a verified
//! InRelease file lists.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use contract::Architecture;

use super::{DebianLock, IndexLock, PackageLock};
use crate::inputs::cache::Cache;
use crate::inputs::debian::index::{
    InvalidIndex, MAX_COMPRESSED_BYTES, MAX_INDEX_BYTES, Record, parse_index,
};
use crate::inputs::debian::release::{
    ExpirationEnforcement, Judgement, MAX_KEYRING_BYTES, MAX_RELEASE_BYTES, Release, ReleaseError,
    verify,
};
use crate::inputs::debian::solve::{SolveError, solve};
use crate::inputs::fetch::mirror::{Location, Mirrors};
use crate::inputs::fetch::{FetchError, Fetcher, Wanted};
use crate::progress::Progress;

/// What to lock.
#[derive(Debug, Clone)]
pub struct LockRequest {
    /// Such as `trixie`, `trixie-updates`, `trixie-security`, in the manifest's order.
    pub suites: Vec<String>,
    /// Such as `main`.
    pub components: Vec<String>,
    /// Package names.
    pub packages: BTreeSet<String>,
    /// What the packages run on.
    pub architecture: Architecture,
    /// A binary OpenPGP keyring, such as Debian's archive keyring.
    pub keyring: PathBuf,
    /// The time at which keys and indexes must be valid.
    pub now: SystemTime,
    /// What an index past its time means.
    pub expiration: ExpirationEnforcement,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The keyring cannot be read.
    #[error(
        "cannot read the keyring {path}: install the package debian-archive-keyring, or name another keyring"
    )]
    Keyring {
        /// The keyring.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The signed index is not believed.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A file of the mirror could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A package index is damaged.
    #[error(transparent)]
    Index(#[from] InvalidIndex),
    /// The suite has no such component or architecture.
    #[error(
        "the suite {suite} lists no `{path}`: correct the suites and components in the manifest"
    )]
    NoComponent {
        /// The suite.
        suite: String,
        /// The missing index, below the suite.
        path: String,
    },
    /// No set of packages fits.
    #[error(transparent)]
    Solve(#[from] SolveError),
}

/// Reads the suites' signed indexes from `mirrors` and resolves the request. Fetches no
/// package.
///
/// # Errors
/// [`LockError`], with the way on.
pub async fn lock_packages(
    request: &LockRequest,
    mirrors: &Mirrors,
    cache: &Cache,
    progress: &Progress,
) -> Result<DebianLock, LockError> {
    let keyring = read_keyring(&request.keyring)?;
    let fetcher = Fetcher::new(cache)?;
    let mut records = Vec::new();
    let mut indexes = Vec::new();
    for (number, suite) in request.suites.iter().enumerate() {
        let task = progress.task(&format!("index of {suite}"));
        let archive = mirrors.archive(suite);
        let name = format!("InRelease of {suite}");
        let address = archive.address(&format!("dists/{suite}/InRelease"));
        let bytes = fetcher.read(&name, &address, MAX_RELEASE_BYTES).await?;
        let release = verify(
            &bytes,
            &Judgement {
                suite,
                keyring: &keyring,
                now: request.now,
                expiration: request.expiration,
            },
        )?;
        let before = records.len();
        for component in &request.components {
            let suite = SuiteIndex { fetcher: &fetcher, archive, release: &release, suite, number };
            records.extend(suite.read(component, request.architecture).await?);
        }
        task.finish(&format!("{} packages, {}", records.len() - before, release.date));
        let Release { date, signed_by, .. } = release;
        indexes.push(IndexLock { suite: suite.clone(), date, signed_by });
    }
    let found = solve(&records, &request.packages, request.architecture.debian())?;
    Ok(DebianLock {
        requested: request.packages.iter().cloned().collect(),
        index: indexes,
        package: found.into_iter().map(|record| lock_record(record, &request.suites)).collect(),
    })
}

fn lock_record(record: Record, suites: &[String]) -> PackageLock {
    PackageLock {
        name: record.name,
        version: record.version.to_string(),
        architecture: record.architecture,
        suite: suites[record.suite].clone(),
        size: record.size,
        sha256: record.sha256,
        path: record.path,
    }
}

fn read_keyring(path: &Path) -> Result<Vec<u8>, LockError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_KEYRING_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|source| LockError::Keyring { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// A suite whose InRelease file is verified.
struct SuiteIndex<'a> {
    fetcher: &'a Fetcher,
    archive: &'a Location,
    release: &'a Release,
    suite: &'a str,
    number: usize,
}

impl SuiteIndex<'_> {
    async fn read(
        &self,
        component: &str,
        architecture: Architecture,
    ) -> Result<Vec<Record>, LockError> {
        let folder = format!("{component}/binary-{}", architecture.debian());
        let path = format!("{folder}/Packages.xz");
        let listed = self.release.files.get(&path).ok_or_else(|| LockError::NoComponent {
            suite: self.suite.to_owned(),
            path: path.clone(),
        })?;
        let damaged = |reason: String| InvalidIndex {
            suite: self.suite.to_owned(),
            package: path.clone(),
            reason,
        };
        if listed.size > MAX_COMPRESSED_BYTES {
            return Err(damaged(format!("it is larger than {MAX_COMPRESSED_BYTES} bytes")).into());
        }
        let base = format!("dists/{}", self.suite);
        let mut wanted = Wanted {
            name: format!("{} of {}", path, self.suite),
            address: self.archive.address(&format!("{base}/{path}")),
            size: Some(listed.size),
            limit: MAX_COMPRESSED_BYTES,
            sha256: listed.sha256,
        };
        let plain = wanted.clone();
        if self.release.by_hash {
            let path = format!("{base}/{folder}/by-hash/SHA256/{}", listed.sha256);
            wanted.address = self.archive.address(&path);
        }
        let file = match self.fetcher.fetch(&wanted, &|_| ()).await {
            // Some mirrors announce by-hash and do not carry it.
            Err(FetchError::NotFound { .. }) if self.release.by_hash => {
                self.fetcher.fetch(&plain, &|_| ()).await?
            }
            other => other?,
        };
        let text = decompress(&file.path).map_err(|error| damaged(error.to_string()))?;
        Ok(parse_index(&text, self.suite, self.number)?)
    }
}

fn decompress(path: &Path) -> std::io::Result<String> {
    let file = std::io::BufReader::new(std::fs::File::open(path)?);
    let mut text = String::new();
    let mut reader = liblzma::bufread::XzDecoder::new(file).take(MAX_INDEX_BYTES + 1);
    reader.read_to_string(&mut text)?;
    if text.len() as u64 > MAX_INDEX_BYTES {
        return Err(std::io::Error::other(format!("it unpacks to over {MAX_INDEX_BYTES} bytes")));
    }
    Ok(text)
}
