//! Choosing and walking the ways of one part. In: an empty [`Assembly`]. Out: a full one, or
//! why not.

use std::sync::{Arc, Mutex};

use contract::release::layout::MIB;
use contract::release::offer::{Blob, Payload, Way};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::assembly::Assembly;
use super::error::{KnownWay, WayError};
use super::hash::{cores, lock};
use super::index::{LeafIndex, Locations};
use super::jobs::Jobs;
use super::journal::Claims;
use super::progress::Tracker;
use super::remote::{Ask, FetchEnd, Piece, Receiver, Remote};
use crate::effects::off_thread;

/// Most bytes of one request: small enough for all connections to end at about the same time.
const REQUEST_BYTES: u64 = 8 * MIB;
/// Bytes of frames, packed and unpacked, that may be in memory at a time.
const FRAMES_IN_MEMORY: u64 = 24 * MIB;

/// The ways of a payload that this program knows, cheapest first. What *blocks* will move is
/// known only after its index arrived; until then it is taken to be the index alone, which is
/// right when little changed. When all changed it moves the index and every frame: a four
/// hundredth more than *full*.
pub fn known_ways(payload: &Payload) -> Vec<(KnownWay, Option<Blob>)> {
    let known = payload.ways.iter().filter_map(|way| match way {
        Way::Full { .. } => Some((payload.container.bytes, (KnownWay::Full, None))),
        Way::Blocks { leaves } => Some((leaves.bytes, (KnownWay::Blocks, Some(*leaves)))),
        Way::Patch { .. } | Way::Unknown => None,
    });
    let mut known: Vec<_> = known.collect();
    known.sort_by_key(|(bytes, _)| *bytes);
    known.into_iter().map(|(_, way)| way).collect()
}

/// Walks ways for one part.
pub struct Walker<'a> {
    /// Where blobs come from.
    pub remote: &'a Remote,
    /// The part.
    pub assembly: &'a Arc<Assembly>,
    /// Whom to tell.
    pub tracker: &'a Tracker<'a>,
    /// Connections at a time.
    pub connections: usize,
}

impl Walker<'_> {
    /// *full*: every frame, but for those that the journal claims and that are really there.
    pub async fn full(&self, claims: Claims) -> Result<(), WayError> {
        let jobs = self.jobs();
        for (index, claimed) in claims {
            let assembly = self.assembly.clone();
            jobs.start(move || assembly.keep(index, claimed).map(drop)).await?;
        }
        jobs.finish().await?;
        self.fetch_missing().await
    }

    /// *blocks*: the index says what each block must be; what is there already stays, what
    /// the running system has is copied, and the frames of the rest are fetched.
    pub async fn blocks(
        &self,
        leaves: Blob,
        locate: impl FnOnce() -> Option<Locations> + Send + 'static,
    ) -> Result<(), WayError> {
        self.tracker.expect(leaves.bytes);
        let index = Arc::new(LeafIndex::new(self.fetch_whole(leaves).await?));
        let locations = off_thread(locate).await.map_err(|_| WayError::Stopped)?;
        let locations = Arc::new(locations);
        let jobs = self.jobs();
        for piece in self.assembly.missing() {
            let (assembly, index, locations) =
                (self.assembly.clone(), index.clone(), locations.clone());
            let gather =
                move || assembly.gather(piece.index, &index, locations.as_ref().as_ref()).map(drop);
            jobs.start(gather).await?;
        }
        jobs.finish().await?;
        drop((index, locations));
        self.fetch_missing().await
    }

    /// Frames on worker threads, two for each core: while one works, the other waits for the device.
    fn jobs(&self) -> Jobs {
        let most = FRAMES_IN_MEMORY * 2 / 3 / self.frame_cost();
        Jobs::new((2 * cores()).min(most as usize))
    }

    /// Bytes of the largest frame, packed and unpacked.
    fn frame_cost(&self) -> u64 {
        let payload = self.assembly.payload();
        let largest = payload.frames.iter().map(|frame| frame.bytes).max().unwrap_or_default();
        u64::from(largest) + u64::from(payload.frame_bytes)
    }

    async fn fetch_missing(&self) -> Result<(), WayError> {
        let pieces = self.assembly.missing();
        self.tracker.expect(pieces.iter().map(|piece| piece.bytes).sum());
        let container = self.assembly.payload().container;
        let frames = Frames { jobs: self.jobs(), walker: self };
        let connections = (FRAMES_IN_MEMORY / 3 / self.frame_cost()) as usize;
        let connections = connections.clamp(1, self.connections.max(1));
        let fetches = requests(&pieces, connections)
            .into_iter()
            .map(|run| self.remote.fetch(container, run, Ask::Range, &frames));
        let fetched: Result<(), _> =
            stream::iter(fetches).buffer_unordered(connections).try_collect().await;
        match fetched {
            Err(FetchEnd::Failed(_)) if self.remote.needs_whole() => {
                frames.jobs.finish().await?;
                let pieces = self.assembly.missing();
                self.tracker.expect(container.bytes);
                ended(self.remote.fetch(container, &pieces, Ask::Whole, &frames).await)?;
            }
            fetched => ended(fetched)?,
        }
        frames.jobs.finish().await?;
        // A worker that panicked left its frame open.
        if self.assembly.missing().is_empty() { Ok(()) } else { Err(WayError::Stopped) }
    }

    /// A small blob.
    async fn fetch_whole(&self, blob: Blob) -> Result<Vec<u8>, WayError> {
        let piece = Piece { index: 0, start: 0, bytes: blob.bytes, sha256: blob.sha256 };
        let memory = FramesInMemory { content: Mutex::default(), tracker: self.tracker };
        let fetched = self.remote.fetch(blob, &[piece], Ask::Range, &memory).await;
        let fetched = match fetched {
            Err(FetchEnd::Failed(_)) if self.remote.needs_whole() => {
                self.remote.fetch(blob, &[piece], Ask::Whole, &memory).await
            }
            fetched => fetched,
        };
        ended(fetched)?;
        Ok(std::mem::take(&mut *lock(&memory.content)))
    }
}

