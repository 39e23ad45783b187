//! One part while it is put together, frame by frame. In: a frame's compressed bytes, or a
//! guess where its blocks are. Out: the frame at its place, and the hash of each block.
//!
//! Everything here blocks and runs on worker threads. **Invariant:** a frame counts as done
//! only with the hashes of the very bytes that were written or found.

use std::sync::{Arc, Mutex};

use contract::Digest;
use contract::release::offer::Payload;
use contract::release::verity::{BLOCK, BlockHasher, HASH};
use tokio::sync::OwnedMutexGuard;
use zstd::bulk::Decompressor;

use super::destination::Destination;
use super::error::WayError;
use super::hash::lock;
use super::index::{LeafIndex, Locations, leaf_of};
use super::journal::{StagingJournal, claim};
use super::remote::Piece;
use crate::effects::buffer::AlignedBuffer;

/// Holds off the next staging until the last worker of this one is done: a worker cannot be
/// called back, and would else write into what the next one has verified.
pub type Lane = Arc<OwnedMutexGuard<()>>;

/// A part that is being put together.
pub struct Assembly {
    payload: Payload,
    /// Where each frame starts in the container, in bytes.
    starts: Vec<u64>,
    destination: Destination,
    hasher: BlockHasher,
    journal: Arc<StagingJournal>,
    record: Mutex<Record>,
    tools: Mutex<Vec<Tools>>,
    _lane: Lane,
}

struct Record {
    done: Vec<bool>,
    /// Hash of every block, in order.
    hashes: Vec<u8>,
}

/// What a worker needs for a frame; kept, because allocating it costs as much as hashing.
struct Tools {
    decompressor: Decompressor<'static>,
    content: AlignedBuffer,
    hashes: Vec<u8>,
}

/// A block of a frame that is not at its place.
struct MissingFrame {
    number: usize,
    /// Where the running system may have it, in bytes.
    place: u64,
}

impl MissingFrame {
    fn is_before(&self, next: &Self) -> bool {
        self.number + 1 == next.number && self.place + BLOCK as u64 == next.place
    }
}

/// The blocks of a frame whose hashes are not those of the index, by number; `None` when the
/// running system does not have one of them.
fn lacking(
    hashes: &[u8],
    leaf: impl Fn(usize) -> Option<u64>,
    find: impl Fn(u64) -> Option<u64>,
) -> Option<Vec<MissingFrame>> {
    let numbered = hashes.as_chunks().0.iter().enumerate();
    let wanted = numbered.map(|(number, hash)| (number, leaf(number), leaf_of(hash)));
    let lacking = wanted.filter(|(_, wanted, there)| *wanted != Some(*there));
    lacking
        .map(|(number, wanted, _)| Some(MissingFrame { number, place: find(wanted?)? }))
        .collect()
}

impl Assembly {
    /// Nothing is done yet.
    pub fn new(
        payload: &Payload,
        destination: Destination,
        salt: &Digest,
        journal: Arc<StagingJournal>,
        lane: Lane,
    ) -> Self {
        let mut end = 0;
        let starts = payload.frames.iter().map(|frame| {
            let start = end;
            end += u64::from(frame.bytes);
            start
        });
        Self {
            starts: starts.collect(),
            destination,
            hasher: BlockHasher::new(salt),
            journal,
            record: Mutex::new(Record {
                done: vec![false; payload.frames.len()],
                hashes: vec![0; payload.blocks() as usize * HASH],
            }),
            tools: Mutex::default(),
            payload: payload.clone(),
            _lane: lane,
        }
    }

    /// The payload.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Where it goes.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The journal.
    pub fn journal(&self) -> &StagingJournal {
        &self.journal
    }

    /// Hashes blocks with the release's salt.
    pub fn hasher(&self) -> &BlockHasher {
        &self.hasher
    }

    /// The frames that are not done, as pieces of the container.
    pub fn missing(&self) -> Vec<Piece> {
        let record = lock(&self.record);
        let frames = self.payload.frames.iter().zip(&self.starts).zip(&record.done).enumerate();
        let missing = frames.filter(|(_, (_, done))| !**done);
        let piece = |(index, ((frame, start), _)): (
            usize,
            ((&contract::release::offer::Frame, &u64), _),
        )| {
            Piece { index, start: *start, bytes: u64::from(frame.bytes), sha256: frame.sha256 }
        };
        missing.map(piece).collect()
    }

    /// The hashes of all blocks; zeros where a frame is not done.
    pub fn hashes(&self) -> Vec<u8> {
        lock(&self.record).hashes.clone()
    }

    /// Counts every frame as not done, and drops what the journal claims.
    pub fn forget(&self) {
        lock(&self.record).done.fill(false);
        self.journal.forget(self.destination.part());
    }

