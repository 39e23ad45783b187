//! kubelet, watched while new settings are tried.
//!
//! In: what systemd says of its service, and its health address. Out: whether it stands, or its
//! own words on why it ended. **Invariant:** kubelet that waits for its cluster is not taken for
//! one that fails.

use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::api::JOURNALCTL;
use crate::effects::SYSTEMCTL;
use crate::verdict::{Node, kubelet_is_healthy};

const UNIT: &str = "kubelet.service";
/// How long kubelet is watched at most.
const WATCH: Duration = Duration::from_secs(20);
/// How long it must be well: it answers before it has looked at all of its configuration.
const STEADY: Duration = Duration::from_secs(6);
const ROUND: Duration = Duration::from_millis(500);
/// How long systemd may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// What is read of its log: it was well before that.
const SINCE: &str = "--since=-30s";
/// What stands in the line with which kubelet gives up.
const LAST_WORDS: [&str; 2] = ["command failed", "Failed to start"];
/// Characters of that line that are shown.
const MAX_SAID: usize = 300;

/// A process of kubelet, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u32);

/// What systemd says of the service.
#[derive(Debug, PartialEq, Eq)]
struct State {
    process: Option<Process>,
    /// It ended, and is to be started again.
    has_failed: bool,
}

impl State {
    async fn ask() -> Option<Self> {
        let output = run(SYSTEMCTL, &["show", "--property=MainPID,SubState", UNIT]).await?;
        Some(Self::read(&output))
    }

    fn read(output: &str) -> Self {
        let value =
            |name: &str| output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let process = value("MainPID").and_then(|number| number.parse().ok());
        let has_failed =
            matches!(value("SubState"), Some("auto-restart" | "auto-restart-queued" | "failed"));
        Self { process: process.filter(|number| *number != 0).map(Process), has_failed }
    }
}

/// kubelet's process, when it is well.
pub async fn standing(node: &Node) -> Option<Process> {
    let process = State::ask().await?.process?;
    kubelet_is_healthy(node).await.then_some(process)
}

/// Watches the process that comes after `before`, and gives why it ended, when it did.
pub async fn failure_after(before: Process, node: &Node) -> Option<String> {
    let end = Instant::now() + WATCH;
    let mut well = None;
    while Instant::now() < end {
        if let Some(state) = State::ask().await {
            if state.has_failed {
                let arguments = ["--unit", UNIT, SINCE, "--output", "cat"];
                return Some(last_words(&run(JOURNALCTL, &arguments).await.unwrap_or_default()));
            }
            let process = state.process.filter(|process| *process != before);
            well = match process {
                Some(process) if kubelet_is_healthy(node).await => {
                    well.filter(|(known, _)| *known == process).or(Some((process, Instant::now())))
                }
                _ => None,
            };
            if well.is_some_and(|(_, since)| since.elapsed() >= STEADY) {
                return None;
            }
        }
        sleep(ROUND).await;
    }
    None
}

async fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = timeout(ANSWER_LIMIT, output).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn last_words(log: &str) -> String {
    let gives_up = |line: &&str| LAST_WORDS.iter().any(|words| line.contains(words));
    match log.lines().rev().find(gives_up) {
        Some(line) => line.chars().take(MAX_SAID).collect(),
        None => "see `slipway node logs --unit kubelet`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_ended_by_itself_is_told_from_one_that_starts() {
        let failed = "MainPID=0\nSubState=auto-restart\n";
        assert_eq!(State::read(failed), State { process: None, has_failed: true });
        let runs = "SubState=running\nMainPID=812\n";
        let process = Some(Process(812));
        assert_eq!(State::read(runs), State { process, has_failed: false });
        let stops = State { process: Some(Process(7)), has_failed: false };
        assert_eq!(State::read("MainPID=7\nSubState=stop-sigterm\n"), stops);
        assert_eq!(State::read(""), State { process: None, has_failed: false });
    }

    #[test]
    fn its_last_words_are_found_and_bounded() {
        let long = "x".repeat(5000);
        let log = format!(
            "E1 \"command failed\" err=\"old\"\nE2 \"Failed to start ContainerManager\" err=\"{long}\"\nstopped\n"
        );
        let words = last_words(&log);
        assert!(words.starts_with("E2") && words.chars().count() == MAX_SAID, "{words}");
        assert!(last_words("started\n").contains("slipway node logs"));
    }
}