fn ended<E: Into<WayError>>(result: Result<(), FetchEnd<E>>) -> Result<(), WayError> {
    result.map_err(|ended| match ended {
        FetchEnd::Failed(error) => error.into(),
        FetchEnd::Refused(error) => error.into(),
    })
}

/// Cuts pieces into requests: each of neighbours only, and none so large that other
/// connections would stand idle at the end.
fn requests(pieces: &[Piece], connections: usize) -> Vec<&[Piece]> {
    let total: u64 = pieces.iter().map(|piece| piece.bytes).sum();
    let most = (total / connections as u64 / 2).clamp(MIB, REQUEST_BYTES);
    let mut requests = Vec::new();
    for neighbours in pieces.chunk_by(|left, right| left.end() == right.start) {
        let mut rest = neighbours;
        while !rest.is_empty() {
            let mut sum = 0;
            let within = rest.iter().take_while(|piece| {
                sum += piece.bytes;
                sum <= most
            });
            let (request, others) = rest.split_at(within.count().max(1));
            requests.push(request);
            rest = others;
        }
    }
    requests
}

/// Receives frames and puts them in their place.
struct Frames<'a> {
    jobs: Jobs,
    walker: &'a Walker<'a>,
}

impl Receiver for Frames<'_> {
    type Refused = WayError;

    fn arrived(&self, bytes: u64) {
        self.walker.tracker.arrived(bytes);
    }

    async fn receive(&self, piece: Piece, content: Vec<u8>) -> Result<(), WayError> {
        let assembly = self.walker.assembly.clone();
        self.jobs.start(move || assembly.unpack(piece.index, &content)).await
    }
}

/// Receives one piece and keeps it.
struct FramesInMemory<'a> {
    content: Mutex<Vec<u8>>,
    tracker: &'a Tracker<'a>,
}

impl Receiver for FramesInMemory<'_> {
    type Refused = WayError;

    fn arrived(&self, bytes: u64) {
        self.tracker.arrived(bytes);
    }

    async fn receive(&self, _: Piece, content: Vec<u8>) -> Result<(), WayError> {
        *lock(&self.content) = content;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use contract::Digest;

    use super::*;

    fn piece(start: u64, bytes: u64) -> Piece {
        Piece { index: 0, start, bytes, sha256: Digest::of(b"") }
    }

    #[test]
    fn requests_are_of_neighbours_and_bounded() {
        let pieces = [piece(0, MIB), piece(MIB, MIB), piece(5 * MIB, MIB), piece(6 * MIB, 9 * MIB)];
        let cut: Vec<_> = requests(&pieces, 1).iter().map(|request| request.len()).collect();
        assert_eq!(cut, [2, 1, 1]);
        assert!(requests(&[], 4).is_empty());
    }
}
