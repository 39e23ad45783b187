//! Staging: bytes from the network into the target slot.
//!
//! In: a checked offer, and proof that the target slot is disarmed. Out: [`Delivery`] with
//! the proof that root, hash tree and UKI were read back from the devices, and that the firmware
//! will start the UKI. **Invariant:** only the offer is trusted: not the server, not the journal,
//! not the running slot, not the target.
//!
//! ```text
//! leaf index ─▶ what is there ─▶ copy ─▶ fetch the rest ─▶ root hash ─▶ read back
//!  (blocks)      (target, running slot)   check, decode,     or SHA-256
//!                                         hash, write                     (UKI: and ask
//!                                                                          the firmware)
//! ```
//!
//! The parts go one after the other: the root with its hash tree, then the UKI into the
//! temporary file of the EFI system partition. A power cut at any moment leaves a disarmed slot
//! and at most a temporary file; the next attempt finds what lasted by hashing it.

mod answer;
mod assembly;
mod destination;
mod error;
mod hash;
mod index;
mod jobs;
mod journal;
mod limits;
mod progress;
mod proof;
mod remote;
#[cfg(test)]
pub(crate) mod tests;
mod verify;
mod ways;

use std::sync::Arc;

use contract::release::offer::Payload;
use contract::{Offer, UkiName};
use reqwest::Url;
use tokio::sync::{Mutex, watch};

use crate::effects::{Disarmed, Effects, Http, TargetSlot, off_thread};
use crate::planted::{Planted, is_planted};
use crate::secure_boot::{self, Uki};
use assembly::{Assembly, Lane};
use destination::Destination;
use error::Earlier;
use index::Locations;
use journal::StagingJournal;
use progress::Tracker;
use remote::Remote;
use verify::SealError;
use ways::Walker;

pub use error::{DeviceError, Fault, FetchError, KnownWay, Part, ReadBack, StageError, WayError};
pub use journal::DOCUMENT;
pub use limits::Limits;
pub use progress::{Progress, StagingPhase};
pub use proof::{Confirmed, Staged};

/// Stages releases, one at a time.
pub struct Stager {
    effects: Effects,
    limits: Limits,
    lane: Arc<Mutex<()>>,
}

/// What to stage, and from where.
pub struct Job<'a> {
    /// A checked offer.
    pub offer: &'a Offer,
    /// The UKI that was booted, whose blocks are used again; `None` when it is not known.
    pub booted: Option<UkiName>,
    /// Proof that the loader does not boot the slot that is about to be written.
    pub disarmed: Disarmed,
    /// For the mirrors: proxy and certificates are set, redirects are bounded.
    pub client: Arc<dyn Http>,
    /// Addresses of the channel's folder, best first.
    pub mirrors: &'a [Url],
    /// Learns what happens.
    pub progress: &'a watch::Sender<Progress>,
}

/// A release in the target slot, and how it got there.
#[derive(Debug)]
#[must_use]
pub struct Delivery {
    /// Proof of it; what is left is to arm it.
    pub staged: Staged,
    /// The way that brought the root.
    pub root_way: KnownWay,
    /// The way that brought the UKI.
    pub uki_way: KnownWay,
    /// Bytes that came from the network.
    pub bytes_moved: u64,
    /// Why the journal could not be read or saved, for the log. Only resuming suffers.
    pub journal_trouble: Option<String>,
}

impl Stager {
    /// Writes nothing yet.
    pub fn new(effects: Effects, limits: Limits) -> Self {
        Self { effects, limits, lane: Arc::default() }
    }

