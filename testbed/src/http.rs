//! HTTP by hand: one request to a forwarded port, and heads of messages.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const MAX_BODY: u64 = 64 << 20;
const MAX_HEAD: usize = 16 << 10;

/// GETs `path` from 127.0.0.1 and gives the body of a 200 answer.
///
/// # Errors
/// When nobody answers, or with another status.
pub fn get(port: u16, path: &str) -> Result<Vec<u8>> {
    get_from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), path)
}

/// As [`get`], from any address.
///
/// # Errors
/// As [`get`].
pub fn get_from(address: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: node\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_BODY).read_to_end(&mut answer)?;
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let split = split.context("the answer has no end of headers")?;
    let head = String::from_utf8_lossy(&answer[..split]).into_owned();
    let body = answer.split_off(split + 4);
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{path}: {status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}

/// Reads to the end of the head; what came behind it is given too.
pub(crate) fn read_head(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 || bytes.len() > MAX_HEAD {
            return Err(io::Error::other("a message without an end of its head"));
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
}
