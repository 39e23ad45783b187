//! Writing a release to the other slot.
//!
//! In: policy's word, a verified offer. Out: a slot that is staged, or a problem on the board.
//! **Invariant:** each step takes the proof of the one before; a boot that is judged stays so beside
//! all of it.

use contract::UkiName;
use contract::node::api::ProblemKind;

use super::Conductor;
use super::step::{Boot, Idle, Ready, Step};
use crate::api::wording;
use crate::chain;
use crate::effects::http;
use crate::metrics::UpdateEnd;
use crate::policy::Order;
use crate::staging::{Delivery, Job, StageError};
use crate::update::{Plan, ReleaseId};

impl Conductor {
    /// Starts to write the wanted release to the other slot.
    pub(super) async fn stage(&mut self, idle: Idle) -> Step {
        let channel = self.keeper.settings().and_then(|settings| settings.channel.clone());
        let offer = self.watch.found().and_then(|found| found.offer.clone());
        let (Some(offer), Some(client), Some(channel)) = (offer, self.http.clone(), channel) else {
            return Step::Idle(Idle::with(idle.boot, idle.ready));
        };
        // What the other slot holds is about to be written over.
        let Idle { boot, .. } = idle;
        let version = offer.release.version.clone();
        let root_hash = offer.release.root.root_hash;
        let plan = Plan { release: ReleaseId { version: version.clone(), root_hash } };
        let disarmed = match boot.machine.step(move |it| it.disarm_target(&plan)).await {
            Ok(disarmed) => disarmed,
            Err(error) => {
                self.give_up_staging(&error);
                return Step::Idle(Idle::new(boot));
            }
        };
        tracing::info!(release = %version, "slipway: staging release {version}");
        let (stager, board) = (self.stager.clone(), self.parts.board.clone());
        let booted = self.booted().await;
        let mirrors = http::mirrors(&channel);
        let task = tokio::task::spawn_local(async move {
            let progress = &board.progress;
            let offer = &offer;
            let mirrors = &mirrors;
            stager.stage(Job { offer, booted, disarmed, client, mirrors, progress }).await
        });
        Step::Staging { boot, task: task.into(), version }
    }

    /// The UKI that runs, whose blocks are used again.
    async fn booted(&mut self) -> Option<UkiName> {
        let ukis = self.partition.ukis().await?;
        self.parts.facts.slot.uki(&ukis)
    }

    /// Notes what was staged, so that an operator sees it.
    pub(super) async fn finish_staging(
        &mut self,
        boot: Boot,
        result: Result<Delivery, StageError>,
    ) -> Step {
        let Delivery { staged, root_way: way, bytes_moved, journal_trouble, .. } = match result {
            Ok(delivery) => delivery,
            Err(error) => {
                self.give_up_staging(&error);
                return Step::Idle(Idle::new(boot));
            }
        };
        if let Some(trouble) = journal_trouble {
            tracing::warn!(trouble, "how far staging got could not be kept");
        }
        self.parts.metrics.add_moved(wording::way(way), bytes_moved);
        tracing::info!(
            bytes = bytes_moved,
            "slipway: release is staged, {bytes_moved} bytes moved, way {way}"
        );
        self.failures.end();
        // An order to stage is fulfilled. What comes next is for policy, as without it.
        if self.wishes.order == Order::Stage {
            self.wishes.order = Order::None;
        }
        self.parts.board.change(|board| board.problem = None);
        let recorded = boot.machine.step(move |machine| {
            machine.record_staged(&staged)?;
            Ok(staged)
        });
        match recorded.await {
            Ok(staged) => Step::Idle(Idle::with(boot, Some(Ready::Staged(staged)))),
            Err(error) => {
                self.give_up_staging(&error);
                Step::Idle(Idle::new(boot))
            }
        }
    }

    /// Says that the release cannot be staged; policy says when it is tried again.
    pub(super) fn give_up_staging(&mut self, error: &dyn std::error::Error) {
        self.failures.add(chain(error));
        self.show_failed_staging(error);
    }

    /// The same of what was staged and is no longer as it was.
    pub(super) fn give_up_staged(&mut self, error: &StageError) {
        match error {
            StageError::Firmware(_) => self.give_up_staging(error),
            error => match self.failures.add_spoiled(chain(error)) {
                true => self.show_failed_staging(error),
                false => {
                    let text = chain(error);
                    tracing::warn!(
                        "slipway: what was staged is not whole, and is staged again: {text}"
                    );
                    self.parts.metrics.add_update(UpdateEnd::StageFailed);
                }
            },
        }
    }

    fn show_failed_staging(&mut self, error: &dyn std::error::Error) {
        self.complain(ProblemKind::Staging, "the release cannot be staged", error);
        self.parts.metrics.add_update(UpdateEnd::StageFailed);
        self.wishes.order = Order::None;
    }
}
