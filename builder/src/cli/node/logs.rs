//! `slipway node logs`: prints entries as they come.

use std::io::{self, Write};

use contract::node::api::LogsQuery;

use super::arguments::LogsArguments;
use crate::cli::arguments::Format;
use crate::cli::outcome::{Answer, Failed};
use crate::node::{NodeClient, text};

/// Longest entry that is kept until its end, in bytes.
const MAX_ENTRY_BYTES: usize = 1 << 20;

/// Prints entries until the node or the reader has enough.
pub async fn logs(
    client: &NodeClient,
    arguments: LogsArguments,
    format: Format,
) -> Result<Answer, Failed> {
    let LogsArguments { unit, since, lines, follow, boot } = arguments;
    let query = LogsQuery { unit, since, lines, follow: follow.then_some(true), boot };
    let mut response = client.open_logs(&query).await?;
    let mut entries = Entries::default();
    loop {
        let chunk = response.chunk().await.map_err(|error| client.unreachable(error))?;
        let done = chunk.is_none();
        let text = match chunk {
            Some(chunk) => entries.take(&chunk, format),
            None => entries.rest(format),
        };
        match print(&text) {
            Ok(()) if done => return Ok(Answer::printed()),
            Ok(()) => {}
            // The reader has seen enough, as in `slipway node … logs | head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(Answer::printed());
            }
            Err(error) => return Err(Failed::other(error)),
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Entries whose end has not come yet.
#[derive(Default)]
struct Entries {
    pending: Vec<u8>,
}

impl Entries {
    /// The text of the entries that the chunk completes.
    fn take(&mut self, chunk: &[u8], format: Format) -> String {
        self.pending.extend_from_slice(chunk);
        let end = self.pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let complete: Vec<u8> = self.pending.drain(..end).collect();
        if self.pending.len() > MAX_ENTRY_BYTES {
            // No entry is that long: whatever it is, it is not kept.
            self.pending.clear();
        }
        complete.split(|byte| *byte == b'\n').map(|line| shown(line, format)).collect()
    }

    /// The text of what came last, without a line's end.
    fn rest(&mut self, format: Format) -> String {
        shown(&std::mem::take(&mut self.pending), format)
    }
}

fn shown(line: &[u8], format: Format) -> String {
    let Some(text) = text::log_entry(line) else {
        return String::new();
    };
    match format {
        Format::Text => text + "\n",
        Format::Json => String::from_utf8_lossy(line).into_owned() + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "{\"__REALTIME_TIMESTAMP\":\"1795608000000000\",\"MESSAGE\":\"hi\"}\n";

    #[test]
    fn entries_are_printed_once_they_are_whole() {
        let mut entries = Entries::default();
        let (first, second) = ENTRY.as_bytes().split_at(20);
        assert_eq!(entries.take(first, Format::Text), "");
        assert_eq!(entries.take(second, Format::Text), "2026-11-25T12:00:00.000Z -: hi\n");
        assert_eq!(entries.take(ENTRY.as_bytes(), Format::Json), ENTRY);
        entries.take(ENTRY.trim_end().as_bytes(), Format::Json);
        assert_eq!(entries.rest(Format::Json), ENTRY);
    }

    #[test]
    fn an_entry_without_end_is_not_kept() {
        let mut entries = Entries::default();
        for _ in 0..20 {
            entries.take(&[b'x'; 100_000], Format::Text);
        }
        assert!(entries.pending.len() <= MAX_ENTRY_BYTES + 100_000);
    }
}
