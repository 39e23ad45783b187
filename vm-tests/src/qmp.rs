//! QEMU's control socket: ask for a reset, the end, or a changed block.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Sends one command and waits for its answer.
///
/// # Errors
/// When QEMU does not answer, or refuses.
pub fn execute(socket: &Path, command: &str) -> Result<()> {
    execute_with(socket, command, json!({})).map(drop)
}

/// As [`execute`], with the command's arguments; gives what it returns.
///
/// # Errors
/// As [`execute`].
pub fn execute_with(socket: &Path, command: &str, arguments: Value) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).context("QEMU is gone")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    lines.next().context("QEMU says nothing")??;
    let mut returned = Value::Null;
    for (name, arguments) in [("qmp_capabilities", json!({})), (command, arguments)] {
        writeln!(stream, "{}", json!({ "execute": name, "arguments": arguments }))?;
        let mut answer = loop {
            let line = lines.next().context("QEMU hung up")??;
            let answer: Value = serde_json::from_str(&line)?;
            if answer.get("event").is_none() {
                break answer;
            }
        };
        ensure!(answer.get("error").is_none(), "QEMU refused `{name}`: {answer}");
        returned = answer["return"].take();
    }
    Ok(returned)
}
