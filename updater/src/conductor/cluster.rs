//! The API server, asked while there is a release that has to go with it.
//!
//! In: the wanted release, the cluster of the settings. Out: the API server's version for
//! policy. **Invariant:** a release is forgiven only when nothing but the API server's silence
//! was wrong with it, and the release before hears nothing either, for [`OUTAGE`] and from the
//! first question of this run on: then the API server is down for everybody.

use std::time::Duration;

use contract::RootHash;
use semver::Version;
use tokio::time::Instant;

use super::{Conductor, Work};
use crate::cluster::{Cluster, Unanswered};
use crate::policy::ApiServer;
use crate::update::Cause;
use crate::verdict::is_silence_alone;

/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(60);
/// How long the API server must be silent to be down for everybody: longer than a node takes to
/// reach its network.
const OUTAGE: Duration = Duration::from_secs(120);

/// What is known of the API server.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// What it said last, while a release waits for it.
    pub(super) answer: Option<ApiServer>,
    asked: Option<Instant>,
    /// Since when every question of this run had no answer.
    silent_since: Option<Instant>,
    /// It has answered in this run.
    has_answered: bool,
}

impl Heard {
    fn is_fresh(&self, now: Instant) -> bool {
        let answers = matches!(self.answer, Some(ApiServer::Answers(_)));
        answers && self.asked.is_some_and(|asked| now.duration_since(asked) < FRESH)
    }

    fn note(&mut self, answer: Result<Version, Unanswered>, now: Instant) {
        match answer {
            Err(Unanswered::Down(_)) => {
                self.silent_since.get_or_insert(now);
            }
            // What is wrong with another answer is wrong for this node.
            Ok(_) | Err(Unanswered::Wrong(_)) => self.has_answered = true,
        }
        self.asked = Some(now);
        self.answer = Some(match answer {
            Ok(version) => ApiServer::Answers(version),
            Err(error) => ApiServer::Silent(error.to_string()),
        });
    }

    /// Nobody reaches it.
    fn is_outage(&self, now: Instant) -> bool {
        let silent = self.silent_since.filter(|_| !self.has_answered);
        silent.is_some_and(|since| now.duration_since(since) >= OUTAGE)
    }
}

impl Conductor {
    /// Asks the API server for its version, when a release waits for that.
    pub(super) async fn ask_api_server(&mut self) {
        let running = self.parts.facts.root_hash;
        let offer = self.look.found.as_ref().and_then(|found| found.documents().offer);
        let wanted = offer.map(|offer| offer.root_hash).filter(|wanted| *wanted != running);
        let cluster = self.settings.as_ref().and_then(|settings| settings.kubernetes.clone());
        let (Some(wanted), Some(cluster)) = (wanted, cluster) else {
            (self.heard.answer, self.heard.silent_since) = (None, None);
            return;
        };
        // Silence while the node is drained, and after, is the drain's to judge.
        let drains = matches!(self.work, Work::Draining(_)) || self.drain.is_over();
        if drains || self.heard.is_fresh(Instant::now()) {
            return;
        }
        let answer = Cluster::of_this_machine(cluster).version().await;
        self.heard.note(answer, Instant::now());
        if self.heard.is_outage(Instant::now()) {
            self.forgive(wanted).await;
        }
    }

    /// Lets a release be tried again that failed for the API server's silence alone.
    async fn forgive(&mut self, wanted: RootHash) {
        let blamed = self.with_machine(|machine| {
            machine.journal().refusals.iter().any(|refusal| {
                let silence =
                    matches!(&refusal.cause, Cause::Verdict(failure) if is_silence_alone(failure));
                silence && refusal.release.root_hash == wanted
            })
        });
        if blamed != Some(true) {
            return;
        }
        match self.step(move |machine| machine.forget(Some(&wanted))).await {
            Some(Ok(_)) => tracing::info!(
                "slipway: the API server answers the release before no more than the new one, \
                 which is tried again when it does"
            ),
            Some(Err(error)) => self.complain("a release cannot be forgiven", &error),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> Result<Version, Unanswered> {
        Err(Unanswered::Down("the API server does not answer".to_owned()))
    }

    #[test]
    fn silence_is_an_outage_only_when_it_lasts_from_the_first_question_on() {
        let start = Instant::now();
        let mut heard = Heard::default();
        heard.note(silent(), start);
        assert!(!heard.is_outage(start + OUTAGE / 2));
        heard.note(silent(), start + OUTAGE);
        assert!(heard.is_outage(start + OUTAGE));

        let mut heard = Heard::default();
        heard.note(Ok(Version::new(1, 37, 2)), start);
        heard.note(silent(), start + FRESH);
        assert!(!heard.is_outage(start + FRESH + 2 * OUTAGE), "this release reaches it");

        let mut heard = Heard::default();
        heard.note(Err(Unanswered::Wrong("a stranger's certificate".to_owned())), start);
        heard.note(silent(), start);
        assert!(!heard.is_outage(start + OUTAGE), "the settings are wrong, not the server");
    }

    #[test]
    fn an_answer_counts_for_a_while_and_silence_does_not() {
        let start = Instant::now();
        let mut heard = Heard::default();
        heard.note(Ok(Version::new(1, 37, 2)), start);
        assert!(heard.is_fresh(start + FRESH / 2) && !heard.is_fresh(start + FRESH));
        heard.note(silent(), start);
        assert!(!heard.is_fresh(start));
    }
}
