//! Following an update to its end, over the node's restarts.
//!
//! In: the status before it was started. Out: how it ended. What a status means is decided by
//! [`ended`], which is pure.

use std::time::Duration;

use contract::node::api::{
    Boot, Fallback, Phase, Problem, Rule, Status, hold_line, paths, status_lines,
};
use tokio::time::{Instant, sleep};

use super::{NodeClient, NodeError};
use crate::progress::Progress;

/// Time between two questions.
const INTERVAL: Duration = Duration::from_secs(2);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// A release in the other slot.
    Staged,
    /// Another installation that runs and is blessed.
    Blessed,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// As it was wished.
    Well,
    /// The node gave the release up and runs the old one.
    GivenUp(Fallback),
    /// The node could not do it.
    Failed(Problem),
    /// Nothing of it by the end of the time.
    TimeOver,
}

/// Waits until the node has reached the aim, or failed.
///
/// # Errors
/// [`NodeError`] when the node refuses to say; one that cannot be reached may be restarting, and
/// is asked again.
pub async fn follow(
    client: &NodeClient,
    before: &Status,
    aim: Aim,
    limit: Duration,
    progress: &Progress,
) -> Result<(Ended, Option<Status>), NodeError> {
    let end = Instant::now() + limit;
    let (mut said, mut last) = (String::new(), None);
    loop {
        let line = match client.read::<Status>(paths::STATUS).await {
            Ok(status) => {
                if let Some(ended) = ended(before, &status, aim) {
                    return Ok((ended, Some(status)));
                }
                let line = phase_line(&status);
                last = Some(status);
                line
            }
            Err(error) if error.may_pass() => {
                "the node does not answer; it may be restarting".to_owned()
            }
            Err(error) => return Err(error),
        };
        if line != said {
            progress.note(&line);
            said = line;
        }
        if Instant::now() + INTERVAL > end {
            return Ok((Ended::TimeOver, last));
        }
        sleep(INTERVAL).await;
    }
}

/// How far it is; of a drain what it waits for.
fn phase_line(status: &Status) -> String {
    let lines = status_lines(status);
    let phase = lines.into_iter().find(|(label, _)| *label == "phase");
    let phase = phase.map(|(_, text)| text).unwrap_or_default();
    match status.holds.iter().find(|hold| hold.rule == Rule::Drain) {
        Some(hold) if status.phase == Phase::Draining => format!("{phase}: {}", hold_line(hold)),
        Some(_) | None => phase,
    }
}

/// What a status says of an update that was started when the node had the status `before`.
fn ended(before: &Status, now: &Status, aim: Aim) -> Option<Ended> {
    // Times do not tell: a node's clock may be set in between.
    if let Some(fallback) = &now.fallback
        && !before.fallback.as_ref().is_some_and(|known| is_same(known, fallback))
    {
        return Some(Ended::GivenUp(fallback.clone()));
    }
    let further = now.running.generation > before.running.generation;
    let reached = match aim {
        Aim::Staged => {
            matches!(now.phase, Phase::Staged | Phase::Draining | Phase::Armed) || further
        }
        Aim::Blessed => further && now.running.boot == Boot::Blessed,
    };
    if reached {
        return Some(Ended::Well);
    }
    match &now.problem {
        Some(problem) if before.problem.as_ref() != Some(problem) => {
            Some(Ended::Failed(problem.clone()))
        }
        _ => None,
    }
}

/// Whether both are the same event. An older slipwayd says less of it than the one that comes next.
fn is_same(one: &Fallback, other: &Fallback) -> bool {
    (one.at, one.generation, &one.version) == (other.at, other.generation, &other.version)
}

#[cfg(test)]
mod tests {
    use contract::node::api::CauseKind;

    use super::*;
    use crate::node::text::tests::{example, fallback, problem};

    fn after(change: impl FnOnce(&mut Status)) -> Option<Ended> {
        let mut status = example();
        change(&mut status);
        ended(&example(), &status, Aim::Blessed)
    }

    #[test]
    fn a_fallback_of_before_that_is_told_in_other_words_is_no_new_one() {
        let mut before = example();
        let known = Fallback { kind: CauseKind::Unknown, probe: None, ..fallback() };
        before.fallback = Some(known);
        let mut status = before.clone();
        status.fallback = Some(fallback());
        assert_eq!(ended(&before, &status, Aim::Blessed), None);
    }

    #[test]
    fn an_update_ends_when_its_boot_is_blessed_and_not_before() {
        assert_eq!(after(|_| ()), None);
        assert_eq!(after(|status| status.phase = Phase::Armed), None);
        let pending = |status: &mut Status| {
            status.running.generation += 1;
            status.running.boot = Boot::Pending;
        };
        assert_eq!(after(pending), None);
        assert_eq!(after(|status| status.running.generation += 1), Some(Ended::Well));
    }

    #[test]
    fn staging_ends_when_the_other_slot_is_verified() {
        let mut status = example();
        status.phase = Phase::Staging;
        assert_eq!(ended(&example(), &status, Aim::Staged), None);
        status.phase = Phase::Staged;
        assert_eq!(ended(&example(), &status, Aim::Staged), Some(Ended::Well));
    }

    #[test]
    fn failures_from_before_do_not_count() {
        let mut before = example();
        before.fallback = Some(fallback());
        before.problem = Some(problem());
        assert_eq!(ended(&before, &before.clone(), Aim::Blessed), None);
        let given_up = after(|status| status.fallback = Some(fallback()));
        assert_eq!(given_up, Some(Ended::GivenUp(fallback())));
        let failed = after(|status| status.problem = Some(problem()));
        assert_eq!(failed, Some(Ended::Failed(problem())));
    }
}
