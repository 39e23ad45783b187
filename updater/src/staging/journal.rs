//! `staging.json`: which frames of which release were written. **Invariant:** it is a hint.
//! A power cut can lose what it claims and someone may have changed it, so every claim is
//! hashed again before it is believed, and the release is checked as a whole afterwards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use contract::{RootHash, Slot};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::Part;
use super::hash::lock;
use crate::effects::StateStore;

/// Name of the document on the state partition.
pub const DOCUMENT: &str = "staging.json";

const SCHEMA: u32 = 1;
/// Largest document that is read, in bytes: 16 times what a root of 1 GiB needs.
const MAX_BYTES: usize = 1 << 20;
/// Bytes written between two saves: what a power cut costs at most.
const SAVE_EVERY: u64 = 64 << 20;

/// For each frame that was written, a hash of the hashes of its blocks.
pub type Claims = BTreeMap<usize, u64>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    schema: u32,
    root_hash: RootHash,
    slot: Slot,
    root: Claims,
    uki: Claims,
}

impl Document {
    fn claims(&mut self, part: Part) -> &mut Claims {
        match part {
            Part::Root => &mut self.root,
            Part::Uki => &mut self.uki,
        }
    }
}

fn parse(bytes: Vec<u8>) -> Result<Document, String> {
    match bytes.len() {
        0..=MAX_BYTES => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        long => Err(format!("it has {long} bytes")),
    }
}

/// The journal of one staging.
pub struct StagingJournal {
    store: Arc<dyn StateStore>,
    inner: Mutex<Inner>,
}

struct Inner {
    document: Document,
    unsaved: u64,
    trouble: Option<String>,
}

impl StagingJournal {
    /// What an earlier attempt at this release left, or an empty one. Blocks the caller.
    pub fn open(store: Arc<dyn StateStore>, root_hash: RootHash, slot: Slot) -> Self {
        let empty =
            Document { schema: SCHEMA, root_hash, slot, root: Claims::new(), uki: Claims::new() };
        let is_of_this = |known: &Document| {
            (known.schema, known.root_hash, known.slot) == (SCHEMA, root_hash, slot)
        };
        let (document, trouble) = match store.load(DOCUMENT).map(|bytes| bytes.map(parse)) {
            Ok(Some(Ok(known))) if is_of_this(&known) => (known, None),
            Ok(Some(Ok(_)) | None) => (empty, None),
            Ok(Some(Err(damage))) => (empty, Some(format!("{DOCUMENT} is damaged: {damage}"))),
            Err(error) => (empty, Some(format!("cannot read {DOCUMENT}: {error}"))),
        };
        Self { store, inner: Mutex::new(Inner { document, unsaved: 0, trouble }) }
    }

    /// What is claimed of a part.
    pub fn claims(&self, part: Part) -> Claims {
        lock(&self.inner).document.claims(part).clone()
    }

    /// Notes a frame. True when it is time to sync and save.
    pub fn note(&self, part: Part, index: usize, claim: u64, written: u64) -> bool {
        let mut inner = lock(&self.inner);
        inner.document.claims(part).insert(index, claim);
        inner.unsaved += written;
        if inner.unsaved < SAVE_EVERY {
            return false;
        }
        inner.unsaved = 0;
        true
    }

    /// Drops what is claimed of a part, which turned out wrong.
    pub fn forget(&self, part: Part) {
        lock(&self.inner).document.claims(part).clear();
    }

    /// Saves. A failure is kept for [`StagingJournal::trouble`] and not raised: without a journal
    /// staging only takes longer after an interruption. Blocks the caller.
    pub fn save(&self) {
        let document = lock(&self.inner).document.clone();
        let saved = serde_json::to_vec(&document)
            .map_err(std::io::Error::from)
            .and_then(|bytes| self.store.save(DOCUMENT, &bytes));
        if let Err(error) = saved {
            lock(&self.inner).trouble = Some(format!("cannot save {DOCUMENT}: {error}"));
        }
    }

    /// The last failure to read or save, for the log.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.inner).trouble.clone()
    }
}

/// The claim for a frame whose blocks have these hashes.
pub fn claim(hashes: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::digest(hashes).into();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::fake::{FakeNode, Sizes};

    #[test]
    fn a_damaged_journal_is_told_and_one_of_another_release_is_not() {
        let open = |text: &str, root: u8| {
            let node = FakeNode::new(0, Sizes::default());
            node.append(DOCUMENT, text);
            let journal = StagingJournal::open(Arc::new(node), RootHash::from([root; 32]), Slot::B);
            (journal.claims(Part::Root).len(), journal.trouble())
        };
        let root_hash = RootHash::from([7; 32]);
        let whole = format!(
            r#"{{"schema": 1, "root_hash": "{root_hash}", "slot": "b", "root": {{"0": 5}}, "uki": {{}}}}"#
        );
        assert_eq!(open(&whole, 7), (1, None));
        assert_eq!(open(&whole, 8), (0, None));
        let (claims, trouble) = open(&whole[..40], 7);
        assert!(claims == 0 && trouble.unwrap().contains("staging.json is damaged"));
    }
}
