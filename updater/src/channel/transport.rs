//! How `tough` fetches: over the node's HTTP client, whole files of a bounded size.
//!
//! In: an address below a mirror. Out: the bytes, in one piece. **Invariant:** no answer is
//! larger than [`MAX_METADATA_BYTES`] or takes longer than [`FILE_TIMEOUT`], whatever the server
//! does; and a target is only asked for below the addresses of the mirrors.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use contract::channel::targets::MAX_METADATA_BYTES;
use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};

use crate::effects::http::innermost;
use crate::effects::{Http, Request};

/// Longest time for one file.
const FILE_TIMEOUT: Duration = Duration::from_secs(120);

/// Fetches from one mirror; a target, whose content is known, from the others as well.
#[derive(Debug, Clone)]
pub(super) struct HttpTransport {
    pub client: Arc<dyn Http>,
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
        let sent = self.client.send(Request::get(url.clone())).await;
        let mut answer = sent.map_err(|error| failed(url, innermost(&error)))?;
        match answer.status {
            StatusCode::OK => {}
            // Object stores answer 403 for what is not there, to those who may not list.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => {
                return Err(TransportError::new(TransportErrorKind::FileNotFound, url));
            }
            status => {
                let retry_after = retry_after(&answer.headers);
                return Err(failed(url, HttpRefusal { status, retry_after }));
            }
        }
        let mut bytes = Vec::new();
        loop {
            let chunk =
                answer.body.chunk().await.map_err(|error| failed(url, innermost(&error)))?;
            let Some(chunk) = chunk else { break };
            if bytes.len() as u64 + chunk.len() as u64 > MAX_METADATA_BYTES {
                return Err(failed(url, format!("is larger than {MAX_METADATA_BYTES} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }
}

/// A server that answers, and not with the file.
#[derive(Debug, thiserror::Error)]
#[error("the server answered {status}")]
pub(super) struct HttpRefusal {
    status: StatusCode,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date. A date is held against the server's own
/// clock, because this node's may be wrong.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok();
    let after = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| rfc2822::parse(text).ok().map(|date| date.timestamp());
    let wait = date(after)?.duration_since(date(text(DATE)?)?);
    Duration::try_from(wait).ok()
}

fn failed(url: &Url, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TransportError {
    TransportError::new_with_cause(TransportErrorKind::Other, url, cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_clock() {
        let read = |after: &'static str, date: Option<&'static str>| {
            let mut headers = HeaderMap::from_iter([(RETRY_AFTER, after.parse().unwrap())]);
            headers.extend(date.map(|date| (DATE, date.parse().unwrap())));
            retry_after(&headers).map(|wait| wait.as_secs())
        };
        let (noon, later) = ("Fri, 27 Nov 2026 12:00:00 GMT", "Fri, 27 Nov 2026 12:05:00 GMT");
        assert_eq!(read("120", None), Some(120));
        assert_eq!(read(later, Some(noon)), Some(300));
        assert_eq!(read(later, None), None);
        assert_eq!(read(noon, Some(later)), None);
        for wrong in ["", "-1", "soon", "99999999999999999999999"] {
            assert_eq!(read(wrong, Some(noon)), None, "{wrong}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