    /// Brings a release into the target slot. Dropping the future stops it; the next call
    /// waits until the last write of this one has ended.
    ///
    /// # Errors
    /// [`StageError`]. The slot stays disarmed, and what was written is found by a next attempt.
    pub async fn stage(&self, job: Job<'_>) -> Result<Delivery, StageError> {
        let target = job.disarmed.target();
        let offer = job.offer;
        let uki = offer.ukis.get(&target.slot()).ok_or(StageError::NoUki(target.slot()))?;
        let lane: Lane = Arc::new(self.lane.clone().lock_owned().await);
        let effects = self.effects.clone();
        let (needed, root_hash) = (uki.bytes, offer.release.root.root_hash);
        let journal = blocking(&lane, move || {
            check_room(&effects, needed)?;
            Ok(Arc::new(StagingJournal::open(effects.state.clone(), root_hash, target.slot())))
        })
        .await?;
        let staging = Staging {
            stager: self,
            remote: Remote::new(job.client.clone(), job.mirrors, self.limits.clone()),
            tracker: Tracker::new(job.progress),
            journal,
            target,
            lane,
            job,
        };
        let root_way = staging.part(Part::Root, &offer.root).await?;
        staging.prepare_temporary(needed).await?;
        let uki_way = staging.part(Part::Uki, uki).await?;
        staging.ask_firmware().await?;
        staging.tracker.phase(StagingPhase::Staged);
        Ok(Delivery {
            staged: Staged::read_back(&staging.job.disarmed, root_hash, uki.sha256),
            root_way,
            uki_way,
            bytes_moved: staging.tracker.moved(),
            journal_trouble: staging.journal.trouble(),
        })
    }
}

impl Stager {
    /// Reads what was staged once more, whole, before it is armed: a block may have changed while
    /// the release waited for its window, or the firmware got other keys. Writes nothing.
    ///
    /// # Errors
    /// [`StageError`], also for another offer than the staged one. To stage again repairs what
    /// changed on the disk, and fetches only that.
    pub async fn confirm(&self, staged: Staged, offer: Offer) -> Result<Confirmed, StageError> {
        let lane: Lane = Arc::new(self.lane.clone().lock_owned().await);
        let (effects, target) = (self.effects.clone(), staged.target());
        blocking(&lane, move || {
            if !is_planted(Planted::NotConfirmed) {
                verify::confirm(&effects, target, &offer)?;
            }
            Ok(secure_boot::check(&effects, Uki::Temporary, target)?)
        })
        .await?;
        Ok(staged.confirmed())
    }
}

/// One staging under way.
struct Staging<'a> {
    stager: &'a Stager,
    job: Job<'a>,
    remote: Remote,
    tracker: Tracker<'a>,
    journal: Arc<StagingJournal>,
    target: TargetSlot,
    lane: Lane,
}

