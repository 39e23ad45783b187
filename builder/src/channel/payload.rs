//! A payload as a channel carries it: independent zstd frames, and the index of its blocks.
//!
//! In: a file. Out: the container, the frame table, the hash of each block. What is hashed is
//! what is compressed: each byte of the file is read once. Frames whose content the channel
//! has already are copied, because compressing is the slow part.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use contract::release::offer::{Blob, FRAME_BYTES, Frame, LEAF_BYTES, Payload};
use contract::release::verity::{BlockHasher, HASH, leaf};
use contract::{Digest, ReleaseVersion};
use sha2::{Digest as _, Sha256};

use crate::fault::Fault;

/// Frames in memory for each thread.
const FRAMES_PER_THREAD: usize = 8;

/// Why a payload was not encoded, or not decoded.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Reading, compressing or writing failed.
    #[error("cannot compress {}: check that it is readable and that the disk is not full", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// The file became another while it was read.
    #[error("{} changed while it was read: publish it again when nothing writes to it", .0.display())]
    Changed(PathBuf),
    /// The program was told to stop.
    #[error("interrupted")]
    Cancelled,
    /// A container, or what is in it, is not what the offer says.
    #[error("the {what} of {release} is not what its offer says: publish the release again")]
    Content {
        /// Which part.
        what: &'static str,
        /// Which release.
        release: ReleaseVersion,
    },
}

impl PayloadError {
    /// Whose turn it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Content { .. } => Fault::Input,
            _ => Fault::Other,
        }
    }
}

/// Frames that the channel has, by the SHA-256 of their uncompressed content.
#[derive(Debug, Default)]
pub struct KnownFrames(HashMap<Digest, KnownFrame>);

#[derive(Debug, Clone)]
struct KnownFrame {
    container: PathBuf,
    offset: u64,
    frame: Frame,
}

impl KnownFrames {
    /// Adds the frames of a container whose contents are known.
    pub fn add(&mut self, container: &Path, frames: &[Frame], contents: &[Digest]) {
        let mut offset = 0;
        for (frame, content) in frames.iter().zip(contents) {
            let known = KnownFrame { container: container.into(), offset, frame: *frame };
            self.0.entry(*content).or_insert(known);
            offset += u64::from(frame.bytes);
        }
    }

    /// The compressed bytes of this content, if they are there and as they were.
    fn copy(&self, content: &Digest) -> Option<Vec<u8>> {
        let known = self.0.get(content)?;
        let mut bytes = vec![0; known.frame.bytes as usize];
        File::open(&known.container)
            .and_then(|f| f.read_exact_at(&mut bytes, known.offset))
            .ok()?;
        (Digest::of(&bytes) == known.frame.sha256).then_some(bytes)
    }
}

/// How to encode.
#[derive(Debug, Clone, Copy)]
pub struct Encoding<'a> {
    /// zstd's level, 1 to 22.
    pub level: i32,
    /// Salts the block index.
    pub salt: &'a Digest,
    /// Turns true when the program is told to stop.
    pub cancelled: &'a AtomicBool,
}

/// An encoded payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Size in bytes, uncompressed.
    pub bytes: u64,
    /// SHA-256, uncompressed.
    pub sha256: Digest,
    /// What was written.
    pub container: Blob,
    /// Its frames.
    pub frames: Vec<Frame>,
    /// SHA-256 of the uncompressed content of each frame.
    pub contents: Vec<Digest>,
    /// Hash of each block, 32 bytes each.
    pub hashes: Vec<u8>,
    /// Frames that were copied.
    pub copied: usize,
}

impl Encoded {
    /// The leaf index: [`LEAF_BYTES`] of each block's hash.
    pub fn leaves(&self) -> Vec<u8> {
        leaf_index(&self.hashes)
    }
}

/// The leaf index of blocks with these hashes.
pub fn leaf_index(hashes: &[u8]) -> Vec<u8> {
    let (hashes, _) = hashes.as_chunks::<HASH>();
    let mut index = Vec::with_capacity(hashes.len() * LEAF_BYTES as usize);
    hashes.iter().for_each(|hash| index.extend(leaf(hash)));
    index
}

struct Piece {
    compressed: Vec<u8>,
    content: Digest,
    hashes: Vec<u8>,
    copied: bool,
}

