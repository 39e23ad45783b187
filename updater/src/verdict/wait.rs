//! Waits until the node can run pods.
//!
//! In: containerd's socket and kubelet's health address. Out: lines for the journal, and
//! what is missing when the time is over. **Invariant:** healthy means that the container
//! runtime, its pod network and kubelet all said so in the same round.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::grpc::Client;
use crate::grpc::messages::{Empty, RuntimeCondition, StatusResponse};

/// Pause between two rounds.
const ROUND: Duration = Duration::from_millis(500);
/// How long one question may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest answer of kubelet that is read, in bytes; an honest one has about 150.
const MAX_ANSWER_BYTES: u64 = 4096;
/// What containerd must say of itself.
const CONDITIONS: [&str; 2] = ["RuntimeReady", "NetworkReady"];

/// Where to ask.
#[derive(Debug)]
pub struct Node {
    /// containerd's socket.
    pub containerd: PathBuf,
    /// kubelet's health address.
    pub kubelet: HttpAddress,
}

/// Why the node is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The time is over.
    #[error("the node is not healthy after {seconds} s; missing: {missing}")]
    TimeOver {
        /// How long it was waited.
        seconds: u64,
        /// What was missing in the last round, with the next steps.
        missing: String,
    },
    /// The uptime cannot be read.
    #[error("cannot read /proc/uptime: mount /proc first")]
    Uptime(#[source] io::Error),
}

/// A plain HTTP address, such as `http://127.0.0.1:10248/healthz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAddress {
    host: String,
    path: String,
}

/// A text that is no such address.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no address such as http://127.0.0.1:10248/healthz")]
pub struct InvalidAddress(String);

