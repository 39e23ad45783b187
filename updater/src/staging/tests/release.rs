//! Small releases, published into memory the way a channel holds them.

use std::collections::{BTreeMap, HashMap};

use contract::release::document::SCHEMA as DOCUMENT_SCHEMA;
use contract::release::layout::Architecture;
use contract::release::offer::{Blob, Frame, Offer, Payload, SCHEMA, Way};
use contract::release::verity::{BLOCK, BlockHasher, HASH, HashTree, leaf, tree_bytes};
use contract::{Digest, ReleaseDocument, RootDescription, Slot};
use semver::Version;
use uuid::Uuid;

/// Smallest size that an offer may name.
pub const FRAME: usize = 64 << 10;

/// Blobs by digest.
pub type Blobs = HashMap<Digest, Vec<u8>>;

/// A release and what its channel holds for it.
#[derive(Clone)]
pub struct Published {
    pub offer: Offer,
    pub blobs: Blobs,
    pub root: Vec<u8>,
    pub ukis: BTreeMap<Slot, Vec<u8>>,
}

/// A little generator: the same seed gives the same bytes, and they do not compress away.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(bytes).collect()
}

/// Publishes a root and UKIs made from `seed`, with a salt made from `salt`.
pub fn publish(root: Vec<u8>, seed: u64, salt: &[u8]) -> Published {
    let uki = |slot: Slot| {
        let mut uki = noise(seed ^ 0xfeed, 300_000);
        uki.extend(format!("slot {slot}, release {seed}").as_bytes());
        (slot, uki)
    };
    publish_with(root, Slot::ALL.map(uki).into(), salt)
}

/// Publishes exactly these bytes.
pub fn publish_with(root: Vec<u8>, ukis: BTreeMap<Slot, Vec<u8>>, salt: &[u8]) -> Published {
    let hasher = BlockHasher::new(&Digest::of(salt));
    let mut blobs = Blobs::new();
    let mut hashes = Vec::new();
    hasher.hash_all(&root, &mut hashes);
    let bytes = root.len() as u64;
    let tree = HashTree::over(hashes, &hasher).unwrap();
    let release = ReleaseDocument {
        schema: DOCUMENT_SCHEMA,
        image: "test".to_owned(),
        version: "1.2.3".parse().unwrap(),
        architecture: Architecture::X86_64,
        development: true,
        components: Vec::new(),
        root: RootDescription {
            root_hash: tree.root,
            salt: Digest::of(salt),
            verity_uuid: Uuid::from_bytes([7; 16]),
            bytes,
            verity_bytes: tree_bytes(bytes),
        },
        files: Vec::new(),
    };
    let offer = Offer {
        schema: SCHEMA,
        release,
        minimum_updater: Version::new(0, 1, 0),
        esp_bytes: ukis.values().map(Vec::len).max().unwrap() as u64,
        root: payload(&root, &hasher, &mut blobs),
        ukis: ukis.iter().map(|(slot, uki)| (*slot, payload(uki, &hasher, &mut blobs))).collect(),
    };
    offer.check().unwrap();
    Published { offer, blobs, root, ukis }
}

fn payload(content: &[u8], hasher: &BlockHasher, blobs: &mut Blobs) -> Payload {
    let packed: Vec<_> =
        content.chunks(FRAME).map(|frame| zstd::bulk::compress(frame, 1).unwrap()).collect();
    let frame = |packed: &Vec<u8>| Frame { bytes: packed.len() as u32, sha256: Digest::of(packed) };
    let frames = packed.iter().map(frame).collect();
    let leaves = content.chunks(BLOCK).flat_map(|block| leaf(&hasher.hash(block))).collect();
    let container = store(packed.concat(), blobs);
    let leaves = store(leaves, blobs);
    Payload {
        bytes: content.len() as u64,
        sha256: Digest::of(content),
        container,
        frame_bytes: FRAME as u32,
        frames,
        ways: vec![Way::Full { bytes: container.bytes }, Way::Blocks { leaves }],
    }
}

/// Adds a blob.
pub fn store(content: Vec<u8>, blobs: &mut Blobs) -> Blob {
    let blob = Blob { sha256: Digest::of(&content), bytes: content.len() as u64 };
    blobs.insert(blob.sha256, content);
    blob
}

impl Published {
    /// What the hash partition must hold.
    pub fn tree(&self) -> Vec<u8> {
        let root = &self.offer.release.root;
        let hasher = BlockHasher::new(&root.salt);
        let mut hashes = Vec::with_capacity(self.root.len() / BLOCK * HASH);
        hasher.hash_all(&self.root, &mut hashes);
        let tree = HashTree::over(hashes, &hasher).unwrap();
        let mut disk =
            contract::release::verity::superblock(root.bytes, &root.salt, &root.verity_uuid)
                .to_vec();
        tree.on_disk().for_each(|level| disk.extend(level));
        disk
    }

    /// Leaves only ways for which `keep` is true, in every payload.
    pub fn keep_ways(mut self, keep: fn(&Way) -> bool) -> Self {
        self.offer.root.ways.retain(keep);
        self.offer.ukis.values_mut().for_each(|payload| payload.ways.retain(keep));
        self
    }

    /// Compressed bytes of root and of the UKI of slot B.
    pub fn full_bytes(&self) -> u64 {
        self.offer.root.container.bytes + self.offer.ukis[&Slot::B].container.bytes
    }

    /// Bytes of the leaf indexes of root and of the UKI of slot B.
    pub fn index_bytes(&self) -> u64 {
        (self.offer.root.blocks() + self.offer.ukis[&Slot::B].blocks()) * 8
    }
}
