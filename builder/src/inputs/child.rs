//! Compilers as child processes: nothing they started outlives the builder.
//!
//! In: a command. Out: its status and its last lines. **Invariant:** the child and all its
//! children form one process group, which ends when the future is dropped, on Ctrl-C and
//! on SIGTERM.

use std::collections::VecDeque;
use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::progress::Progress;

/// How many lines of a failed command are kept.
pub const KEPT_LINES: usize = 20;
/// Longest line that is kept, in characters.
const KEPT_WIDTH: usize = 400;

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status.
    pub status: ExitStatus,
    /// The last [`KEPT_LINES`] lines of its standard error.
    pub last_lines: String,
}

/// Ends a whole process group when dropped before the child was waited for.
struct Group {
    child: Child,
    ended: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let (false, Some(group)) = (self.ended, id.and_then(Pid::from_raw))
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            // Nobody is left to take an error here; the child itself is killed by tokio.
            eprintln!("slipway: cannot end process group {}: {error}", group.as_raw_pid());
        }
    }
}

/// Runs a command to its end; its standard error is shown to those who asked for details.
///
/// # Errors
/// When the program cannot be started or watched; `ErrorKind::Interrupted` after Ctrl-C.
pub async fn run(mut command: Command, progress: &Progress) -> io::Result<Outcome> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    // A group of its own does not get the terminal's Ctrl-C, so it is passed on here.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut group = Group { child: command.spawn()?, ended: false };
    let stderr = group.child.stderr.take();
    let work = async {
        let mut last = VecDeque::new();
        if let Some(stderr) = stderr {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Some(line) = lines.next_segment().await? {
                let line: String =
                    String::from_utf8_lossy(&line).chars().take(KEPT_WIDTH).collect();
                progress.detail(&line);
                last.push_back(line);
                if last.len() > KEPT_LINES {
                    last.pop_front();
                }
            }
        }
        let status = group.child.wait().await?;
        Ok(Outcome { status, last_lines: Vec::from(last).join("\n") })
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => Err(io::ErrorKind::Interrupted.into()),
        _ = terminate.recv() => Err(io::ErrorKind::Interrupted.into()),
    };
    group.ended = outcome.is_ok();
    outcome
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn the_last_lines_are_kept() {
        let script = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i >&2; done; exit 3";
        let outcome = run(shell(script), &Progress::hidden()).await.unwrap();
        assert_eq!(outcome.status.code(), Some(3));
        assert_eq!(outcome.last_lines.lines().count(), KEPT_LINES);
        assert!(outcome.last_lines.ends_with("line 50"));
    }

    #[tokio::test]
    async fn a_dropped_build_ends_its_grandchildren() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", file.display());
        let progress = Progress::hidden();
        let build = run(shell(&script), &progress);
        assert!(tokio::time::timeout(Duration::from_millis(500), build).await.is_err());
        let pid = std::fs::read_to_string(&file).unwrap();
        let status = std::path::PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        for _ in 0..100 {
            // Gone, or a zombie that whoever adopted it has not taken yet.
            match std::fs::read_to_string(&status) {
                Ok(text) if !text.contains(") Z ") => {}
                _ => return,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the grandchild {pid} is still there");
    }
}
