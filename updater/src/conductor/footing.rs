//! Whoever waits until this boot has stood.
//!
//! In: the probes' answers, or a time for which slipwayd is alive. Out: that the boot has stood.
//! **Invariant:** another's outage costs no tries: alive for long enough is enough.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::judge::{self, Judged};
use super::task::Task;
use crate::update::Unproven;
use crate::verdict::Verdict;

/// A boot in which slipwayd was alive for so long has stood, whatever the probes say.
const ALIVE: Duration = Duration::from_mins(10);

/// A boot that has not stood yet, and whoever waits for that.
pub struct Footing {
    task: Task<()>,
    /// What is to get its tries back; a boot on trial gets none.
    unproven: Option<Unproven>,
}

impl Footing {
    /// That of a boot on trial without a way back.
    pub fn of_a_trial() -> Self {
        Self { task: tokio::spawn(sleep(ALIVE)).into(), unproven: None }
    }

    /// That of a blessed release's boot, with what a judge of it needs.
    pub fn of(unproven: Unproven, judged: Judged) -> Self {
        tracing::info!(uki = %unproven.name(), "slipway: this boot is counted until it has stood");
        let task = tokio::spawn(async move {
            let well = async {
                if let Verdict::Failed(failure) = judge::judge(judged).await {
                    tracing::warn!(
                        "slipway: the probes cannot tell whether this boot stands: {failure}"
                    );
                    std::future::pending::<()>().await;
                }
            };
            // It does not matter which of them came first.
            let _: Result<(), tokio::time::error::Elapsed> = timeout(ALIVE, well).await;
        });
        Self { task: task.into(), unproven: Some(unproven) }
    }

    /// Returns when the boot has stood. Nothing is lost when the wait is given up.
    pub async fn stood(&mut self) {
        if (&mut self.task).await.is_err() {
            tracing::error!("slipway: whoever watched this boot ended early: it passes for stood");
        }
    }

    /// What is to get its tries back now.
    pub fn into_unproven(self) -> Option<Unproven> {
        self.unproven
    }
}
