//! What programs on this machine say of themselves: the container runtime, whoever answers in HTTP,
//! and whoever makes a file.
//!
//! In: a socket, an address, a path. Out: what is said, unjudged. **Invariant:** an answer is read
//! up to a bound.

use std::io;
use std::path::Path;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::Health;
use crate::grpc::messages::{Empty, RuntimeCondition, StatusResponse};
use crate::grpc::{Client, GrpcError};

/// Longest first line of an HTTP answer, in bytes; an honest one has about 20.
const MAX_LINE_BYTES: u64 = 4096;

/// The programs of this machine.
pub struct Programs;

#[async_trait]
impl Health for Programs {
    async fn runtime(&self, socket: &Path) -> Result<Vec<RuntimeCondition>, GrpcError> {
        let client = Client::connect(socket).await?;
        let status = "/runtime.v1.RuntimeService/Status";
        let answer = client.call::<_, StatusResponse>(status, Empty {}).await?;
        Ok(answer.status.unwrap_or_default().conditions)
    }

    async fn http_status(&self, host: &str, path: &str) -> io::Result<Option<u16>> {
        let mut stream = TcpStream::connect(host).await?;
        let question = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
        stream.write_all(question.as_bytes()).await?;
        // Only the first line counts; a body of any length is not waited for.
        let mut answer = BufReader::new(stream.take(MAX_LINE_BYTES));
        let mut line = Vec::new();
        answer.read_until(b'\n', &mut line).await?;
        Ok(status_of(&line))
    }

    async fn file(&self, path: &Path) -> io::Result<()> {
        tokio::fs::symlink_metadata(path).await.map(drop)
    }
}

/// The status code of an HTTP answer.
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_http_has_no_status() {
        assert_eq!(status_of(b"HTTP/1.0 200 OK\r\n\r\nok"), Some(200));
        assert_eq!(status_of(b"HTTP/1.1 500 Internal Server Error\r\n"), Some(500));
        for answer in [&b""[..], b"200 OK", b"SSH-2.0", b"HTTP/1.1", b"HTTP/1.1 ok\n", b"\xff\n"] {
            assert_eq!(status_of(answer), None);
        }
    }

    async fn answer(bytes: &'static [u8]) -> Option<u16> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = [0; 20];
            stream.read_exact(&mut question).await.unwrap();
            assert!(question.starts_with(b"GET /ready HTTP/1.0"));
            stream.write_all(bytes).await.unwrap();
            // The connection stays open: the answer's end is not waited for.
            stream
        });
        let status = Programs.http_status(&host, "/ready").await.unwrap();
        drop(server.await.unwrap());
        status
    }

    #[tokio::test]
    async fn the_first_line_of_an_answer_is_all_that_is_read() {
        assert_eq!(answer(b"HTTP/1.1 204 No Content\r\n").await, Some(204));
        assert_eq!(answer(b"SSH-2.0-x\r\n").await, None);
        assert_eq!(answer(&[b'x'; 5000]).await, None);
    }
}
