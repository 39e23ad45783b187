//! systemd's services, through systemctl and journalctl.
//!
//! In: the name of a unit. Out: what systemd did, or says of it. **Invariant:** nobody waits for
//! systemd longer than [`ANSWER_LIMIT`] to hear how a unit is; an order that is waited for has the
//! time that the unit has.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Services, UnitOrder, UnitState};

/// How long systemd may take to say how a unit is.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How far back a log is read.
const SINCE: &str = "--since=-30s";
/// Longest part of its words that an error repeats, in characters.
const MAX_WORDS: usize = 400;

/// The service manager of this machine.
pub struct Manager {
    systemctl: PathBuf,
    journalctl: PathBuf,
}

impl Manager {
    /// Speaks through these programs.
    pub fn new(systemctl: &Path, journalctl: &Path) -> Self {
        Self { systemctl: systemctl.to_owned(), journalctl: journalctl.to_owned() }
    }
}

fn arguments(order: UnitOrder) -> [&'static str; 2] {
    match order {
        UnitOrder::Restart => ["--quiet", "restart"],
        UnitOrder::TryRestart => ["--quiet", "try-restart"],
        UnitOrder::BeginStart => ["--no-block", "start"],
        UnitOrder::BeginRestart => ["--no-block", "restart"],
    }
}

async fn output(program: &Path, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output().await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words: String = words.trim().chars().take(MAX_WORDS).collect();
    Err(io::Error::other(format!("{}: {}: {words}", program.display(), output.status)))
}

async fn soon(program: &Path, arguments: &[&str]) -> io::Result<String> {
    let asked = timeout(ANSWER_LIMIT, output(program, arguments)).await;
    asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[async_trait]
impl Services for Manager {
    async fn order(&self, order: UnitOrder, unit: &str) -> io::Result<()> {
        let [flag, verb] = arguments(order);
        output(&self.systemctl, &[flag, verb, unit]).await.map(drop)
    }

    async fn state(&self, unit: &str) -> io::Result<UnitState> {
        let arguments = ["show", "--property=MainPID,SubState", unit];
        Ok(parse_state(&soon(&self.systemctl, &arguments).await?))
    }

    async fn log(&self, unit: &str) -> io::Result<String> {
        soon(&self.journalctl, &["--unit", unit, SINCE, "--output", "cat"]).await
    }
}

fn parse_state(output: &str) -> UnitState {
    let value =
        |name: &str| output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let process = value("MainPID").and_then(|number| number.parse().ok());
    let has_failed =
        matches!(value("SubState"), Some("auto-restart" | "auto-restart-queued" | "failed"));
    UnitState { process: process.filter(|number| *number != 0), has_failed }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_service_that_ended_by_itself_is_told_from_one_that_starts() {
        let failed = "MainPID=0\nSubState=auto-restart\n";
        assert_eq!(parse_state(failed), UnitState { process: None, has_failed: true });
        let runs = "SubState=running\nMainPID=812\n";
        assert_eq!(parse_state(runs), UnitState { process: Some(812), has_failed: false });
        let stops = UnitState { process: Some(7), has_failed: false };
        assert_eq!(parse_state("MainPID=7\nSubState=stop-sigterm\n"), stops);
        assert_eq!(parse_state(""), UnitState { process: None, has_failed: false });
    }

    #[tokio::test]
    async fn an_order_is_given_as_it_is_and_a_refusal_comes_back_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("systemctl");
        let script = "#!/bin/sh\necho \"$@\" >> \"$0.asked\"\n\
            [ \"$3\" = bad.service ] && { echo 'Unit bad.service not found.' >&2; exit 5; }\n\
            exit 0\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let manager = Manager::new(&program, Path::new("/nonexistent"));
        for order in [UnitOrder::TryRestart, UnitOrder::BeginStart] {
            manager.order(order, "a.service").await.unwrap();
        }
        let error = manager.order(UnitOrder::Restart, "bad.service").await.unwrap_err();
        assert!(error.to_string().contains("Unit bad.service not found."), "{error}");
        let asked = fs::read_to_string(folder.path().join("systemctl.asked")).unwrap();
        let orders = "--quiet try-restart a.service\n--no-block start a.service\n--quiet restart bad.service\n";
        assert_eq!(asked, orders);
        assert!(manager.log("a.service").await.is_err());
    }
}
