//! Blobs from mirrors, piece by piece. In: pieces of a blob, each with its SHA-256. Out: the
//! same pieces, each once and in order. **Invariant:** no piece leaves here unchecked, and no
//! server can make this wait for ever, ask for ever or hold more than one piece in memory.
//!
//! A piece that was cut off goes on where it stopped, also on another mirror. No `If-Range` is
//! sent: blobs are named by their content, mirrors make up different ETags for the same one,
//! and the digest of the piece notices every change that matters.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use contract::Digest;
use contract::release::offer::Blob;
use reqwest::Url;
use tokio::time::Instant;

use super::answer::{Answer, Extent, ask};
use super::error::{Fault, FetchError};
use super::limits::Limits;
use crate::effects::Http;

/// A run of bytes of a blob that has a digest of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// What the caller knows it by.
    pub index: usize,
    /// Where it starts in the blob, in bytes.
    pub start: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

impl Piece {
    /// One byte behind the piece.
    pub fn end(&self) -> u64 {
        self.start + self.bytes
    }
}

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// From the first missing byte to the end of the last piece. A server that ignores ranges
    /// is left.
    Range,
    /// The whole blob, of which all but the pieces is dropped.
    Whole,
}

/// Why a fetch ended.
#[derive(Debug)]
pub enum FetchEnd<E> {
    /// The network did not bring all pieces.
    Failed(FetchError),
    /// The receiver wants no more.
    Refused(E),
}

/// Who takes the pieces.
pub trait Receiver: Sync {
    /// Why it wants no more.
    type Refused: Send;

    /// So many bytes came from the network, wanted or not.
    fn arrived(&self, bytes: u64);

    /// A piece whose digest is right.
    fn receive(
        &self,
        piece: Piece,
        content: Vec<u8>,
    ) -> impl Future<Output = Result<(), Self::Refused>> + Send;
}

/// All mirrors of a channel.
#[derive(Debug)]
pub struct Remote {
    client: Arc<dyn Http>,
    mirrors: Vec<Mirror>,
    limits: Limits,
    preferred: AtomicUsize,
}

#[derive(Debug)]
struct Mirror {
    base: Url,
    ignores_ranges: AtomicBool,
}

/// Where a fetch of some pieces is.
struct Run<'a> {
    pieces: &'a [Piece],
    /// Pieces that the receiver has.
    done: usize,
    /// What is there of the next one.
    partial: Vec<u8>,
}

impl Run<'_> {
    fn wanted(&self) -> u64 {
        self.pieces.get(self.done).map_or(0, |piece| piece.start + self.partial.len() as u64)
    }

    /// Takes what is missing of the next piece from `chunk`, which starts at `position` of the
    /// blob. `Some` when the piece is complete; `chunk` is then what follows it.
    fn fill(&mut self, position: &mut u64, chunk: &mut &[u8]) -> Option<(Piece, Vec<u8>)> {
        let piece = *self.pieces.get(self.done)?;
        let skip = self.wanted().saturating_sub(*position).min(chunk.len() as u64);
        let missing = piece.bytes - self.partial.len() as u64;
        let rest = &chunk[skip as usize..];
        let take = missing.min(rest.len() as u64);
        if self.partial.capacity() == 0 {
            self.partial.reserve_exact(piece.bytes as usize);
        }
        self.partial.extend_from_slice(&rest[..take as usize]);
        *chunk = &rest[take as usize..];
        *position += skip + take;
        (self.partial.len() as u64 == piece.bytes)
            .then(|| (piece, std::mem::take(&mut self.partial)))
    }
}

impl Remote {
    /// Mirrors in the order in which they are asked; blobs lie at `<base>/blobs/<sha256>`. The
    /// client must bound redirects, as it does when nothing else is set.
    pub fn new(client: Arc<dyn Http>, mirrors: &[Url], limits: Limits) -> Self {
        let mirror = |base: &Url| Mirror { base: base.clone(), ignores_ranges: false.into() };
        let mirrors = mirrors.iter().map(mirror).collect();
        Self { client, mirrors, limits, preferred: AtomicUsize::new(0) }
    }

    /// True when a mirror was seen to ignore ranges.
    pub fn needs_whole(&self) -> bool {
        self.mirrors.iter().any(|mirror| mirror.ignores_ranges.load(Ordering::Relaxed))
    }

