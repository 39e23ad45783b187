//! kubelet, watched while new settings are tried.
//!
//! In: what systemd says of its service, and its health address. Out: whether it stands, or its
//! own words on why it ended. **Invariant:** kubelet that waits for its cluster is not taken for
//! one that fails.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::effects::{Effects, UnitState};
use crate::verdict::{NodePrograms, kubelet_is_healthy};

const UNIT: &str = "kubelet.service";
/// How long kubelet is watched at most.
const WATCH: Duration = Duration::from_secs(20);
/// How long it must be well: it answers before it has looked at all of its configuration.
const STEADY: Duration = Duration::from_secs(6);
const ROUND: Duration = Duration::from_millis(500);
/// What stands in the line with which kubelet gives up.
const LAST_WORDS: [&str; 2] = ["command failed", "Failed to start"];
/// Characters of that line that are shown.
const MAX_SAID: usize = 300;

/// A process of kubelet, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u32);

/// What systemd says of the service; none while it does not answer.
async fn state(effects: &Effects) -> Option<UnitState> {
    let asked = effects.services.state(UNIT).await;
    asked.inspect_err(|error| tracing::warn!(%error, "how kubelet is, is not known")).ok()
}

/// kubelet's process, when it is well.
pub async fn standing(effects: &Effects, node: &NodePrograms) -> Option<Process> {
    let process = state(effects).await?.process.map(Process)?;
    kubelet_is_healthy(effects.health.as_ref(), node).await.then_some(process)
}

/// Watches the process that comes after `before`, and gives why it ended, when it did.
pub async fn failure_after(
    before: Process,
    effects: &Effects,
    node: &NodePrograms,
) -> Option<String> {
    let end = Instant::now() + WATCH;
    let mut well = None;
    while Instant::now() < end {
        if let Some(state) = state(effects).await {
            if state.has_failed {
                let log = effects.services.log(UNIT).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "kubelet's log cannot be read");
                    String::new()
                });
                return Some(last_words(&log));
            }
            let process = state.process.map(Process).filter(|process| *process != before);
            well = match process {
                Some(process) if kubelet_is_healthy(effects.health.as_ref(), node).await => {
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
