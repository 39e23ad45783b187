//! What is known of the API server, while there is a release that has to go with it.
//!
//! In: its answers. Out: its version for policy, and whether it is down for everybody.
//! **Invariant:** that is said only when it has been silent for [`OUTAGE`], and from the first
//! question of this run on.

use std::time::Duration;

use semver::Version;
use tokio::time::Instant;

use super::{Cluster, Unanswered};
use crate::policy::ApiServer;

/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(60);
/// How long the API server must be silent to be down for everybody: longer than a node takes to
/// reach its network.
const OUTAGE: Duration = Duration::from_secs(120);

/// What is known of the API server.
#[derive(Debug, Default)]
pub struct Contact {
    /// What it said last, while a release waits for it.
    answer: Option<ApiServer>,
    asked: Option<Instant>,
    /// Since when every question of this run had no answer.
    silent_since: Option<Instant>,
    /// It has answered in this run.
    has_answered: bool,
}

impl Contact {
    /// What it said last, while a release waits for it.
    pub fn answer(&self) -> Option<&ApiServer> {
        self.answer.as_ref()
    }

    /// Nothing waits for its answer any more.
    pub fn rest(&mut self) {
        (self.answer, self.silent_since) = (None, None);
    }

    /// Asks it for its version, unless it said so a moment ago.
    pub async fn ask(&mut self, cluster: &Cluster) {
        if !self.is_fresh(Instant::now()) {
            let answer = cluster.version().await;
            self.note(answer, Instant::now());
        }
    }

    /// Nobody reaches it.
    pub fn is_outage(&self) -> bool {
        self.was_outage(Instant::now())
    }

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

    fn was_outage(&self, now: Instant) -> bool {
        let silent = self.silent_since.filter(|_| !self.has_answered);
        silent.is_some_and(|since| now.duration_since(since) >= OUTAGE)
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
        let mut contact = Contact::default();
        contact.note(silent(), start);
        assert!(!contact.was_outage(start + OUTAGE / 2));
        contact.note(silent(), start + OUTAGE);
        assert!(contact.was_outage(start + OUTAGE));

        let mut contact = Contact::default();
        contact.note(Ok(Version::new(1, 37, 2)), start);
        contact.note(silent(), start + FRESH);
        assert!(!contact.was_outage(start + FRESH + 2 * OUTAGE), "this release reaches it");

        let mut contact = Contact::default();
        contact.note(Err(Unanswered::Wrong("a stranger's certificate".to_owned())), start);
        contact.note(silent(), start);
        assert!(!contact.was_outage(start + OUTAGE), "the settings are wrong, not the server");
    }

    #[test]
    fn an_answer_counts_for_a_while_and_silence_does_not() {
        let start = Instant::now();
        let mut contact = Contact::default();
        contact.note(Ok(Version::new(1, 37, 2)), start);
        assert!(contact.is_fresh(start + FRESH / 2) && !contact.is_fresh(start + FRESH));
        contact.note(silent(), start);
        assert!(!contact.is_fresh(start));
    }
}
