//! One file from one address. In go an address and a digest; out comes the blob's place in
//! the cache. Downloads go on after a break (Range with If-Range, RFC 9110 section 14), are
//! tried again a few times, and end as soon as they are longer than they may be.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::partial::Partial;
use super::wanted::{Address, Wanted, without_credentials};
use super::{FetchError, is_cached};
use crate::inputs::cache::Cache;

/// Tries before a download is given up.
const ATTEMPTS: u32 = 4;
/// Pause before the second try; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest silence in the middle of a download.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A file that is in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedFile {
    /// The blob.
    pub path: PathBuf,
    /// Bytes that came for it just now.
    pub downloaded: u64,
}

/// An HTTP client and a cache; proxies come from the environment.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    cache: Cache,
}

impl Fetcher {
    /// Sets up the client; reaches no network.
    ///
    /// # Errors
    /// [`FetchError::Client`].
    pub fn new(cache: &Cache) -> Result<Self, FetchError> {
        let client = Client::builder()
            .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(FetchError::Client)?;
        Ok(Self { client, cache: cache.clone() })
    }

    /// Reads a small file that is not pinned, past the cache: the caller judges its bytes.
    ///
    /// # Errors
    /// [`FetchError`]; also when it is longer than `limit`.
    pub async fn read(
        &self,
        name: &str,
        address: &Address,
        limit: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let too_large = |found: usize| FetchError::WrongSize {
            name: name.to_owned(),
            found: found as u64,
            expected: format!("at most {limit}"),
        };
        let url = match address {
            Address::Url(url) => url,
            Address::File(path) => {
                let mut bytes = Vec::new();
                open(path, name)?
                    .take(limit + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|source| FetchError::io(path, source))?;
                let fits = bytes.len() as u64 <= limit;
                return if fits { Ok(bytes) } else { Err(too_large(bytes.len())) };
            }
        };
        let mut pauses = Pauses::new();
        loop {
            let attempt = async {
                let mut response = self.request(url, name, HeaderMap::new()).await?;
                let mut bytes = Vec::new();
                while let Some(chunk) = next_chunk(&mut response, name).await? {
                    bytes.extend_from_slice(&chunk);
                    if bytes.len() as u64 > limit {
                        return Err(too_large(bytes.len()));
                    }
                }
                Ok(bytes)
            };
            match attempt.await {
                Err(error) => pauses.wait_or_give_up(error).await?,
                Ok(bytes) => return Ok(bytes),
            }
        }
    }

