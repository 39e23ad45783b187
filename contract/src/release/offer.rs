//! `offer.json`: what a channel says of a release: its document, and the ways in which its
//! bytes reach a node.
//!
//! The offer is a TUF target of the role `releases`. A *payload* is one run of bytes that a
//! node assembles: the root file system, or the UKI of one slot. A payload is cut into
//! 4096-byte blocks, and into frames of [`Payload::frame_bytes`] bytes (the last one may be
//! shorter) that are compressed one by one.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde::{Deserialize, Deserializer, Serialize};

use crate::head::{self, Document, Head, Unmet, Unreadable};
use crate::release::layout::{BLOCK_BYTES, MIB, ROOT_BYTES};
use crate::{Digest, ReleaseDocument, RootHash, Slot};

/// The schema that this crate writes.
pub const SCHEMA: u32 = 1;
/// Largest `offer.json` that is read, in bytes.
pub const MAX_OFFER_BYTES: u64 = 2 << 20;
/// Size of an uncompressed frame that `slipway publish` writes, in bytes.
pub const FRAME_BYTES: u32 = MIB as u32;
/// Allowed sizes of an uncompressed frame, in bytes.
pub const FRAME_BYTES_ALLOWED: std::ops::RangeInclusive<u32> = 64 << 10..=4 << 20;
/// Largest UKI, in bytes.
pub const MAX_UKI_BYTES: u64 = 256 * MIB;
/// Bytes of one entry of a leaf index.
pub const LEAF_BYTES: u64 = 8;

/// A content-addressed file of the channel: `blobs/<sha256>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// SHA-256 of the content, which is also its name.
    pub sha256: Digest,
    /// Size in bytes.
    pub bytes: u64,
}

/// A release as a channel offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Format version, [`SCHEMA`].
    pub schema: u32,
    /// The release document, as the build wrote it.
    pub release: ReleaseDocument,
    /// The oldest `slipwayd` that can install this release.
    pub minimum_updater: Version,
    /// Free bytes that the EFI system partition must have: the larger of both UKIs.
    pub esp_bytes: u64,
    /// The root file system image.
    pub root: Payload,
    /// The UKI of each slot.
    #[serde(deserialize_with = "of_known_slots")]
    pub ukis: BTreeMap<Slot, Payload>,
}

/// A slot that this generation does not know is passed over, like any field.
fn of_known_slots<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Slot, Payload>, D::Error> {
    #[derive(Deserialize)]
    struct Ukis {
        a: Option<Payload>,
        b: Option<Payload>,
    }
    let Ukis { a, b } = Ukis::deserialize(deserializer)?;
    Ok([(Slot::A, a), (Slot::B, b)]
        .into_iter()
        .filter_map(|(slot, uki)| Some((slot, uki?)))
        .collect())
}

/// One run of bytes, and the ways in which it can be assembled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Size in bytes, uncompressed.
    pub bytes: u64,
    /// SHA-256 of the bytes, uncompressed.
    pub sha256: Digest,
    /// All compressed frames, one behind the other.
    pub container: Blob,
    /// Size of an uncompressed frame in bytes, a multiple of 4096; the last may be shorter.
    pub frame_bytes: u32,
    /// The frames in order; their sizes add up to the container's.
    pub frames: Vec<Frame>,
    /// Every way to assemble the payload; a node takes the cheapest that it knows, and falls
    /// to the next when one fails.
    pub ways: Vec<Way>,
}

/// One independent zstd frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Compressed size in bytes.
    pub bytes: u32,
    /// SHA-256 of the compressed bytes.
    pub sha256: Digest,
}

/// A way to move a payload's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "kebab-case")]
pub enum Way {
    /// Every frame.
    Full {
        /// Bytes that move.
        bytes: u64,
    },
    /// The leaf index tells which 4096-byte blocks the node has; the frames of the others.
    Blocks {
        /// Eight bytes for each block: the first bytes of the SHA-256 over the root's
        /// dm-verity salt and the block (a last, shorter block is filled with zeros).
        leaves: Blob,
    },
    /// The difference to the root with a known root hash, in one blob.
    Patch {
        /// Root hash of the release that the patch starts from.
        from: RootHash,
        /// The patch.
        patch: Blob,
    },
    /// A way of a later generation, which this one passes over.
    #[serde(other)]
    Unknown,
}

