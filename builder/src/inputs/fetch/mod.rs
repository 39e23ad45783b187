//! Files into the cache. In go what a lock pins and where to take it from; out comes the
//! certainty that the cache holds every one, with the right SHA-256.
//!
//! **Invariant:** a blob in the cache has the digest of its name: it gets that name only
//! after its bytes were hashed.

pub mod apt_sources;
mod download;
pub mod mirror;
mod partial;
mod store;
mod wanted;

use std::io;
use std::path::{Path, PathBuf};

use contract::Digest;
use futures_util::stream::{self, StreamExt};
use url::Url;

pub use download::{FetchedFile, Fetcher};
pub use mirror::Mirrors;
pub use store::fill_store;
pub use wanted::{Address, Wanted};

use crate::inputs::cache::{Cache, CacheError};
use crate::lock::PackageLock;
use crate::progress::Progress;

/// Why a file is not in the cache.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The mirror does not carry these packages any more.
    #[error(
        "the mirror no longer has {}: Debian drops superseded packages; run `slipway lock` to \
         take the current ones, or give `--mirror` a snapshot or a store filled by \
         `slipway fetch --store DIR`", .packages.join(", ")
    )]
    Superseded {
        /// Name and version of each.
        packages: Vec<String>,
    },
    /// The server or folder has no such file.
    #[error(
        "{name} is not at {address}: check the address or the suite, or try another `--mirror`"
    )]
    NotFound {
        /// What it is.
        name: String,
        /// Where it was looked for.
        address: String,
    },
    /// Offline, and not all is there.
    #[error("not in the cache, and `--offline` is given: {}; run `slipway fetch` with a network first", .files.join(", "))]
    Missing {
        /// Everything that is missing.
        files: Vec<String>,
    },
    /// The bytes are not those that the lock or index pins.
    #[error(
        "{name} has the SHA-256 {found} instead of {expected}: it was changed at its source or \
         on the way; try another `--mirror`, or lock again after finding out why"
    )]
    WrongDigest {
        /// What it is.
        name: String,
        /// As pinned.
        expected: Digest,
        /// Of the bytes that came.
        found: Digest,
    },
    /// More or fewer bytes than pinned or allowed.
    #[error("{name} has {found} bytes instead of {expected}: try another `--mirror`")]
    WrongSize {
        /// What it is.
        name: String,
        /// Bytes that came before it was given up.
        found: u64,
        /// A size, or a limit.
        expected: String,
    },
    /// The server answered with an error.
    #[error("the server answers {status} for {name}: try later, or another `--mirror`")]
    Status {
        /// What it is.
        name: String,
        /// HTTP status code.
        status: u16,
    },
    /// No connection, or it broke.
    #[error(
        "cannot fetch {name}: check the network and the proxy variables, or build with `--offline`"
    )]
    Network {
        /// What it is.
        name: String,
        /// What the client says.
        #[source]
        source: reqwest::Error,
    },
    /// The HTTP client cannot be set up.
    #[error(
        "cannot set up the HTTP client: check the proxy variables, and that the package ca-certificates is installed"
    )]
    Client(#[source] reqwest::Error),
    /// The disk is full.
    #[error("no room left for {path}: free some, or set XDG_CACHE_HOME to a larger file system")]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot read or write {path}: check its permissions")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The cache folder.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl FetchError {
    /// Names a full disk as such.
    fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                FetchError::DiskFull { path: path.to_owned() }
            }
            _ => FetchError::Io { path: path.to_owned(), source },
        }
    }
}

/// Where files may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Mirrors, and the network for other addresses.
    Mirrors(Mirrors),
    /// The cache alone.
    Offline,
}

/// How to fetch.
#[derive(Clone, Copy)]
pub struct Fetching<'a> {
    /// Where from.
    pub source: &'a Source,
    /// Downloads at a time.
    pub jobs: usize,
    /// Where to.
    pub cache: &'a Cache,
    /// Who watches.
    pub progress: &'a Progress,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Files that the cache had.
    pub cached: usize,
    /// Files that came.
    pub downloaded: usize,
    /// Bytes that came, without those of an earlier, broken download.
    pub bytes: u64,
}

