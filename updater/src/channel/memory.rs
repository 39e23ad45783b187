//! What a node remembers of channels: the newest metadata that it believed, and when.
//!
//! In and out: one document, through [`StateStore`], in two copies that are written in turn.
//! The document holds what `tough` would keep in its datastore, `root.json`, `timestamp.json`
//! and `snapshot.json`, and the known times. `tough` writes those files one by one and in
//! place: a power cut could leave half a file, which it would then pass over, and with it the
//! protection against old documents. So it works in a folder of its own in memory, which is
//! filled from here, and what it verified is taken back and saved in one step.
//!
//! **Invariant:** a copy is believed only when its digest fits; the other copy is then at most
//! one look at the channel older. Losing the newest copy cannot make the node believe anything
//! older than that, and losing both makes it start from the root in the settings.

use std::io;

use contract::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clock::KnownTimes;
use crate::effects::StateStore;

/// The two copies.
const COPIES: [&str; 2] = ["tuf-0.json", "tuf-1.json"];
/// The schema that this program writes and reads.
const SCHEMA: u32 = 1;
/// Roots that are kept: both slots have settings, and those may name different ones.
const MAX_ROOTS: usize = 4;

/// What is remembered. Metadata is kept as values: `tough` writes the keys of a root in any
/// order, and the same root must be the same again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    schema: u32,
    /// Counts saves; the copy with the higher number is the newer one.
    sequence: u64,
    /// When a channel was accepted.
    pub times: KnownTimes,
    /// The newest root that followed from each initial root, the last used first.
    roots: Vec<TrustedRoot>,
    /// `timestamp.json` as it was verified.
    pub timestamp: Option<Value>,
    /// `snapshot.json` as it was verified.
    pub snapshot: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TrustedRoot {
    /// Digest of the root in the settings.
    initial: Digest,
    root: Value,
}

/// A memory, and whether a copy of it was damaged.
#[derive(Debug)]
pub(super) struct Loaded {
    pub memory: Memory,
    pub is_damaged: bool,
}

impl Memory {
    /// Reads the newer of the copies that are whole.
    ///
    /// # Errors
    /// When the state partition cannot be read.
    pub fn load(state: &dyn StateStore) -> io::Result<Loaded> {
        let mut newest: Option<Memory> = None;
        let (mut is_damaged, mut failed) = (false, None);
        for name in COPIES {
            match state.load(name) {
                Ok(None) => {}
                Ok(Some(bytes)) => match parse(&bytes) {
                    Some(memory)
                        if newest.as_ref().is_none_or(|it| it.sequence < memory.sequence) =>
                    {
                        newest = Some(memory);
                    }
                    Some(_) => {}
                    None => is_damaged = true,
                },
                // One bad block must not stop updates for ever: the next save replaces the copy.
                Err(error) => failed = Some(error),
            }
        }
        match (newest, failed) {
            (Some(memory), failed) => {
                Ok(Loaded { memory, is_damaged: is_damaged || failed.is_some() })
            }
            (None, Some(error)) => Err(error),
            (None, None) => Ok(Loaded { memory: Self::default(), is_damaged }),
        }
    }

    /// Writes the copy that is not the newest one.
    ///
    /// # Errors
    /// When the state partition is full or fails; the other copy is then as it was.
    pub fn save(&mut self, state: &dyn StateStore) -> io::Result<()> {
        let next = Self { schema: SCHEMA, sequence: self.sequence + 1, ..self.clone() };
        let text = serde_json::to_string(&next)?;
        let digest = Digest::of(text.as_bytes());
        let name = if next.sequence.is_multiple_of(2) { COPIES[0] } else { COPIES[1] };
        state.save(name, format!("{digest}\n{text}\n").as_bytes())?;
        *self = next;
        Ok(())
    }

    /// The newest root that followed from this initial one.
    pub fn root(&self, initial: &Digest) -> Option<&Value> {
        self.roots.iter().find(|root| root.initial == *initial).map(|root| &root.root)
    }

    /// Keeps the newest root that followed from this initial one.
    pub fn keep_root(&mut self, initial: Digest, root: Value) {
        self.roots.retain(|known| known.initial != initial);
        self.roots.insert(0, TrustedRoot { initial, root });
        self.roots.truncate(MAX_ROOTS);
    }
}

/// A copy that is whole; anything else is `None`, for whatever reason.
fn parse(bytes: &[u8]) -> Option<Memory> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (digest, text) = text.split_once('\n')?;
    let text = text.strip_suffix('\n')?;
    if digest.parse() != Ok(Digest::of(text.as_bytes())) {
        return None;
    }
    serde_json::from_str(text).ok().filter(|memory: &Memory| memory.schema == SCHEMA)
}