/// Encodes `file` on all cores and writes its container to `out`. `advance` is told of the
/// bytes that are done.
///
/// # Errors
/// [`PayloadError`]; what was written is of no use then.
pub fn encode(
    file: &Path,
    encoding: &Encoding<'_>,
    known: &KnownFrames,
    out: &mut impl Write,
    advance: impl Fn(u64),
) -> Result<Encoded, PayloadError> {
    let failed = |error| PayloadError::Io(file.into(), error);
    let mut input = File::open(file).map_err(failed)?;
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    let mut batch = vec![0; threads * FRAMES_PER_THREAD * FRAME_BYTES as usize];
    let hasher = BlockHasher::new(encoding.salt);
    let (mut whole, mut container) = (Sha256::new(), Sha256::new());
    let mut encoded = Encoded {
        bytes: 0,
        sha256: Digest::of(&[]),
        container: Blob { sha256: Digest::of(&[]), bytes: 0 },
        frames: Vec::new(),
        contents: Vec::new(),
        hashes: Vec::new(),
        copied: 0,
    };
    loop {
        let count = read_full(&mut input, &mut batch).map_err(failed)?;
        let content = &batch[..count];
        whole.update(content);
        for piece in encode_batch(content, threads, encoding, &hasher, known, &failed)? {
            out.write_all(&piece.compressed).map_err(failed)?;
            container.update(&piece.compressed);
            encoded.container.bytes += piece.compressed.len() as u64;
            let sha256 = Digest::of(&piece.compressed);
            encoded.frames.push(Frame { bytes: piece.compressed.len() as u32, sha256 });
            encoded.contents.push(piece.content);
            encoded.hashes.extend(piece.hashes);
            encoded.copied += usize::from(piece.copied);
        }
        encoded.bytes += count as u64;
        advance(count as u64);
        if count < batch.len() {
            break;
        }
    }
    encoded.sha256 = <[u8; 32]>::from(whole.finalize()).into();
    encoded.container.sha256 = <[u8; 32]>::from(container.finalize()).into();
    Ok(encoded)
}

fn encode_batch(
    content: &[u8],
    threads: usize,
    encoding: &Encoding<'_>,
    hasher: &BlockHasher,
    known: &KnownFrames,
    failed: &(impl Fn(io::Error) -> PayloadError + Sync),
) -> Result<Vec<Piece>, PayloadError> {
    let frames: Vec<&[u8]> = content.chunks(FRAME_BYTES as usize).collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(frames.len()));
    let work = || -> Result<(), PayloadError> {
        let mut compressor = zstd::bulk::Compressor::new(encoding.level).map_err(failed)?;
        while let Some(frame) = frames.get(next.fetch_add(1, Ordering::Relaxed)) {
            if encoding.cancelled.load(Ordering::Relaxed) {
                return Err(PayloadError::Cancelled);
            }
            let digest = Digest::of(frame);
            let copy = known.copy(&digest);
            let copied = copy.is_some();
            let compressed = match copy {
                Some(bytes) => bytes,
                None => compressor.compress(frame).map_err(failed)?,
            };
            let mut hashes = Vec::with_capacity(frame.len() / 128);
            hasher.hash_all(frame, &mut hashes);
            let piece = Piece { compressed, content: digest, hashes, copied };
            let index = frame.as_ptr() as usize - content.as_ptr() as usize;
            done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((index, piece));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().try_for_each(join)
    })?;
    let mut pieces = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    pieces.sort_by_key(|(index, _)| *index);
    Ok(pieces.into_iter().map(|(_, piece)| piece).collect())
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What a container holds, as a node would find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// SHA-256 of the uncompressed content of each frame.
    pub contents: Vec<Digest>,
    /// Hash of each block, 32 bytes each.
    pub hashes: Vec<u8>,
}

/// Decodes a container and holds it against its payload: frames, digests, sizes.
///
/// # Errors
/// [`PayloadError::Content`] for the first thing that is not as the offer says.
pub fn decode(
    container: &Path,
    payload: &Payload,
    salt: &Digest,
    release: &ReleaseVersion,
) -> Result<Decoded, PayloadError> {
    let failed = |error| PayloadError::Io(container.into(), error);
    let wrong = |what| PayloadError::Content { what, release: release.clone() };
    let mut input = File::open(container).map_err(failed)?;
    let hasher = BlockHasher::new(salt);
    let (mut whole, mut compressed_whole) = (Sha256::new(), Sha256::new());
    let mut decoder = zstd::bulk::Decompressor::new().map_err(failed)?;
    let mut decoded = Decoded { contents: Vec::new(), hashes: Vec::new() };
    let mut compressed = Vec::new();
    for (index, frame) in payload.frames.iter().enumerate() {
        compressed.resize(frame.bytes as usize, 0);
        input.read_exact(&mut compressed).map_err(|_| wrong("container"))?;
        if Digest::of(&compressed) != frame.sha256 {
            return Err(wrong("frame"));
        }
        compressed_whole.update(&compressed);
        let bytes = payload.frame_content_bytes(index) as usize;
        let content = decoder.decompress(&compressed, bytes).map_err(|_| wrong("frame"))?;
        if content.len() != bytes {
            return Err(wrong("frame"));
        }
        whole.update(&content);
        decoded.contents.push(Digest::of(&content));
        hasher.hash_all(&content, &mut decoded.hashes);
    }
    let digest = |hasher: Sha256| Digest::from(<[u8; 32]>::from(hasher.finalize()));
    if input.read(&mut [0]).map_err(failed)? != 0
        || digest(compressed_whole) != payload.container.sha256
    {
        return Err(wrong("container"));
    }
    if digest(whole) != payload.sha256 {
        return Err(wrong("content"));
    }
    Ok(decoded)
}