    /// Decodes a frame whose digest was checked, and writes it.
    pub fn unpack(&self, index: usize, compressed: &[u8]) -> Result<(), WayError> {
        self.with_tools(index, |tools, offset| {
            let wrong = |what| WayError::Frame { index, what };
            let written = tools
                .decompressor
                .decompress_to_buffer(compressed, &mut tools.content[..])
                .map_err(|_| wrong("is not a zstd frame of the right size"))?;
            if written != tools.content.len() {
                return Err(wrong("is shorter than it should be"));
            }
            self.hasher.hash_all(&tools.content, &mut tools.hashes);
            self.destination.write(offset, &tools.content)?;
            self.finish(index, &tools.hashes, written)
        })
    }

    /// True when the frame at its place is the one that the journal claims.
    pub fn keep(&self, index: usize, claimed: u64) -> Result<bool, WayError> {
        if index >= self.starts.len() {
            return Ok(false);
        }
        self.with_tools(index, |tools, offset| {
            if self.destination.read(offset, &mut tools.content).is_err() {
                // Perhaps a bad sector, which writing will replace.
                return Ok(false);
            }
            self.hasher.hash_all(&tools.content, &mut tools.hashes);
            if claim(&tools.hashes) != claimed {
                return Ok(false);
            }
            self.finish(index, &tools.hashes, 0).map(|()| true)
        })
    }

    /// Puts a frame together from blocks that are at their place already and blocks of the
    /// running system. False when one of its blocks is in neither; nothing is then written.
    pub fn gather(
        &self,
        index: usize,
        leaves: &LeafIndex,
        locations: Option<&Locations>,
    ) -> Result<bool, WayError> {
        self.with_tools(index, |tools, offset| {
            match self.destination.read(offset, &mut tools.content) {
                Ok(()) => self.hasher.hash_all(&tools.content, &mut tools.hashes),
                // Perhaps a bad sector: all is written anew. No block has a hash of zeros.
                Err(_) => tools.hashes.resize(tools.content.len().div_ceil(BLOCK) * HASH, 0),
            }
            let first = offset / BLOCK as u64;
            let leaf = |number: usize| leaves.leaf(first + number as u64);
            let find = |leaf| locations.and_then(|from| from.find(leaf));
            let Some(lacking) = lacking(&tools.hashes, leaf, find) else { return Ok(false) };
            let (Some(start), Some(end), Some(from)) = (lacking.first(), lacking.last(), locations)
            else {
                return self.finish(index, &tools.hashes, 0).map(|()| true);
            };
            let length = tools.content.len();
            let written = start.number * BLOCK..((end.number + 1) * BLOCK).min(length);
            // Neighbours are read at once: a call for each block costs more than its hash.
            for run in lacking.chunk_by(MissingFrame::is_before) {
                let blocks = run[0].number..run[0].number + run.len();
                let bytes = blocks.start * BLOCK..(blocks.end * BLOCK).min(length);
                let content = &mut tools.content[bytes];
                if from.read(run[0].place, content).is_err() {
                    return Ok(false);
                }
                let hashes = &mut tools.hashes.as_chunks_mut().0[blocks.clone()];
                for ((number, block), hash) in blocks.zip(content.chunks(BLOCK)).zip(hashes) {
                    *hash = self.hasher.hash(block);
                    if leaf(number) != Some(leaf_of(hash)) {
                        return Ok(false);
                    }
                }
            }
            let content = &tools.content[written.clone()];
            self.destination.write(offset + written.start as u64, content)?;
            self.finish(index, &tools.hashes, content.len()).map(|()| true)
        })
    }

    fn finish(&self, index: usize, hashes: &[u8], written: usize) -> Result<(), WayError> {
        {
            let mut record = lock(&self.record);
            let start = index * (self.payload.frame_bytes as usize / BLOCK) * HASH;
            if let Some(place) = record.hashes.get_mut(start..start + hashes.len()) {
                place.copy_from_slice(hashes);
            }
            if let Some(done) = record.done.get_mut(index) {
                *done = true;
            }
        }
        let part = self.destination.part();
        if self.journal.note(part, index, claim(hashes), written as u64) {
            // What the journal claims is worth something after a power cut only if it lasts.
            self.destination.sync()?;
            self.journal.save();
        }
        Ok(())
    }

    /// Runs `work` with buffers of the frame's size, and its place in bytes.
    fn with_tools<T>(
        &self,
        index: usize,
        work: impl FnOnce(&mut Tools, u64) -> Result<T, WayError>,
    ) -> Result<T, WayError> {
        let idle = lock(&self.tools).pop();
        let mut tools = match idle {
            Some(tools) => tools,
            None => Tools {
                decompressor: Decompressor::new().map_err(|_| WayError::Stopped)?,
                content: AlignedBuffer::default(),
                hashes: Vec::new(),
            },
        };
        tools.hashes.clear();
        tools.content.resize(self.payload.frame_content_bytes(index) as usize);
        let offset = index as u64 * u64::from(self.payload.frame_bytes);
        let result = work(&mut tools, offset);
        lock(&self.tools).push(tools);
        result
    }
}