/// Why an offer was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidOffer {
    /// It cannot be read.
    #[error("the offer cannot be read")]
    Read(#[from] Unreadable),
    /// Its release document is wrong.
    #[error("the offer's release document is wrong")]
    Release(#[from] crate::release::document::InvalidDocument),
    /// Parts of the offer contradict each other.
    #[error("the offer contradicts itself: {0}")]
    Contradiction(String),
}

impl InvalidOffer {
    /// What the reader lacks, when that is all that is wrong.
    pub fn unmet(&self) -> Option<&Unmet> {
        match self {
            InvalidOffer::Read(error) => error.unmet(),
            _ => None,
        }
    }
}

impl Document for Offer {
    const MAX_BYTES: u64 = MAX_OFFER_BYTES;

    /// What the release requires, the offer requires.
    fn head(bytes: &[u8]) -> Result<Head, serde_json::Error> {
        #[derive(Deserialize)]
        struct Inner {
            #[serde(default)]
            release: Head,
        }
        let mut head: Head = serde_json::from_slice(bytes)?;
        let Inner { release } = serde_json::from_slice(bytes)?;
        head.requires.extend(release.requires);
        head.minimum_updater = head.minimum_updater.max(release.minimum_updater);
        Ok(head)
    }
}

impl Offer {
    /// Parses and checks an offer.
    ///
    /// # Errors
    /// [`InvalidOffer`] for what is no offer, contradicts itself, or asks for a later reader.
    pub fn from_json(bytes: &[u8]) -> Result<Self, InvalidOffer> {
        let offer: Self = head::read(bytes)?;
        offer.check()?;
        Ok(offer)
    }

    /// The text that is published: compact, with a final newline.
    ///
    /// # Errors
    /// Only when serialisation fails, which no value of this type causes.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Every blob that the offer needs.
    pub fn blobs(&self) -> BTreeSet<Blob> {
        let payloads = self.ukis.values().chain([&self.root]);
        payloads
            .flat_map(|payload| {
                payload.ways.iter().filter_map(Way::blob).chain([payload.container])
            })
            .collect()
    }

    /// Checks that the parts agree with each other.
    ///
    /// # Errors
    /// [`InvalidOffer`].
    pub fn check(&self) -> Result<(), InvalidOffer> {
        self.release.check()?;
        let wrong = |text: &str| Err(InvalidOffer::Contradiction(text.to_owned()));
        if self.root.bytes != self.release.root.bytes {
            return wrong("root payload and release document differ in size");
        }
        if self.root.bytes > ROOT_BYTES {
            return wrong("the root is larger than its partition");
        }
        if Slot::ALL.iter().any(|slot| !self.ukis.contains_key(slot)) {
            return wrong("a slot has no UKI");
        }
        let largest = self.ukis.values().map(|payload| payload.bytes).max().unwrap_or_default();
        if largest > MAX_UKI_BYTES || self.esp_bytes < largest {
            return wrong("a UKI is larger than the room asked for");
        }
        self.ukis.values().chain([&self.root]).try_for_each(Payload::check)
    }
}

impl Way {
    /// The blob that only this way needs.
    pub fn blob(&self) -> Option<Blob> {
        match self {
            Way::Blocks { leaves } => Some(*leaves),
            Way::Patch { patch, .. } => Some(*patch),
            Way::Full { .. } | Way::Unknown => None,
        }
    }
}

impl Payload {
    /// Number of 4096-byte blocks; the last one may be shorter.
    pub fn blocks(&self) -> u64 {
        self.bytes.div_ceil(BLOCK_BYTES)
    }

    /// Where frame `index` starts in the container, in bytes.
    pub fn frame_start(&self, index: usize) -> u64 {
        self.frames.iter().take(index).map(|frame| u64::from(frame.bytes)).sum()
    }

    /// Uncompressed bytes of frame `index`.
    pub fn frame_content_bytes(&self, index: usize) -> u64 {
        let start = index as u64 * u64::from(self.frame_bytes);
        self.bytes.saturating_sub(start).min(u64::from(self.frame_bytes))
    }

    fn check(&self) -> Result<(), InvalidOffer> {
        let wrong = |text: String| Err(InvalidOffer::Contradiction(text));
        let aligned = u64::from(self.frame_bytes).is_multiple_of(BLOCK_BYTES);
        if !FRAME_BYTES_ALLOWED.contains(&self.frame_bytes) || !aligned || self.bytes == 0 {
            return wrong(format!("frames of {} bytes", self.frame_bytes));
        }
        if self.frames.len() as u64 != self.bytes.div_ceil(u64::from(self.frame_bytes)) {
            return wrong(format!("{} frames for {} bytes", self.frames.len(), self.bytes));
        }
        // zstd's bound for incompressible input is far below half a frame.
        let bound = self.frame_bytes + self.frame_bytes / 2;
        if self.frames.iter().any(|frame| frame.bytes == 0 || frame.bytes > bound) {
            return wrong("a frame of an impossible size".to_owned());
        }
        if self.frame_start(self.frames.len()) != self.container.bytes {
            return wrong("the frames do not add up to their container".to_owned());
        }
        for way in &self.ways {
            if let Way::Blocks { leaves } = way
                && leaves.bytes != self.blocks() * LEAF_BYTES
            {
                return wrong("the leaf index has not one entry for each block".to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(bytes: u64) -> Payload {
        let blob = |bytes| Blob { sha256: Digest::of(b"x"), bytes };
        let frames = bytes.div_ceil(u64::from(FRAME_BYTES));
        Payload {
            bytes,
            sha256: Digest::of(b"x"),
            container: blob(frames * 100),
            frame_bytes: FRAME_BYTES,
            frames: vec![Frame { bytes: 100, sha256: Digest::of(b"y") }; frames as usize],
            ways: vec![
                Way::Full { bytes: frames * 100 },
                Way::Blocks { leaves: blob(bytes.div_ceil(BLOCK_BYTES) * LEAF_BYTES) },
            ],
        }
    }

    fn offer() -> Offer {
        let release = crate::release::document::example();
        Offer {
            schema: SCHEMA,
            root: payload(release.root.bytes),
            release,
            minimum_updater: Version::new(0, 1, 0),
            esp_bytes: 3 << 20,
            ukis: Slot::ALL.into_iter().map(|slot| (slot, payload(3 << 20))).collect(),
        }
    }

    #[test]
    fn survives_a_round_trip() {
        let text = offer().to_json().unwrap();
        assert_eq!(Offer::from_json(text.as_bytes()).unwrap(), offer());
    }

    #[test]
    fn a_way_of_a_later_generation_is_passed_over() {
        let text = offer().to_json().unwrap().replace(r#""way":"full""#, r#""way":"teleport""#);
        let read = Offer::from_json(text.as_bytes()).unwrap();
        assert_eq!(read.root.ways[0], Way::Unknown);
    }

    #[test]
    fn an_offer_that_contradicts_itself_is_refused() {
        let changes: [fn(&mut Offer); 6] = [
            |offer| offer.root.bytes += 4096,
            |offer| offer.root.frames[0].bytes = 0,
            |offer| offer.root.container.bytes += 1,
            |offer| offer.root.frame_bytes = 100,
            |offer| offer.esp_bytes = 1,
            |offer| drop(offer.ukis.remove(&Slot::B)),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut hostile = offer();
            change(&mut hostile);
            let text = hostile.to_json().unwrap();
            assert!(Offer::from_json(text.as_bytes()).is_err(), "change {index}");
        }
    }
}
