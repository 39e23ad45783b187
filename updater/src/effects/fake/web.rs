//! The network of the fake node: web servers in memory that misbehave when told to, and an API
//! server.
//!
//! In: files by host and path. Out: answers. **Invariant:** time in which nobody answers is time of
//! tokio's clock; a client with a limit gives up when it is over, as the real one does.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use contract::node::settings::NetworkSettings;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE, RETRY_AFTER};
use tokio::time::{sleep, timeout};

use super::api_server::ApiServer;
use super::dice::Dice;
use crate::effects::network::Body;
use crate::effects::off_thread::in_line::of_the_test;
use crate::effects::{ClientError, ConnectionError, Http, Network, Request, Response};

/// How a request to a web server is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As it should be.
    Honest,
    /// The whole, whatever was asked for.
    IgnoresRange,
    /// The connection ends after so many bytes of content.
    Stops(usize),
    /// Says that it has fewer bytes than were asked for.
    ShortRange,
    /// Changes one bit of the content.
    Corrupts,
    /// This status, without content.
    Status(u16),
    /// Content from another place than was asked for, and says so.
    WrongRange,
    /// Content from another place than was asked for, and does not say so.
    LiesAboutRange,
    /// `206` without saying which range.
    NoContentRange,
    /// The right bytes, and then more.
    Endless,
    /// Takes the request and says nothing.
    Silent,
    /// A byte now and then.
    Trickles,
    /// Closes at once.
    HangsUp,
}

/// Each of them.
pub const MANNERS: [Manner; 15] = [
    Manner::IgnoresRange,
    Manner::Stops(0),
    Manner::Stops(5000),
    Manner::ShortRange,
    Manner::Corrupts,
    Manner::Status(404),
    Manner::Status(416),
    Manner::Status(503),
    Manner::WrongRange,
    Manner::LiesAboutRange,
    Manner::NoContentRange,
    Manner::Endless,
    Manner::Silent,
    Manner::Trickles,
    Manner::HangsUp,
];

/// Files of a server by path, without the first slash.
pub type Files = BTreeMap<String, Bytes>;

struct Inner {
    hosts: BTreeMap<String, Files>,
    /// How the next requests are answered, one each; the others are answered honestly.
    manners: VecDeque<Manner>,
    /// Nobody reaches any web server.
    is_down: bool,
    requests: usize,
    /// The content of an answer was read that says to be of other bytes than were asked for.
    misread: bool,
    dice: Dice,
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Web {
    inner: Arc<Mutex<Inner>>,
    /// The cluster's.
    pub api_server: ApiServer,
}

impl Web {
    /// A network without web servers.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            hosts: BTreeMap::new(),
            manners: VecDeque::new(),
            is_down: false,
            requests: 0,
            misread: false,
            dice: Dice::new(seed),
        };
        Self { inner: Arc::new(Mutex::new(inner)), api_server: ApiServer::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Puts files on a server, in place of those that were there.
    pub fn serve(&self, host: &str, files: Files) {
        self.lock().hosts.insert(host.to_owned(), files);
    }

    /// The next requests are answered so.
    pub fn misbehave(&self, manners: impl IntoIterator<Item = Manner>) {
        self.lock().manners.extend(manners);
    }

    /// Cuts the line to all web servers, or mends it.
    pub fn set_down(&self, is_down: bool) {
        self.lock().is_down = is_down;
    }

    /// Everything is well from now on.
    pub fn heal(&self) {
        let mut inner = self.lock();
        inner.manners.clear();
        inner.is_down = false;
        drop(inner);
        self.api_server.set_silent(false);
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.lock().requests
    }

    /// True when the content of an answer was read that does not say that it is of the bytes that
    /// were asked for.
    pub fn misread(&self) -> bool {
        self.lock().misread
    }
}

impl Network for Web {
    fn mirrors(&self, _: &NetworkSettings) -> Result<Arc<dyn Http>, ClientError> {
        Ok(Arc::new(Client { web: self.clone(), limit: None, is_api_server: false }))
    }

    fn api_server(
        &self,
        _: &str,
        _: Option<&[u8]>,
        limit: Duration,
    ) -> Result<Arc<dyn Http>, ClientError> {
        Ok(Arc::new(Client { web: self.clone(), limit: Some(limit), is_api_server: true }))
    }

