//! The journal, by `journalctl` as a child process.
//!
//! In: a query that is checked here. Out: a stream of JSON lines. **Invariant:** the child does
//! not outlive its reader: it is killed as soon as the answer is dropped.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use contract::node::api::{Code, LogsQuery, MAX_LOG_LINES};
use futures_util::stream;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::reply::Refusal;

/// Readers of the journal at a time.
const MAX_READERS: usize = 4;
/// How long one answer may go on.
const LONGEST_ANSWER: Duration = Duration::from_secs(3600);
/// How long the first line is waited for, to tell a failure from silence.
const FIRST_LINE: Duration = Duration::from_secs(5);
/// Bytes that are read at a time.
const CHUNK: usize = 16 << 10;
/// Most bytes of `journalctl`'s complaint that are kept.
const MAX_COMPLAINT: u64 = 1024;
/// Entries of an answer whose query names no number.
const DEFAULT_LINES: u32 = 100;
/// Longest name of a systemd unit, in bytes (systemd's UNIT_NAME_MAX, less the end mark).
const MAX_UNIT_NAME: usize = 255;
/// The fields of an entry that are sent.
const FIELDS: &str = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_PID,_TRANSPORT,_BOOT_ID";

/// Where the journal is read.
#[derive(Debug, Clone)]
pub struct SystemJournal {
    program: PathBuf,
    readers: Arc<Semaphore>,
}

impl Default for SystemJournal {
    fn default() -> Self {
        Self::with_program(crate::effects::JOURNALCTL.into())
    }
}

impl SystemJournal {
    /// A journal that another program reads.
    pub fn with_program(program: PathBuf) -> Self {
        Self { program, readers: Arc::new(Semaphore::new(MAX_READERS)) }
    }

    /// Starts reading.
    ///
    /// # Errors
    /// When the query is wrong, too many read already, or `journalctl` fails at once.
    pub(super) async fn read(&self, query: &LogsQuery) -> Result<Body, Refusal> {
        let arguments = arguments(query)?;
        let permit = Arc::clone(&self.readers).try_acquire_owned().map_err(|_| {
            let message = format!("{MAX_READERS} others read the journal");
            Refusal::new(Code::Busy, message, "try again when one of them is done")
        })?;
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.failed(&error.to_string()))?;
        let Some(output) = child.stdout.take() else {
            return Err(self.failed("it has no output"));
        };
        let end = Instant::now() + LONGEST_ANSWER;
        let mut reading = Reading { child, output, end, _permit: permit };
        // Silence is no failure: a follower may wait long for the first entry.
        let first = match timeout(FIRST_LINE, reading.next()).await {
            Err(_) => Bytes::new(),
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return self.ended(reading.child).await,
            Ok(Err(error)) => return Err(self.failed(&error.to_string())),
        };
        Ok(Body::from_stream(stream::unfold(Some((first, reading)), |state| async {
            let (chunk, mut reading) = state?;
            if !chunk.is_empty() {
                return Some((Ok(chunk), Some((Bytes::new(), reading))));
            }
            match reading.next().await.transpose()? {
                Ok(chunk) => Some((Ok::<_, io::Error>(chunk), Some((Bytes::new(), reading)))),
                Err(error) => Some((Err(error), None)),
            }
        })))
    }

    /// What came of a child that ended without a line.
    async fn ended(&self, mut child: Child) -> Result<Body, Refusal> {
        let mut complaint = String::new();
        if let Some(stderr) = child.stderr.take() {
            let read = stderr.take(MAX_COMPLAINT).read_to_string(&mut complaint).await;
            read.map_err(|error| self.failed(&error.to_string()))?;
        }
        let status = child.wait().await.map_err(|error| self.failed(&error.to_string()))?;
        if status.success() {
            return Ok(Body::empty());
        }
        Err(self.failed(&format!("{status}: {}", complaint.trim())))
    }

    fn failed(&self, why: &str) -> Refusal {
        let message = format!("cannot read the journal with {}: {why}", self.program.display());
        Refusal::new(Code::Internal, message, "ask for another unit, boot or time")
    }
}

/// A child that is being read.
struct Reading {
    /// Dropping it kills the process.
    child: Child,
    output: ChildStdout,
    end: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Reading {
    /// The next bytes; none when the child or the time is at its end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        match timeout_at(self.end, self.output.read_buf(&mut chunk)).await {
            Ok(read) => Ok((read? > 0).then(|| chunk.freeze())),
            Err(_) => Ok(None),
        }
    }
}

/// The arguments of `journalctl`.
fn arguments(query: &LogsQuery) -> Result<Vec<String>, Refusal> {
    let wrong = |message: String, next: &str| Err(Refusal::new(Code::Invalid, message, next));
    let lines = query.lines.unwrap_or(DEFAULT_LINES);
    if lines > MAX_LOG_LINES {
        return wrong(format!("{lines} lines are too many"), "ask for at most 10000");
    }
    let mut arguments: Vec<String> =
        ["--no-pager", "--quiet", "--output=json"].map(str::to_owned).into();
    arguments.push(format!("--output-fields={FIELDS}"));
    arguments.push(format!("--lines={lines}"));
    if let Some(unit) = &query.unit {
        // No pattern: `journalctl` would take `*`, `?` and `[`.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\@-".contains(&byte);
        if unit.is_empty() || unit.len() > MAX_UNIT_NAME || !unit.bytes().all(plain) {
            return wrong("that is not a unit's name".to_owned(), "give one such as kubelet");
        }
        arguments.push(format!("--unit={unit}"));
    }
    if let Some(seconds) = query.since {
        // A hundred years: `journalctl` refuses numbers that its clock cannot hold.
        arguments.push(format!("--since=-{}s", seconds.min(3_155_760_000)));
    }
    if let Some(boot) = query.boot {
        if !(-1000..=0).contains(&boot) {
            return wrong(format!("there is no boot {boot}"), "give 0, -1 and so on");
        }
        arguments.push(format!("--boot={boot}"));
    }
    if query.follow == Some(true) {
        if query.boot.is_some_and(|boot| boot != 0) {
            return wrong("a past boot has no new entries".to_owned(), "leave out follow or boot");
        }
        arguments.push("--follow".to_owned());
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_arguments() {
        let query = LogsQuery {
            unit: Some("user@0.service".into()),
            since: Some(60),
            lines: Some(5),
            follow: Some(true),
            boot: Some(0),
        };
        let arguments = arguments(&query).unwrap();
        let expected =
            ["--lines=5", "--unit=user@0.service", "--since=-60s", "--boot=0", "--follow"];
        assert_eq!(arguments[4..], expected);
    }

    #[test]
    fn queries_that_reach_further_are_refused() {
        let unit = |unit: &str| LogsQuery { unit: Some(unit.into()), ..LogsQuery::default() };
        let long = "a".repeat(256);
        for query in [
            unit(""),
            unit("*"),
            unit("kubelet --root=/x"),
            unit("a\nb"),
            unit(&long),
            LogsQuery { lines: Some(MAX_LOG_LINES + 1), ..LogsQuery::default() },
            LogsQuery { boot: Some(1), ..LogsQuery::default() },
            LogsQuery { boot: Some(-1), follow: Some(true), ..LogsQuery::default() },
        ] {
            assert_eq!(arguments(&query).unwrap_err().0.code, Code::Invalid, "{query:?}");
        }
    }
}
