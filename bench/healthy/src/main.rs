//! Tells the console when containerd, its pod network and kubelet are well: in both disks of the boot
//! benchmark, since only one of them runs slipwayd.
//!
//! In: containerd's socket and kubelet's health address, asked as slipwayd's probes ask them. Out:
//! one line with the seconds since power-on, by the kernel's clock; or what was missing last.
//! **Invariant:** healthy means that all three said so in the same round.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, sleep, timeout};
use updater::effects::Health;
use updater::effects::health::Programs;

const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// What containerd must say of itself.
const CONDITIONS: [&str; 2] = ["RuntimeReady", "NetworkReady"];
const KUBELET: (&str, &str) = ("127.0.0.1:10248", "/healthz");
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(500);
/// Time after which the boot is given up.
const LIMIT: Duration = Duration::from_mins(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match wait(&Programs).await {
        Ok(seconds) => {
            println!("bench: healthy after {seconds:.1} s of uptime");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Asks in rounds until all is well; gives the seconds since power-on.
async fn wait(programs: &dyn Health) -> Result<f64> {
    let begin = Instant::now();
    loop {
        let round = timeout(ANSWER, ask(programs)).await.context("no answer").flatten();
        match round {
            Ok(()) => return uptime(&fs::read_to_string("/proc/uptime")?),
            Err(missing) if begin.elapsed() + PAUSE > LIMIT => {
                return Err(missing.context(format!("not healthy after {LIMIT:?}")));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn ask(programs: &dyn Health) -> Result<()> {
    let said = programs.runtime(Path::new(CONTAINERD)).await?;
    for name in CONDITIONS {
        let holds = said.iter().any(|condition| condition.r#type == name && condition.status);
        ensure!(holds, "containerd does not say {name}");
    }
    match programs.http_status(KUBELET.0, KUBELET.1).await? {
        Some(200) => Ok(()),
        other => bail!("kubelet's health address answers {other:?}"),
    }
}

/// The first number of `/proc/uptime`.
fn uptime(text: &str) -> Result<f64> {
    let first = text.split_whitespace().next().context("/proc/uptime is empty")?;
    first.parse().with_context(|| format!("/proc/uptime says {first:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uptime_is_the_first_number() {
        assert!((uptime("12.34 20.00\n").unwrap() - 12.34).abs() < 1e-9);
        assert!(uptime("").is_err() && uptime("soon 1").is_err());
    }
}
