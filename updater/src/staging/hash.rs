//! Hashing a long run of bytes block by block, on several cores.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::release::layout::MIB;
use contract::release::verity::{BLOCK, BlockHasher, HASH};

use crate::effects::buffer::AlignedBuffer;

/// Bytes that a thread works on at a time.
pub const SEGMENT: usize = MIB as usize;

/// Threads that hash, at most: each has its segment in the memory that this daemon may have.
const MOST_THREADS: usize = 8;

/// Where in the run reading failed, and why.
#[derive(Debug)]
pub struct ReadFailed {
    /// In bytes.
    pub offset: u64,
    /// What the system said.
    pub source: io::Error,
}

/// The hash of every block of `bytes` bytes, read piece by piece. Blocks the caller.
///
/// # Errors
/// The first failure of `read`.
pub fn hash_blocks(
    bytes: u64,
    hasher: &BlockHasher,
    read: impl Fn(u64, &mut [u8]) -> io::Result<()> + Sync,
) -> Result<Vec<u8>, ReadFailed> {
    let mut hashes = vec![0; bytes.div_ceil(BLOCK as u64) as usize * HASH];
    on_cores(&mut hashes, SEGMENT / BLOCK * HASH, SEGMENT, |offset, buffer, out| {
        let length = (bytes - offset).min(SEGMENT as u64) as usize;
        let piece = &mut buffer[..length];
        read(offset, piece)?;
        for (block, hash) in piece.chunks(BLOCK).zip(out.chunks_mut(HASH)) {
            hash.copy_from_slice(&hasher.hash(block));
        }
        Ok(())
    })?;
    Ok(hashes)
}

/// Fills `results`, of which `each` belong to one [`SEGMENT`] of a run, on several cores. `work` gets
/// where the segment begins, a buffer of `buffer_bytes`, and its results. Blocks the caller.
///
/// # Errors
/// The first failure of `work`, and its segment.
pub fn on_cores<T: Send>(
    results: &mut [T],
    each: usize,
    buffer_bytes: usize,
    work: impl Fn(u64, &mut [u8], &mut [T]) -> io::Result<()> + Sync,
) -> Result<(), ReadFailed> {
    let segments = Mutex::new(results.chunks_mut(each).enumerate());
    let failure = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let run = || {
        let mut buffer = AlignedBuffer::new(buffer_bytes);
        while !stop.load(Ordering::Relaxed) {
            let Some((index, out)) = lock(&segments).next() else { break };
            let offset = index as u64 * SEGMENT as u64;
            if let Err(source) = work(offset, &mut buffer, out) {
                stop.store(true, Ordering::Relaxed);
                lock(&failure).get_or_insert(ReadFailed { offset, source });
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        // Two for each core: while one works, the other waits for the device.
        for _ in 1..(2 * cores()).min(MOST_THREADS) {
            scope.spawn(run);
        }
        run();
    });
    match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(failed) => Err(failed),
        None => Ok(()),
    }
}

/// Processors that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Locks. What our locks guard stays whole when a thread panics while it holds one.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