    /// Brings a pinned file into the cache; `advance` hears of bytes as they are there.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(
        &self,
        wanted: &Wanted,
        advance: &dyn Fn(u64),
    ) -> Result<FetchedFile, FetchError> {
        let path = self.cache.blob(&wanted.sha256);
        if is_cached(&self.cache, &wanted.sha256, wanted.size) {
            return Ok(FetchedFile { path, downloaded: 0 });
        }
        let downloaded = match &wanted.address {
            Address::Url(url) => self.download(wanted, url, advance).await?,
            Address::File(_) => self.copy(wanted, advance)?,
        };
        Ok(FetchedFile { path, downloaded })
    }

    fn copy(&self, wanted: &Wanted, advance: &dyn Fn(u64)) -> Result<u64, FetchError> {
        let Address::File(path) = &wanted.address else { return Ok(0) };
        let mut source = open(path, &wanted.name)?;
        let mut partial = Partial::open(&self.cache, &wanted.sha256)?;
        partial.restart()?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = source.read(&mut buffer).map_err(|error| FetchError::io(path, error))?;
            if count == 0 {
                break;
            }
            partial.append(&buffer[..count], wanted)?;
            advance(count as u64);
        }
        let copied = partial.length();
        partial.finish(&self.cache, wanted)?;
        Ok(copied)
    }

    async fn download(
        &self,
        wanted: &Wanted,
        url: &Url,
        advance: &dyn Fn(u64),
    ) -> Result<u64, FetchError> {
        let mut partial = Partial::open(&self.cache, &wanted.sha256)?;
        let mut pauses = Pauses::new();
        let mut downloaded = 0;
        advance(partial.length());
        loop {
            let resumed = partial.length() > 0;
            let mut count = |amount| {
                downloaded += amount;
                advance(amount);
            };
            if let Err(error) = self.attempt(wanted, url, &mut partial, &mut count).await {
                pauses.wait_or_give_up(error).await?;
                continue;
            }
            if resumed && !partial.fits(wanted) {
                // The old beginning may be at fault: once more, from nothing.
                partial.restart()?;
                continue;
            }
            partial.finish(&self.cache, wanted)?;
            return Ok(downloaded);
        }
    }

    /// One request, appended to what is there already.
    async fn attempt(
        &self,
        wanted: &Wanted,
        url: &Url,
        partial: &mut Partial,
        advance: &mut dyn FnMut(u64),
    ) -> Result<(), FetchError> {
        if wanted.size.is_some_and(|size| size == partial.length()) {
            return Ok(());
        }
        let mut headers = HeaderMap::new();
        if let Some(validator) = partial.validator().filter(|_| partial.length() > 0)
            && let Ok(validator) = validator.parse()
            && let Ok(range) = format!("bytes={}-", partial.length()).parse()
        {
            headers.insert(RANGE, range);
            headers.insert(IF_RANGE, validator);
        } else {
            partial.restart()?;
        }
        let mut response = match self.request(url, &wanted.name, headers).await {
            // The server has fewer bytes than we: what we have is of another file.
            Err(FetchError::Status { status: 416, .. }) if partial.length() > 0 => {
                partial.restart()?;
                self.request(url, &wanted.name, HeaderMap::new()).await?
            }
            other => other?,
        };
        if response.status() != StatusCode::PARTIAL_CONTENT
            || range_start(&response) != Some(partial.length())
        {
            partial.restart()?;
            if response.status() == StatusCode::PARTIAL_CONTENT {
                response = self.request(url, &wanted.name, HeaderMap::new()).await?;
            }
        }
        partial.remember(validator_of(response.headers()))?;
        while let Some(chunk) = next_chunk(&mut response, &wanted.name).await? {
            partial.append(&chunk, wanted)?;
            advance(chunk.len() as u64);
        }
        Ok(())
    }

    async fn request(
        &self,
        url: &Url,
        name: &str,
        headers: HeaderMap,
    ) -> Result<Response, FetchError> {
        let failed = |source| FetchError::Network { name: name.to_owned(), source };
        let response =
            self.client.get(url.clone()).headers(headers).send().await.map_err(failed)?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(FetchError::NotFound {
                name: name.to_owned(),
                address: without_credentials(url),
            }),
            status => Err(FetchError::Status { name: name.to_owned(), status: status.as_u16() }),
        }
    }
}

fn open(path: &std::path::Path, name: &str) -> Result<File, FetchError> {
    File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            FetchError::NotFound { name: name.to_owned(), address: path.display().to_string() }
        }
        _ => FetchError::io(path, error),
    })
}

async fn next_chunk(
    response: &mut Response,
    name: &str,
) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]> + use<>>, FetchError> {
    let failed = |source| FetchError::Network { name: name.to_owned(), source };
    response.chunk().await.map_err(failed)
}

/// What If-Range may carry: a strong ETag, else the time of the last change.
fn validator_of(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    text(ETAG).filter(|tag| !tag.starts_with("W/")).or_else(|| text(LAST_MODIFIED))
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// The pauses between tries, which double.
struct Pauses {
    failed: u32,
}

impl Pauses {
    fn new() -> Self {
        Self { failed: 0 }
    }

    /// Waits when the error may pass, else gives it back.
    async fn wait_or_give_up(&mut self, error: FetchError) -> Result<(), FetchError> {
        self.failed += 1;
        let may_pass = match &error {
            FetchError::Network { .. } => true,
            FetchError::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        };
        if !may_pass || self.failed >= ATTEMPTS {
            return Err(error);
        }
        tokio::time::sleep(FIRST_PAUSE * 2u32.pow(self.failed - 1)).await;
        Ok(())
    }
}
