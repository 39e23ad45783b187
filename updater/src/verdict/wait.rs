//! Waits until the node can run pods.
//!
//! In: containerd's socket and kubelet's health address. Out: lines for the journal, and
//! what is missing when the time is over. **Invariant:** healthy means that the container
//! runtime, its pod network and kubelet all said so in the same round.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::ANSWER_TIMEOUT;
use super::probes::{CONDITIONS, Node, conditions, is_true, missing_conditions, status};
use crate::effects::health::Programs;

/// Pause between two rounds.
const ROUND: Duration = Duration::from_millis(500);

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
        match conditions(&Programs, &node.containerd).await {
            Ok(conditions) => {
                if !runtime_said && is_true(&conditions, CONDITIONS[0]) {
                    say(format!("slipway: containerd ready after {} s", uptime()?));
                    runtime_said = true;
                }
                missing.extend(missing_conditions(&conditions));
            }
            Err(reason) => missing.push(format!("containerd ({reason})")),
        }
        let kubelet = status(&Programs, &node.kubelet, 200, "slipway node logs --unit kubelet");
        match timeout(ANSWER_TIMEOUT, kubelet).await {
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

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
