//! What is remembered of stagings that failed.
//!
//! In: each failure, each success. Out: the same for policy. **Invariant:** how long to wait is
//! policy's to say; here is only what happened, and when.

use std::time::Duration;

use tokio::time::Instant;

use crate::policy::FailedStaging;

/// Stagings that failed.
#[derive(Debug, Default)]
pub struct Failures {
    last: Option<(FailedStaging, Instant)>,
    /// How often what was staged was found changed before it was armed.
    spoiled: u32,
}

impl Failures {
    /// A release could not be staged.
    pub fn add(&mut self, sentence: String) {
        self.add_at_least(sentence, 0);
    }

    /// What was staged is not as it was. The first time it is staged again at once, which is no
    /// problem for an operator to solve: false. A disk on which it happens time and again is one,
    /// and gets ever longer pauses.
    pub fn add_spoiled(&mut self, sentence: String) -> bool {
        let again = self.spoiled;
        self.spoiled = again.saturating_add(1);
        if again > 0 {
            self.add_at_least(sentence, again);
        }
        again > 0
    }

    fn add_at_least(&mut self, sentence: String, least: u32) {
        let before = self.last.as_ref().map_or(0, |(failed, _)| failed.failures);
        let failures = before.max(least).saturating_add(1);
        let failed = FailedStaging { sentence, failures, ago: Duration::ZERO };
        self.last = Some((failed, Instant::now()));
    }

    /// A release was staged.
    pub fn end(&mut self) {
        self.last = None;
    }

    /// The same for policy.
    pub fn facts(&self) -> Option<FailedStaging> {
        let (failed, at) = self.last.as_ref()?;
        Some(FailedStaging { ago: at.elapsed(), ..failed.clone() })
    }
}
