//! One request and its answer. In: an address and the bytes wanted. Out: chunks.
//! **Invariant:** an answer starts where it says, and brings at least the agreed bytes in the
//! agreed time, or ends in a [`Fault`].

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{StatusCode, Url};
use tokio::time::{Instant, timeout};

use super::error::Fault;
use super::limits::Limits;
use crate::effects::{ConnectionError, Http, Request, Response};

/// What a request asks for.
#[derive(Debug, Clone)]
pub enum Extent {
    /// Everything.
    Whole,
    /// These bytes.
    Range(Range<u64>),
}

/// An answer that is being read.
pub struct Answer<'a> {
    response: Response,
    limits: &'a Limits,
    window: Instant,
    window_bytes: u64,
    /// Where in the blob the answer starts, in bytes.
    pub start: u64,
}

/// Asks for some bytes of a file of `total` bytes.
///
/// # Errors
/// [`Fault::NoRange`] when the whole comes instead of a range; others as they happen.
pub async fn ask<'a>(
    client: &dyn Http,
    url: Url,
    extent: &Extent,
    total: u64,
    limits: &'a Limits,
) -> Result<Answer<'a>, Fault> {
    let mut request = Request::get(url);
    if let Extent::Range(range) = extent {
        let value = HeaderValue::from_str(&format!("bytes={}", shown(range)));
        let value = value.map_err(|error| Fault::Connection(ConnectionError::new(error)))?;
        request = request.with(RANGE, value);
    }
    let sent = timeout(limits.stall, client.send(request)).await;
    let response =
        sent.map_err(|_| Fault::Stalled(limits.stall.as_secs()))?.map_err(Fault::Connection)?;
    let start = match (extent, response.status) {
        (Extent::Whole, StatusCode::OK) => 0,
        (Extent::Range(range), StatusCode::PARTIAL_CONTENT) => {
            check_range(&response, range, total)?;
            range.start
        }
        (Extent::Range(_), StatusCode::OK) => return Err(Fault::NoRange),
        (_, status) => return Err(Fault::Status(status)),
    };
    Ok(Answer { response, limits, window: Instant::now(), window_bytes: 0, start })
}

impl Answer<'_> {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the connection fails or is too slow.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        let Limits { stall, window, window_bytes, .. } = *self.limits;
        let chunk = timeout(stall, self.response.body.chunk())
            .await
            .map_err(|_| Fault::Stalled(stall.as_secs()))?
            .map_err(Fault::Connection)?;
        self.window_bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if Instant::now().saturating_duration_since(self.window) >= window {
            if self.window_bytes < window_bytes {
                let (bytes, seconds) = (self.window_bytes, window.as_secs());
                return Err(Fault::TooSlow { bytes, seconds });
            }
            self.window = Instant::now();
            self.window_bytes = 0;
        }
        Ok(chunk)
    }

    /// Time that the receiver took does not count against the server.
    pub fn excuse(&mut self, time: Duration) {
        self.window += time;
    }
}

/// `FIRST-LAST`, as HTTP counts.
fn shown(range: &Range<u64>) -> String {
    format!("{}-{}", range.start, range.end.saturating_sub(1))
}

/// RFC 9110, 14.4. An answer may end early, which the reader notices; it may not start
/// elsewhere or be of another file.
fn check_range(response: &Response, asked: &Range<u64>, total: u64) -> Result<(), Fault> {
    let answered = response.headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let answered = answered.unwrap_or_default();
    let fits = || -> Option<bool> {
        let (range, whole) = answered.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        let known = whole == "*" || whole.parse() == Ok(total);
        Some(first == asked.start && last >= first && last < asked.end && known)
    };
    if fits() == Some(true) {
        return Ok(());
    }
    let answered = answered.chars().take(80).collect();
    Err(Fault::WrongRange { asked: shown(asked), answered })
}
