//! How `tough` fetches: over the node's HTTP client, whole files of a bounded size.
//!
//! In: an address below a mirror. Out: the bytes, in one piece. **Invariant:** no answer is
//! larger than [`MAX_FILE_BYTES`] or takes longer than [`FILE_TIMEOUT`], whatever the server
//! does; and a target is only asked for below the addresses of the mirrors.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{Client, StatusCode, Url};
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};

/// Largest file of metadata, in bytes: the list of some ten thousand releases.
pub(super) const MAX_FILE_BYTES: u64 = 4 << 20;
/// Longest time for one file.
const FILE_TIMEOUT: Duration = Duration::from_secs(120);

/// Fetches from one mirror; a target, whose content is known, from the others as well.
#[derive(Debug, Clone)]
pub(super) struct HttpTransport {
    pub client: Client,
    /// Folder of the targets on the mirror whose metadata is believed.
    pub targets: Url,
    /// Folders of the targets on the others.
    pub others: Vec<Url>,
}

#[async_trait]
impl Transport for HttpTransport {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let mut result = self.fetch_bounded(&url).await;
        if let Some(path) = url.as_str().strip_prefix(self.targets.as_str()) {
            for other in &self.others {
                if result.is_ok() {
                    break;
                }
                // The digest is checked by the caller: a wrong copy is an error of its own, and
                // the next look starts with the next mirror.
                if let Ok(url) = other.join(path) {
                    result = self.fetch_bounded(&url).await;
                }
            }
        }
        let bytes = result?;
        Ok(Box::pin(futures_util::stream::once(std::future::ready(Ok(bytes)))))
    }
}

impl HttpTransport {
    async fn fetch_bounded(&self, url: &Url) -> Result<Bytes, TransportError> {
        match tokio::time::timeout(FILE_TIMEOUT, self.read(url)).await {
            Ok(result) => result,
            Err(_) => Err(failed(url, format!("took longer than {} s", FILE_TIMEOUT.as_secs()))),
        }
    }

    async fn read(&self, url: &Url) -> Result<Bytes, TransportError> {
        let sent = self.client.get(url.clone()).send().await;
        let mut answer = sent.map_err(|error| failed(url, plain(error)))?;
        match answer.status() {
            StatusCode::OK => {}
            // Object stores answer 403 for what is not there, to those who may not list.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => {
                return Err(TransportError::new(TransportErrorKind::FileNotFound, url));
            }
            status => return Err(failed(url, format!("the server answered {status}"))),
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(url, plain(error)))? {
            if bytes.len() as u64 + chunk.len() as u64 > MAX_FILE_BYTES {
                return Err(failed(url, format!("is larger than {MAX_FILE_BYTES} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }
}

/// The innermost cause in words: `reqwest` repeats the address in each layer.
fn plain(error: reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn failed(url: &Url, cause: String) -> TransportError {
    TransportError::new_with_cause(TransportErrorKind::Other, url, cause)
}
