//! What the machine's own types mean in the API.
//!
//! In: journal, progress. Out: the API's types. **Invariant:** every variant of ours has
//! its place; none is mapped by a wildcard.

use contract::node::api::{
    CauseKind, Event, EventKind, Fallback, Progress as ApiProgress, Reached, RefusedRelease, Step,
    TransferWay,
};

use crate::staging::{KnownWay, Part, Progress, StagingPhase};
use crate::update::{Cause, Failure, Happening, HistoryEntry, Journal, Refusal};

/// How far a release got.
pub fn reached(cause: &Cause) -> Reached {
    match cause {
        Cause::Loader => Reached::Loader,
        Cause::Kernel { .. } => Reached::Kernel,
        Cause::Userspace { .. } | Cause::RolledBack => Reached::Userspace,
        Cause::Verdict(_) => Reached::Probe,
    }
}

/// Why a release was given up.
pub fn kind(cause: &Cause) -> CauseKind {
    match cause {
        Cause::Loader => CauseKind::Loader,
        Cause::Kernel { .. } => CauseKind::Kernel,
        Cause::Userspace { blessed: true, .. } => CauseKind::Lapsed,
        Cause::Userspace { judging: false, .. } => CauseKind::Userspace,
        Cause::Userspace { judging: true, .. } => CauseKind::Judging,
        Cause::Verdict(_) => CauseKind::Probe,
        Cause::RolledBack => CauseKind::RolledBack,
    }
}

fn failure(cause: &Cause) -> Option<&Failure> {
    match cause {
        Cause::Verdict(failure) => Some(failure),
        Cause::Loader | Cause::Kernel { .. } | Cause::Userspace { .. } | Cause::RolledBack => None,
    }
}

fn probe(cause: &Cause) -> Option<String> {
    failure(cause).map(|failure| failure.probe.clone())
}

fn also(cause: &Cause) -> Vec<String> {
    failure(cause).and_then(|failure| failure.also.clone()).unwrap_or_default()
}

/// A release that is refused.
pub fn refused(refusal: &Refusal) -> RefusedRelease {
    RefusedRelease {
        version: Some(refusal.release.version.clone()),
        root_hash: refusal.release.root_hash,
        since: refusal.at,
        reached: reached(&refusal.cause),
        kind: kind(&refusal.cause),
        probe: probe(&refusal.cause),
        also: also(&refusal.cause),
        cause: refusal.cause.to_string(),
    }
}

/// The last time that a release was given up.
pub fn fallback(journal: &Journal) -> Option<Fallback> {
    let (index, entry, cause) =
        journal.history.iter().enumerate().rev().find_map(|(index, entry)| match &entry.what {
            Happening::FellBack { cause } => Some((index, entry, cause)),
            _ => None,
        })?;
    let earlier = journal.history.iter().take(index).rev();
    let generation = earlier.filter(|other| other.release == entry.release).find_map(generation);
    Some(Fallback {
        version: Some(entry.release.version.clone()),
        generation: generation.unwrap_or_default(),
        at: entry.at,
        reached: reached(cause),
        kind: kind(cause),
        probe: probe(cause),
        also: also(cause),
        cause: cause.to_string(),
    })
}

fn generation(entry: &HistoryEntry) -> Option<u32> {
    match entry.what {
        Happening::Armed { generation } | Happening::RollingBack { generation } => Some(generation),
        Happening::Staged
        | Happening::Blessed
        | Happening::Condemned { .. }
        | Happening::FellBack { .. }
        | Happening::Cleared
        | Happening::JournalDamaged => None,
    }
}

/// An entry of the history.
pub fn event(entry: &HistoryEntry) -> Event {
    let version = &entry.release.version;
    let (kind, message) = match &entry.what {
        Happening::Staged => {
            (EventKind::Staged, format!("release {version} is whole in the other slot"))
        }
        Happening::Armed { .. } => (EventKind::Armed, format!("release {version} starts next")),
        Happening::RollingBack { .. } => {
            (EventKind::RolledBack, format!("an operator goes back to release {version}"))
        }
        Happening::Blessed => (EventKind::Blessed, format!("release {version} was found good")),
        Happening::Condemned { failure } => {
            (EventKind::Condemned, format!("release {version} was found bad: {failure}"))
        }
        Happening::FellBack { cause } => {
            (EventKind::FellBack, format!("the node came back from release {version}: {cause}"))
        }
        Happening::Cleared => (EventKind::Cleared, format!("release {version} may be tried again")),
        Happening::JournalDamaged => {
            let message = "the journal of updates was unreadable and began anew";
            (EventKind::JournalDamaged, message.to_owned())
        }
    };
    Event {
        at: entry.at,
        kind,
        version: Some(version.clone()),
        generation: generation(entry),
        message,
    }
}

/// The bytes of a staging.
pub fn progress(progress: &Progress) -> Option<ApiProgress> {
    let step = match (progress.phase, progress.part) {
        (StagingPhase::Starting, _) | (StagingPhase::Staged, _) | (_, None) => return None,
        (StagingPhase::Assembling, Some(Part::Root)) => Step::WritingRoot,
        (StagingPhase::Assembling, Some(Part::Uki)) => Step::WritingUki,
        (StagingPhase::Verifying, Some(Part::Root)) => Step::CheckingRoot,
        (StagingPhase::Verifying, Some(Part::Uki)) => Step::CheckingUki,
    };
    Some(ApiProgress {
        step,
        way: progress.way.map(way),
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
    })
}

/// A way.
pub fn way(way: KnownWay) -> TransferWay {
    match way {
        KnownWay::Full => TransferWay::Full,
        KnownWay::Blocks => TransferWay::Blocks,
    }
}