impl Staging<'_> {
    /// Assembles and seals one part, one way after the other.
    async fn part(&self, part: Part, payload: &Payload) -> Result<KnownWay, StageError> {
        let destination = Destination::new(&self.stager.effects, self.target, part);
        let salt = &self.job.offer.release.root.salt;
        let lane = self.lane.clone();
        let assembly =
            Arc::new(Assembly::new(payload, destination, salt, self.journal.clone(), lane));
        let mut ways = ways::known_ways(payload);
        ways.reverse();
        let mut earlier = Earlier::default();
        while let Some((way, leaves)) = ways.pop() {
            self.tracker.begin(part, way);
            let claims = self.journal.claims(part);
            let believed = !claims.is_empty() && way == KnownWay::Full;
            let walker = Walker {
                remote: &self.remote,
                assembly: &assembly,
                tracker: &self.tracker,
                connections: self.stager.limits.connections,
            };
            let walked = match leaves {
                Some(leaves) => walker.blocks(leaves, self.locate(part)).await,
                None => walker.full(claims).await,
            };
            let walked = match walked {
                Ok(()) => self.seal(part, &assembly).await?,
                Err(error) => Err(error),
            };
            let saved = assembly.clone();
            blocking(&self.lane, move || {
                saved.journal().save();
                Ok(())
            })
            .await?;
            match walked {
                Ok(()) => return Ok(way),
                Err(WayError::Device(error)) => return Err(error.into()),
                Err(error) => {
                    if matches!(error, WayError::WrongBytes(_)) {
                        assembly.forget();
                        if believed {
                            // The journal's claims were wrong: once more, without them.
                            ways.push((way, leaves));
                        }
                    }
                    if ways.is_empty() {
                        return Err(StageError::Ways { part, way, earlier, source: error });
                    }
                    earlier.0.push((way, error));
                }
            }
        }
        Err(StageError::NoWay(part))
    }

    /// Finds the blocks of the running system. One that cannot be read has none to give.
    fn locate(&self, part: Part) -> impl FnOnce() -> Option<Locations> + Send + use<> {
        let effects = self.stager.effects.clone();
        let (salt, booted) = (self.job.offer.release.root.salt, self.job.booted);
        move || {
            let found = match (part, booted) {
                (Part::Root, _) => Locations::of_root(&effects, &salt),
                (Part::Uki, Some(name)) => Locations::of_uki(&effects, name, &salt),
                (Part::Uki, None) => Ok(None),
            };
            found.unwrap_or_else(|error| {
                tracing::warn!(%error, "slipway: the running {part} gives no blocks");
                None
            })
        }
    }

    async fn seal(
        &self,
        part: Part,
        assembly: &Arc<Assembly>,
    ) -> Result<Result<(), WayError>, StageError> {
        self.tracker.phase(StagingPhase::Verifying);
        let (assembly, effects) = (assembly.clone(), self.stager.effects.clone());
        let (root, target) = (self.job.offer.release.root.clone(), self.target);
        blocking(&self.lane, move || {
            let sealed = match part {
                Part::Root => verify::seal_root(&assembly, effects.slots.as_ref(), target, &root),
                Part::Uki => verify::seal_uki(&assembly),
            };
            match sealed {
                Ok(()) => Ok(Ok(())),
                Err(SealError::WrongBytes) => Ok(Err(WayError::WrongBytes(part))),
                Err(SealError::Fatal(error)) => Err(error),
            }
        })
        .await
    }

    /// Asks the firmware about the UKI in the temporary file, which is whole.
    async fn ask_firmware(&self) -> Result<(), StageError> {
        let (effects, target) = (self.stager.effects.clone(), self.target);
        blocking(&self.lane, move || Ok(secure_boot::check(&effects, Uki::Temporary, target)?))
            .await
    }

    /// Makes the temporary file, unless an earlier attempt left one of the same size.
    async fn prepare_temporary(&self, bytes: u64) -> Result<(), StageError> {
        let effects = self.stager.effects.clone();
        let destination = Destination::new(&effects, self.target, Part::Uki);
        blocking(&self.lane, move || {
            let esp = effects.esp.as_ref();
            // One that cannot be read is made anew.
            if esp.temporary_bytes().is_ok_and(|there| there == Some(bytes)) {
                return Ok(());
            }
            let made = esp.create_temporary(bytes);
            Ok(made.map_err(|source| destination.failed("make", 0, source))?)
        })
        .await
    }
}

fn check_room(effects: &Effects, needed: u64) -> Result<(), StageError> {
    let free = effects.esp.free_bytes().map_err(|source| DeviceError {
        doing: "measure the room for",
        part: ReadBack::Part(Part::Uki),
        offset: 0,
        source,
    })?;
    if free < needed { Err(StageError::EspFull { needed, free }) } else { Ok(()) }
}

/// Runs blocking work; the lane stays taken until it ends, even if nobody waits for it.
async fn blocking<T: Send + 'static>(
    lane: &Lane,
    work: impl FnOnce() -> Result<T, StageError> + Send + 'static,
) -> Result<T, StageError> {
    let lane = lane.clone();
    let run = move || {
        let result = work();
        drop(lane);
        result
    };
    off_thread(run).await.map_err(|_| StageError::Stopped)?
}
