//! Is this boot good?
//!
//! In: probes, how long all of them must be well, and by when. Out: one verdict. **Invariant:**
//! a boot is good only when every probe was well in every round of the settling time, and that
//! time was over before the deadline. Time in which nothing but the API server's silence is wrong
//! moves the deadline, up to a bound: it may be down for everybody.

mod address;
mod probe;
mod probes;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use crate::effects::Clock;
use crate::planted::{Planted, is_planted};
use crate::update::Failure;

pub use address::{HttpAddress, InvalidAddress};

use probe::{ANSWER_TIMEOUT, API_SERVER, CONTAINERD, NODE_READY, WORKLOADS};

pub use probe::Probe;
pub use probes::{NodePrograms, kubelet_is_healthy, probes};

/// How fast rounds follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Pause between two rounds.
    pub pause: Duration,
    /// How long one probe may take to answer.
    pub answer: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { pause: Duration::from_secs(1), answer: ANSWER_TIMEOUT }
    }
}

/// By when a boot must have been well, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerdictTerms {
    /// Without a break.
    pub settle: Duration,
    /// Since the kernel started. `None` judges until all is well: for a boot that has nothing
    /// to fall back to.
    pub deadline: Option<Duration>,
    /// How much the API server's silence alone moves the deadline at most.
    pub api_server_grace: Duration,
    /// How fast rounds follow each other.
    pub pace: Pace,
}

/// What one probe said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// Name of the probe.
    pub probe: String,
    /// `None` when all is well.
    pub missing: Option<String>,
}

/// One round of questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Every probe, in order.
    pub answers: Vec<ProbeAnswer>,
    /// How long all have been well; `None` when one is not.
    pub well_for: Option<Duration>,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Bless it.
    Healthy,
    /// Condemn it.
    Failed(Failure),
}

/// How long a boot has lacked nothing but the API server's answer: the sum for all that judge it.
#[derive(Debug, Default)]
pub struct Silence(Mutex<Duration>);

impl Silence {
    fn total(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What judged this boot before, in another process, has not ended it although its deadline is
    /// over: so the time since then was silence, and enough to settle is left.
    fn begin(&self, terms: VerdictTerms, uptime: Duration) {
        let over = terms.deadline.and_then(|deadline| uptime.checked_sub(deadline));
        let mut total = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(over) = over.filter(|_| total.is_zero()) {
            *total = over + terms.settle * 2;
        }
    }

    fn add(&self, time: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }
}

/// Asks all probes in rounds until the verdict, and shows each round to `observe`.
pub async fn judge(
    probes: &[Box<dyn Probe>],
    terms: VerdictTerms,
    silence: &Silence,
    clock: &dyn Clock,
    mut observe: impl FnMut(&Round),
) -> Verdict {
    let mut well_since = None;
    let mut last_failure = None;
    let mut round_before = clock.uptime();
    silence.begin(terms, round_before);
    loop {
        let asked_at = clock.uptime();
        let answers = ask_all(probes, terms.pace.answer).await;
        match failure(&answers) {
            Some(failure) => {
                if is_silence_alone(&failure) {
                    silence.add(clock.uptime().saturating_sub(round_before));
                }
                well_since = None;
                last_failure = Some(failure);
            }
            None => {
                well_since.get_or_insert(asked_at);
            }
        }
        let uptime = clock.uptime();
        let well_for = well_since.map(|since| uptime.saturating_sub(since));
        observe(&Round { answers, well_for });
        round_before = uptime;
        let moved = silence.total().min(terms.api_server_grace);
        let is_over = terms.deadline.is_some_and(|deadline| uptime > deadline + moved)
            && !is_planted(Planted::DeadlineIgnored);
        let is_settled = |well_for| well_for >= terms.settle || is_planted(Planted::BlessedAtOnce);
        match well_for {
            Some(well_for) if is_settled(well_for) && !is_over => return Verdict::Healthy,
            _ if is_over => return Verdict::Failed(too_late(terms, well_for, last_failure)),
            _ => sleep(terms.pace.pause).await,
        }
    }
}

async fn ask_all(probes: &[Box<dyn Probe>], limit: Duration) -> Vec<ProbeAnswer> {
    join_all(probes.iter().map(|probe| ask(probe.as_ref(), limit))).await
}

async fn ask(probe: &dyn Probe, limit: Duration) -> ProbeAnswer {
    let missing = match timeout(limit, probe.ask()).await {
        Ok(Ok(())) => None,
        Ok(Err(missing)) => Some(missing),
        Err(_) => Some(format!("no answer within {limit:?}")),
    };
    ProbeAnswer { probe: probe.name().to_owned(), missing }
}

/// The first probe that is not well, or the API server where all else follows from its silence, with
/// the names of the others.
fn failure(answers: &[ProbeAnswer]) -> Option<Failure> {
    let mut missing: Vec<(&str, &str)> = answers
        .iter()
        .filter_map(|answer| Some((answer.probe.as_str(), answer.missing.as_deref()?)))
        .collect();
    if is_silence(missing.iter().map(|(probe, _)| *probe)) {
        missing.sort_by_key(|(probe, _)| *probe != API_SERVER);
    }
    let ((probe, message), others) = missing.split_first()?;
    let others: Vec<&str> = others.iter().map(|(probe, _)| *probe).collect();
    Some(Failure::with_others(probe, message, &others))
}

/// What is not well either while the API server is silent: the network of pods waits for it, and
/// containerd's probe for that network.
const SILENT_TOO: [&str; 3] = [CONTAINERD, NODE_READY, WORKLOADS];

/// Whether all of these probes may have failed for the API server's silence.
fn is_silence<'a>(failed: impl Iterator<Item = &'a str> + Clone) -> bool {
    failed.clone().any(|probe| probe == API_SERVER)
        && failed.clone().all(|probe| probe == API_SERVER || SILENT_TOO.contains(&probe))
}

/// True when nothing but the API server's silence was wrong: then it may have been down for
/// everybody. False when it is not known which other probes failed.
pub fn is_silence_alone(failure: &Failure) -> bool {
    let Some(also) = &failure.also else { return false };
    is_silence(std::iter::once(&failure.probe).chain(also).map(String::as_str))
}

/// Why a boot was not good before the deadline.
fn too_late(terms: VerdictTerms, well_for: Option<Duration>, last: Option<Failure>) -> Failure {
    let settle = terms.settle.as_secs();
    match (well_for, last) {
        (None, Some(failure)) => failure,
        (Some(well_for), Some(Failure { probe, message, also })) => {
            let well_for = well_for.as_secs();
            let text =
                format!("well for {well_for} s of {settle} s at the deadline; before: {message}");
            Failure { also, ..Failure::new(&probe, &text) }
        }
        (well_for, None) => {
            let well_for = well_for.unwrap_or_default().as_secs();
            let text = format!(
                "all probes were well for {well_for} s of {settle} s when the deadline came: look \
                 why slipwayd began late"
            );
            Failure::new("settling", &text)
        }
    }
}