/// Any other file, pinned by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlFile {
    /// An http(s) address.
    pub url: Url,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// Most bytes that are taken.
    pub limit: u64,
}

/// Brings every package into the cache. Packages that are there already cost no request.
///
/// # Errors
/// [`FetchError`]; all missing or superseded packages are named at once. What was fetched
/// until then stays in the cache, and a broken download goes on where it ended.
pub async fn fetch_all(
    packages: &[PackageLock],
    fetching: &Fetching<'_>,
) -> Result<Fetched, FetchError> {
    let (cached, absent): (Vec<_>, Vec<_>) = packages
        .iter()
        .partition(|package| is_cached(fetching.cache, &package.sha256, Some(package.size)));
    let done = Fetched { cached: cached.len(), ..Fetched::default() };
    let mirrors = match fetching.source {
        _ if absent.is_empty() => return Ok(done),
        Source::Mirrors(mirrors) => mirrors,
        Source::Offline => {
            return Err(FetchError::Missing { files: absent.into_iter().map(title).collect() });
        }
    };
    let fetcher = Fetcher::new(fetching.cache)?;
    let total = absent.iter().map(|package| package.size).sum();
    let task = fetching.progress.bytes("packages", total);
    let advance = |amount| task.advance(amount);
    let downloads = absent.into_iter().map(|package| {
        let wanted = wanted_package(package, mirrors);
        let (fetcher, advance) = (&fetcher, &advance);
        async move { (wanted.name.clone(), fetcher.fetch(&wanted, advance).await) }
    });
    let mut results = stream::iter(downloads).buffer_unordered(fetching.jobs.max(1));
    let (mut done, mut superseded) = (done, Vec::new());
    while let Some((name, result)) = results.next().await {
        match result {
            Ok(file) => {
                done.downloaded += 1;
                done.bytes += file.downloaded;
            }
            // Asking for the rest shows all that is gone at once.
            Err(FetchError::NotFound { .. }) => superseded.push(name),
            Err(error) => return Err(error),
        }
    }
    drop(results);
    superseded.sort();
    if !superseded.is_empty() {
        return Err(FetchError::Superseded { packages: superseded });
    }
    task.finish(&format!("{} fetched, {} from the cache", done.downloaded, done.cached));
    Ok(done)
}

fn title(package: &PackageLock) -> String {
    format!("{} {}", package.name, package.version)
}

fn wanted_package(package: &PackageLock, mirrors: &Mirrors) -> Wanted {
    Wanted {
        name: title(package),
        address: mirrors.archive(&package.suite).address(&package.path),
        size: Some(package.size),
        limit: package.size,
        sha256: package.sha256,
    }
}

/// Brings one file of any address into the cache and tells where it is.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch_url(file: &UrlFile, fetching: &Fetching<'_>) -> Result<PathBuf, FetchError> {
    let path = fetching.cache.blob(&file.sha256);
    if is_cached(fetching.cache, &file.sha256, None) {
        return Ok(path);
    }
    let name = wanted::without_credentials(&file.url);
    if *fetching.source == Source::Offline {
        return Err(FetchError::Missing { files: vec![name] });
    }
    let task = fetching.progress.task(&name);
    let wanted = Wanted {
        name,
        address: Address::Url(file.url.clone()),
        size: None,
        limit: file.limit,
        sha256: file.sha256,
    };
    let fetched = Fetcher::new(fetching.cache)?.fetch(&wanted, &|_| ()).await?;
    task.finish(&format!("{} bytes", fetched.downloaded));
    Ok(path)
}

/// True when the cache has the blob. Only its size is looked at: a name in the cache was
/// given after hashing, and unpacking hashes again.
fn is_cached(cache: &Cache, digest: &Digest, size: Option<u64>) -> bool {
    std::fs::metadata(cache.blob(digest))
        .is_ok_and(|found| found.is_file() && size.is_none_or(|size| size == found.len()))
}