    /// Brings pieces, which are in the order of the blob, to the receiver. With
    /// [`Ask::Range`] they must also touch each other.
    ///
    /// # Errors
    /// [`FetchEnd`].
    pub async fn fetch<R: Receiver>(
        &self,
        blob: Blob,
        pieces: &[Piece],
        how: Ask,
        receiver: &R,
    ) -> Result<(), FetchEnd<R::Refused>> {
        let mut run = Run { pieces, done: 0, partial: Vec::new() };
        let mut failures = 0;
        let mut turn = self.preferred.load(Ordering::Relaxed);
        while run.done < pieces.len() {
            let Some(mirror) = self.mirror(&mut turn, how) else {
                return Err(FetchEnd::Failed(self.no_mirror(blob)));
            };
            let before = run.done;
            let fault = match self.attempt(mirror, blob, &mut run, how, receiver).await {
                Ok(()) => continue,
                Err(Stop::Refused(error)) => return Err(FetchEnd::Refused(error)),
                Err(Stop::Fault(fault)) => fault,
            };
            // Only a whole piece is progress: a server could send wrong bytes for ever.
            failures = if run.done > before { 1 } else { failures + 1 };
            if failures >= self.limits.failures {
                let address = shown(&address(&mirror.base, blob));
                return Err(FetchEnd::Failed(FetchError { address, failures, source: fault }));
            }
            turn += 1;
            self.preferred.store(turn, Ordering::Relaxed);
            if !matches!(fault, Fault::NoRange) {
                self.pause(failures).await;
            }
        }
        Ok(())
    }

    async fn pause(&self, failures: u32) {
        let mirrors = u32::try_from(self.mirrors.len()).unwrap_or(u32::MAX);
        let rounds = failures / mirrors.max(1);
        if failures.is_multiple_of(mirrors.max(1)) {
            let factor = 2_u32.saturating_pow(rounds.saturating_sub(1));
            let pause = self.limits.first_pause.saturating_mul(factor);
            tokio::time::sleep(pause.min(self.limits.longest_pause)).await;
        }
    }

    /// The mirror whose turn it is, or the next one that can be asked this way.
    fn mirror(&self, turn: &mut usize, how: Ask) -> Option<&Mirror> {
        for _ in &self.mirrors {
            let mirror = self.mirrors.get(*turn % self.mirrors.len())?;
            if how == Ask::Whole || !mirror.ignores_ranges.load(Ordering::Relaxed) {
                return Some(mirror);
            }
            *turn += 1;
        }
        None
    }

    fn no_mirror(&self, blob: Blob) -> FetchError {
        let (address, source) = match self.mirrors.first() {
            Some(mirror) => (shown(&address(&mirror.base, blob)), Fault::NoRange),
            None => (format!("blobs/{}", blob.sha256), Fault::NoMirror),
        };
        FetchError { address, failures: 1, source }
    }

    async fn attempt<R: Receiver>(
        &self,
        mirror: &Mirror,
        blob: Blob,
        run: &mut Run<'_>,
        how: Ask,
        receiver: &R,
    ) -> Result<(), Stop<R::Refused>> {
        let extent = match how {
            Ask::Whole => Extent::Whole,
            Ask::Range => Extent::Range(Range {
                start: run.wanted(),
                end: run.pieces.last().map_or(0, Piece::end),
            }),
        };
        let url = address(&mirror.base, blob);
        let mut answer =
            match ask(self.client.as_ref(), url, &extent, blob.bytes, &self.limits).await {
                Err(Fault::NoRange) => {
                    mirror.ignores_ranges.store(true, Ordering::Relaxed);
                    return Err(Stop::Fault(Fault::NoRange));
                }
                answer => answer?,
            };
        pour(&mut answer, run, receiver).await
    }
}

/// Reads an answer until every piece is there.
async fn pour<R: Receiver>(
    answer: &mut Answer<'_>,
    run: &mut Run<'_>,
    receiver: &R,
) -> Result<(), Stop<R::Refused>> {
    let mut position = answer.start;
    while run.done < run.pieces.len() {
        let Some(bytes) = answer.chunk().await? else {
            return Err(Stop::Fault(Fault::Truncated(position)));
        };
        receiver.arrived(bytes.len() as u64);
        let mut chunk = &bytes[..];
        while !chunk.is_empty() && run.done < run.pieces.len() {
            let Some((piece, content)) = run.fill(&mut position, &mut chunk) else { continue };
            if Digest::of(&content) != piece.sha256 {
                let (first, last) = (piece.start, piece.end().saturating_sub(1));
                return Err(Stop::Fault(Fault::Corrupt { first, last }));
            }
            let begun = Instant::now();
            receiver.receive(piece, content).await.map_err(Stop::Refused)?;
            answer.excuse(begun.elapsed());
            run.done += 1;
        }
    }
    Ok(())
}

enum Stop<E> {
    Fault(Fault),
    Refused(E),
}

impl<E> From<Fault> for Stop<E> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn address(base: &Url, blob: Blob) -> Url {
    let mut url = base.clone();
    // Only an address such as `mailto:` has no segments; asking it fails by itself.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["blobs", &blob.sha256.to_string()]);
    }
    url
}

/// An address without name, password and query, which may be secrets.
fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_credentials() {
        let base = Url::parse("https://user:secret@example.org:8443/c/?token=secret").unwrap();
        let blob = Blob { sha256: Digest::of(b""), bytes: 0 };
        let shown = shown(&address(&base, blob));
        assert_eq!(shown, format!("https://example.org:8443/c/blobs/{}", blob.sha256));
    }
}
