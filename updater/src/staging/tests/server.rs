//! A web server of blobs that misbehaves when told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Url;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::release::Blobs;
use crate::staging::hash::lock;

/// How one request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As it should be.
    Honest,
    /// The whole, whatever was asked for.
    IgnoresRange,
    /// Closes the connection after so many bytes of content.
    Stops(usize),
    /// Says that it has fewer bytes than were asked for.
    ShortRange,
    /// Changes one bit of the content.
    Corrupts,
    /// This status, without content.
    Status(u16),
    /// Content from another place than was asked for.
    WrongRange,
    /// `206` without saying which range.
    NoContentRange,
    /// To itself, for ever.
    Redirects,
    /// The right bytes, and then more, for ever.
    Endless,
    /// Takes the request and says nothing.
    Silent,
    /// A byte now and then.
    Trickles,
    /// Closes at once.
    HangsUp,
    /// Bytes that are no HTTP.
    Gibberish,
}

struct Inner {
    blobs: Blobs,
    first: VecDeque<Manner>,
    then: Manner,
    requests: usize,
    content: u64,
}

/// The server; it ends with the runtime of the test.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Mutex<Inner>>,
    /// Its address.
    pub url: Url,
}

impl Server {
    /// Serves blobs: the first requests in these manners, one each, the others in `then`.
    pub async fn start(blobs: &Blobs, first: &[Manner], then: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let first = first.iter().copied().collect();
        let inner = Inner { blobs: blobs.clone(), first, then, requests: 0, content: 0 };
        let inner = Arc::new(Mutex::new(inner));
        let shared = inner.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        let url = Url::parse(&format!("http://user:secret@{address}/channel")).unwrap();
        Self { inner, url }
    }

    /// The server as the only mirror.
    pub fn mirrors(&self) -> &[Url] {
        std::slice::from_ref(&self.url)
    }

    /// Changes the manner of all further requests.
    pub fn set(&self, then: Manner) {
        let mut inner = lock(&self.inner);
        inner.first.clear();
        inner.then = then;
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        lock(&self.inner).requests
    }

    /// Bytes of content sent so far.
    pub fn content(&self) -> u64 {
        lock(&self.inner).content
    }
}

/// Answers requests on one connection until it ends; errors only end it.
async fn serve(mut stream: TcpStream, inner: Arc<Mutex<Inner>>) {
    let mut pending = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = pending.split_off(end + 4);
                break String::from_utf8(std::mem::replace(&mut pending, rest)).unwrap();
            }
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => pending.extend(&buffer[..count]),
            }
        };
        if !answer(&mut stream, &inner, &head).await {
            return;
        }
    }
}

/// What a request asks for.
struct Wanted {
    content: Vec<u8>,
    range: Option<(usize, usize)>,
}

fn wanted(head: &str, blobs: &Blobs) -> Option<Wanted> {
    let path = head.split(' ').nth(1)?;
    let content = blobs.get(&path.rsplit('/').next()?.parse().ok()?)?.clone();
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("range:"));
    let range = line.and_then(|line| {
        let (first, last) = line.split_once("bytes=")?.1.split_once('-')?;
        Some((first.trim().parse().ok()?, last.trim().parse::<usize>().ok()? + 1))
    });
    Some(Wanted { content, range })
}

/// False when the connection must end.
async fn answer(stream: &mut TcpStream, inner: &Arc<Mutex<Inner>>, head: &str) -> bool {
    let (manner, wanted) = {
        let mut inner = lock(inner);
        inner.requests += 1;
        let manner = inner.first.pop_front().unwrap_or(inner.then);
        (manner, wanted(head, &inner.blobs))
    };
    let Some(Wanted { content, range }) = wanted else {
        return send_status(stream, 404).await;
    };
    let (start, end) = match (manner, range) {
        (Manner::IgnoresRange, _) | (_, None) => (0, content.len()),
        (Manner::ShortRange, Some((start, end))) => (start, start + (end - start).div_ceil(2)),
        (Manner::WrongRange, Some((start, end))) if start > 0 => (start - 1, end - 1),
        (Manner::WrongRange, Some((start, end))) => (start + 1, end),
        (_, Some((start, end))) => (start, end),
    };
    let mut body = content[start..end].to_vec();
    let partial = range.is_some() && manner != Manner::IgnoresRange;
    let status = if partial { "206 Partial Content" } else { "200 OK" };
    let mut headers = format!("HTTP/1.1 {status}\r\nETag: \"{}\"\r\n", body.len() ^ start);
    if partial && manner != Manner::NoContentRange {
        headers += &format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, content.len());
    }
    headers += &match manner {
        Manner::Endless => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
        _ => format!("Content-Length: {}\r\n\r\n", body.len()),
    };
    match manner {
        Manner::Status(code) => return send_status(stream, code).await,
        Manner::HangsUp => return false,
        Manner::Gibberish => return send_last(stream, &[0xff; 64]).await,
        Manner::Silent => return forever().await,
        Manner::Redirects => {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let text =
                format!("HTTP/1.1 302 Found\r\nLocation: {path}\r\nContent-Length: 0\r\n\r\n");
            return stream.write_all(text.as_bytes()).await.is_ok();
        }
        Manner::Corrupts => {
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        _ => {}
    }
    if stream.write_all(headers.as_bytes()).await.is_err() {
        return false;
    }
    send_body(stream, inner, manner, &body).await
}

async fn send_body(
    stream: &mut TcpStream,
    inner: &Arc<Mutex<Inner>>,
    manner: Manner,
    body: &[u8],
) -> bool {
    let sent = match manner {
        Manner::Stops(after) => &body[..after.min(body.len())],
        Manner::Trickles => &body[..0],
        _ => body,
    };
    lock(inner).content += sent.len() as u64;
    match manner {
        Manner::Endless => {
            let mut rest = sent.to_vec();
            loop {
                let chunk = format!("{:x}\r\n", rest.len()).into_bytes();
                let chunk = [chunk, rest, b"\r\n".to_vec()].concat();
                if stream.write_all(&chunk).await.is_err() {
                    return false;
                }
                rest = vec![0x77; 4096];
            }
        }
        Manner::Trickles => {
            for byte in body {
                if stream.write_all(&[*byte]).await.is_err() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            true
        }
        Manner::Stops(_) => send_last(stream, sent).await,
        _ => stream.write_all(sent).await.is_ok(),
    }
}

async fn send_status(stream: &mut TcpStream, code: u16) -> bool {
    let text = format!("HTTP/1.1 {code} Whatever\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).await.is_ok()
}

/// Sends, and ends the connection.
async fn send_last(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    // A client that left early is no worse than one that reads on.
    stream.write_all(bytes).await.ok();
    false
}

async fn forever() -> bool {
    std::future::pending::<()>().await;
    false
}