impl FromStr for HttpAddress {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        let rest = text.strip_prefix("http://").ok_or_else(invalid)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let has_port = host.rsplit_once(':').is_some_and(|(name, port)| {
            !name.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if !has_port || !rest.chars().all(|c| c.is_ascii_graphic()) {
            return Err(invalid());
        }
        Ok(Self { host: host.to_owned(), path: format!("/{path}") })
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

/// Waits until everything is ready, and tells `say` when containerd and the node are.
///
/// # Errors
/// [`HealthError::TimeOver`] with what is missing.
pub async fn wait(
    node: &Node,
    limit: Duration,
    mut say: impl FnMut(String),
) -> Result<(), HealthError> {
    let begin = Instant::now();
    let mut runtime_said = false;
    loop {
        let mut missing = Vec::new();
        match conditions(&node.containerd).await {
            Ok(conditions) => {
                if !runtime_said && is_true(&conditions, CONDITIONS[0]) {
                    say(format!("slipway: containerd ready after {} s", uptime()?));
                    runtime_said = true;
                }
                missing.extend(missing_conditions(&conditions));
            }
            Err(reason) => missing.push(format!("containerd ({reason})")),
        }
        match timeout(ANSWER_TIMEOUT, ask_kubelet(&node.kubelet)).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => missing.push(format!("kubelet at {} ({reason})", node.kubelet)),
            Err(_) => missing.push(format!("kubelet at {} (no answer)", node.kubelet)),
        }
        if missing.is_empty() {
            say(format!("slipway: node healthy after {} s since power-on", uptime()?));
            return Ok(());
        }
        if begin.elapsed() + ROUND > limit {
            let missing = missing.join(", ");
            return Err(HealthError::TimeOver { seconds: limit.as_secs(), missing });
        }
        sleep(ROUND).await;
    }
}

async fn conditions(socket: &Path) -> Result<Vec<RuntimeCondition>, String> {
    let ask = async {
        let client = Client::connect(socket).await?;
        client.call::<_, StatusResponse>("/runtime.v1.RuntimeService/Status", Empty {}).await
    };
    match timeout(ANSWER_TIMEOUT, ask).await {
        Ok(Ok(answer)) => Ok(answer.status.unwrap_or_default().conditions),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer; see `journalctl -u containerd`".to_owned()),
    }
}

fn is_true(conditions: &[RuntimeCondition], name: &str) -> bool {
    conditions.iter().any(|condition| condition.r#type == name && condition.status)
}

/// What containerd lacks, in its own words.
fn missing_conditions(conditions: &[RuntimeCondition]) -> Vec<String> {
    let missing = CONDITIONS.iter().filter(|name| !is_true(conditions, name));
    missing
        .map(|name| match conditions.iter().find(|condition| condition.r#type == *name) {
            Some(condition) => {
                let text = format!("{}: {}", condition.reason, condition.message);
                format!("{name} of containerd ({})", text.chars().take(300).collect::<String>())
            }
            None => format!("{name} of containerd (it says nothing of it)"),
        })
        .collect()
}

async fn ask_kubelet(address: &HttpAddress) -> Result<(), String> {
    let failed = |error: io::Error| format!("{error}; see `journalctl -u kubelet`");
    let mut stream = TcpStream::connect(&address.host).await.map_err(failed)?;
    let question = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", address.path, address.host);
    stream.write_all(question.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await.map_err(failed)?;
    match status_of(&answer) {
        Some(200) => Ok(()),
        Some(other) => Err(format!("HTTP status {other}; see `journalctl -u kubelet`")),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

/// The status code of an HTTP answer.
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

/// Seconds since the kernel started, with one decimal.
fn uptime() -> Result<String, HealthError> {
    let text = std::fs::read_to_string("/proc/uptime").map_err(HealthError::Uptime)?;
    parse_uptime(&text).ok_or_else(|| HealthError::Uptime(io::ErrorKind::InvalidData.into()))
}

fn parse_uptime(text: &str) -> Option<String> {
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(format!("{seconds:.1}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn condition(name: &str, status: bool) -> RuntimeCondition {
        RuntimeCondition {
            r#type: name.into(),
            status,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let found = missing_conditions(&[
            condition("RuntimeReady", true),
            condition("NetworkReady", false),
            condition("Unknown", false),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("cni plugin not initialized"), "{found:?}");
        assert_eq!(missing_conditions(&[]).len(), 2);
    }

    #[test]
    fn addresses_are_checked() {
        let good: HttpAddress = "http://127.0.0.1:10248/healthz?x".parse().unwrap();
        assert_eq!(good.to_string(), "http://127.0.0.1:10248/healthz?x");
        for text in ["https://a:1/", "http://a/", "http://:1/", "http://a:0/", "http://a:1/\r\nX:"]
        {
            assert!(text.parse::<HttpAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_that_is_not_http_is_not_healthy() {
        assert_eq!(status_of(b"HTTP/1.0 200 OK\r\n\r\nok"), Some(200));
        assert_eq!(status_of(b"HTTP/1.1 500 Internal Server Error\r\n"), Some(500));
        for answer in [&b""[..], b"200 OK", b"SSH-2.0", b"HTTP/1.1", b"HTTP/1.1 ok\n", b"\xff\n"] {
            assert_eq!(status_of(answer), None);
        }
    }

    #[test]
    fn the_uptime_is_rounded() {
        assert_eq!(parse_uptime("12.34 20.00\n").as_deref(), Some("12.3"));
        assert_eq!(parse_uptime(""), None);
    }

    #[tokio::test]
    async fn without_containerd_the_time_runs_out_although_kubelet_answers() {
        let kubelet = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/healthz", kubelet.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = kubelet.accept().await.unwrap();
                let mut question = [0; 64];
                while !question.ends_with(b"\r\n\r\n") {
                    question.rotate_left(1);
                    question[63] = stream.read_u8().await.unwrap();
                }
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nok").await.unwrap();
            }
        });
        let node =
            Node { containerd: "/nonexistent/c.sock".into(), kubelet: address.parse().unwrap() };
        let mut said = Vec::new();
        let result = wait(&node, Duration::from_millis(700), |line| said.push(line)).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains("containerd") && !error.contains("kubelet at"), "{error}");
        assert!(said.is_empty());
    }
}