    fn metadata(&self, limit: Duration) -> Result<Arc<dyn Http>, ClientError> {
        Ok(Arc::new(Client { web: self.clone(), limit: Some(limit), is_api_server: false }))
    }
}

struct Client {
    web: Web,
    limit: Option<Duration>,
    is_api_server: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

#[async_trait]
impl Http for Client {
    async fn send(&self, request: Request) -> Result<Response, ConnectionError> {
        let answer = async {
            match self.is_api_server {
                true => self.web.api_server.answer(&request).await,
                false => self.web.answer(&request).await,
            }
        };
        of_the_test(async {
            // An answer takes a moment, in which others get on.
            sleep(Duration::from_millis(2)).await;
            match self.limit {
                Some(limit) => timeout(limit, answer)
                    .await
                    .unwrap_or_else(|_| Err(ConnectionError::new("operation timed out"))),
                None => answer.await,
            }
        })
        .await
    }
}

impl Web {
    async fn answer(&self, request: &Request) -> Result<Response, ConnectionError> {
        let (manner, content, bit) = {
            let mut inner = self.lock();
            inner.requests += 1;
            if inner.is_down {
                return Err(ConnectionError::new("Connection refused"));
            }
            let manner = inner.manners.pop_front().unwrap_or(Manner::Honest);
            let files = inner.hosts.get(request.url.host_str().unwrap_or_default());
            let path = request.url.path().trim_start_matches('/');
            let content = files.and_then(|files| files.get(path)).cloned();
            (manner, content, inner.dice.roll())
        };
        match manner {
            Manner::HangsUp => return Err(ConnectionError::new("connection closed")),
            Manner::Silent => return std::future::pending().await,
            Manner::Status(code) => return Ok(status(code)),
            _ => {}
        }
        let Some(content) = content else { return Ok(status(404)) };
        let range = request.headers.get(RANGE).and_then(range_of);
        let mut answer = with_content(manner, &content, range, bit);
        let is_foreign = matches!(manner, Manner::WrongRange | Manner::NoContentRange);
        if is_foreign && answer.status == StatusCode::PARTIAL_CONTENT {
            answer.body = Box::new(Foreign(self.clone(), answer.body));
        }
        Ok(answer)
    }
}

fn range_of(value: &HeaderValue) -> Option<Range<usize>> {
    let (first, last) = value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<usize>().ok()? + 1)
}

/// An answer without content.
fn status(code: u16) -> Response {
    let mut headers = HeaderMap::new();
    if code == 503 {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("30"));
    }
    let status = StatusCode::from_u16(code).unwrap();
    Response { status, headers, body: Box::new(Steps(VecDeque::new())) }
}

fn with_content(
    manner: Manner,
    content: &Bytes,
    range: Option<Range<usize>>,
    bit: u64,
) -> Response {
    let asked = range.filter(|_| manner != Manner::IgnoresRange);
    let end = content.len();
    let is_partial = asked.is_some();
    let asked = asked.unwrap_or(0..end);
    let asked = asked.start.min(end)..asked.end.min(end);
    let moved = if asked.start > 0 {
        asked.start - 1..asked.end.saturating_sub(1)
    } else {
        (asked.start + 1).min(end)..asked.end
    };
    let given = match manner {
        Manner::ShortRange if is_partial => {
            asked.start..asked.start + (asked.end - asked.start).div_ceil(2)
        }
        Manner::WrongRange | Manner::LiesAboutRange if is_partial => moved,
        _ => asked.clone(),
    };
    let said = if manner == Manner::LiesAboutRange { &asked } else { &given };
    let mut headers = HeaderMap::new();
    if is_partial && manner != Manner::NoContentRange {
        let text = format!("bytes {}-{}/{end}", said.start, said.end.saturating_sub(1));
        headers.insert(CONTENT_RANGE, text.parse().unwrap());
    }
    let status = if is_partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let body = Box::new(Steps(steps(manner, content.slice(given), bit)));
    Response { status, headers, body }
}

enum Step {
    Give(Bytes),
    Wait(Duration),
    Fail,
}

/// A body that nobody may read.
struct Foreign(Web, Box<dyn Body>);

#[async_trait]
impl Body for Foreign {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        self.0.lock().misread = true;
        self.1.chunk().await
    }
}

/// A body, step by step.
struct Steps(VecDeque<Step>);

fn steps(manner: Manner, mut content: Bytes, bit: u64) -> VecDeque<Step> {
    let slow = |byte| [Step::Wait(Duration::from_secs(20)), Step::Give(byte)];
    match manner {
        Manner::Stops(after) => {
            [Step::Give(content.slice(..after.min(content.len()))), Step::Fail].into()
        }
        Manner::Trickles => (0..content.len().min(40))
            .flat_map(|at| slow(content.slice(at..=at)))
            .chain([Step::Fail])
            .collect(),
        Manner::Endless => {
            let more = (0..4).map(|_| Step::Give(Bytes::from_static(&[0x77; 4096])));
            [Step::Give(content)].into_iter().chain(more).chain([Step::Fail]).collect()
        }
        Manner::Corrupts if !content.is_empty() => {
            let mut changed = content.to_vec();
            let place = (bit / 8) as usize % changed.len();
            changed[place] ^= 1 << (bit % 8);
            [Step::Give(changed.into())].into()
        }
        _ => {
            let rest = content.split_off(content.len() / 2);
            [Step::Give(content), Step::Give(rest)].into()
        }
    }
}

#[async_trait]
impl Body for Steps {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        loop {
            match self.0.pop_front() {
                Some(Step::Give(bytes)) if bytes.is_empty() => {}
                Some(Step::Give(bytes)) => return Ok(Some(bytes)),
                Some(Step::Wait(time)) => of_the_test(sleep(time)).await,
                Some(Step::Fail) => return Err(ConnectionError::new("connection reset")),
                None => return Ok(None),
            }
        }
    }
}

/// A body that is there at once.
pub(super) fn whole(status: StatusCode, text: String) -> Response {
    let body = Box::new(Steps([Step::Give(text.into())].into()));
    Response { status, headers: HeaderMap::new(), body }
}
