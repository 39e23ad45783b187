//! A node that is as it was signed, and the same node after each thing that can drift.

use contract::UkiName;
use contract::release::verity::{BLOCK, BlockHasher, HashTree, superblock};

use super::*;
use crate::effects::Area;
use crate::effects::fake::{FakeNode, Sizes};

/// Over one MiB, so that a full comparison takes two pieces; two levels of hashes.
const BLOCKS: usize = 259;

/// Root, hash partition and root hash of a slot.
fn slot(fill: u8) -> (Vec<u8>, Vec<u8>, RootHash) {
    let root: Vec<u8> = (0..BLOCKS * BLOCK).map(|at| (at / BLOCK) as u8 ^ fill).collect();
    let salt = Digest::of(&[fill]);
    let hasher = BlockHasher::new(&salt);
    let mut leaves = Vec::new();
    hasher.hash_all(&root, &mut leaves);
    let tree = HashTree::over(leaves, &hasher).unwrap();
    let uuid = uuid::Uuid::from_bytes([fill; 16]);
    let mut verity = superblock(root.len() as u64, &salt, &uuid).to_vec();
    tree.on_disk().for_each(|level| verity.extend(level));
    (root, verity, tree.root)
}

fn uki(name: &str) -> UkiName {
    name.parse().unwrap()
}

/// A node that runs slot A, and the request that finds it unchanged.
fn node(depth: Depth) -> (FakeNode, Comparison) {
    let sizes = Sizes { root: 2 << 20, verity: 64 << 10, ..Sizes::default() };
    let node = FakeNode::new(1, sizes);
    let mut installed = Vec::new();
    for (letter, fill, name) in
        [(Slot::A, 1, "slipway-000002-a.efi"), (Slot::B, 2, "slipway-000001-b.efi")]
    {
        let (root, verity, root_hash) = slot(fill);
        node.install_slot(letter, Area::Root, &root);
        node.install_slot(letter, Area::Verity, &verity);
        node.install_uki(uki(name), name.as_bytes());
        installed.push(Installed { root_hash, uki: Some(Digest::of(name.as_bytes())) });
    }
    let request = Comparison {
        booted: BootedSlot::forged_for_a_test(Slot::A),
        kernel_root_hash: Some(installed[0].root_hash),
        a: Some(installed[0]),
        b: Some(installed[1]),
        depth,
    };
    (node, request)
}

/// Subject, name and outcome of everything that is not the same. The kernel's own view has its
/// tests in `kernel`; there is none here.
fn drifted(node: &FakeNode, request: &Comparison) -> Vec<(Subject, String, Outcome)> {
    let places = DriftPlaces {
        mounts: "/dev/null".into(),
        devices: "/nonexistent".into(),
        writable: Vec::new(),
    };
    let drift = compare(request, &places, &node.effects(), &AtomicBool::new(false));
    let items = drift
        .items
        .into_iter()
        .filter(|item| item.outcome != Outcome::Same && item.subject != Subject::RootDevice);
    items.map(|item| (item.subject, item.name, item.outcome)).collect()
}

fn differs(subject: Subject, name: &str) -> Vec<(Subject, String, Outcome)> {
    vec![(subject, name.to_owned(), Outcome::Differs)]
}

#[test]
fn a_node_as_it_was_signed_has_no_drift() {
    for depth in [Depth::Quick, Depth::Full] {
        let (node, request) = node(depth);
        assert_eq!(drifted(&node, &request), []);
        assert!(node.log().is_empty(), "{:?}", node.log());
    }
}

#[test]
fn a_flipped_bit_of_the_root_is_found_by_reading_it() {
    for offset in [0, (1 << 20) - 1, BLOCKS * BLOCK - 1] {
        let (node, mut request) = node(Depth::Full);
        node.flip_bit(Slot::A, Area::Root, offset);
        assert_eq!(drifted(&node, &request), differs(Subject::Slot, "slot a"));
        request.depth = Depth::Quick;
        assert_eq!(drifted(&node, &request), []);
    }
}

#[test]
fn a_flipped_bit_of_the_hash_tree_is_found_at_once() {
    // Superblock, salt, upper level, first and last leaf.
    for offset in [0, 90, BLOCK, 2 * BLOCK, 2 * BLOCK + BLOCKS * 32 - 1] {
        let (node, request) = node(Depth::Quick);
        node.flip_bit(Slot::B, Area::Verity, offset);
        assert_eq!(drifted(&node, &request), differs(Subject::HashTree, "slot b"), "{offset}");
    }
}

#[test]
fn another_release_in_a_slot_is_found_although_it_is_whole() {
    let (node, request) = node(Depth::Full);
    let (root, verity, _) = slot(9);
    node.install_slot(Slot::B, Area::Root, &root);
    node.install_slot(Slot::B, Area::Verity, &verity);
    assert_eq!(drifted(&node, &request), differs(Subject::HashTree, "slot b"));
}

#[test]
fn a_superblock_that_lies_about_the_size_reads_nothing_out_of_bounds() {
    for blocks in [0, 1, 2, u64::MAX] {
        let (node, request) = node(Depth::Full);
        let (_, mut verity, _) = slot(2);
        verity[72..80].copy_from_slice(&blocks.to_le_bytes());
        node.install_slot(Slot::B, Area::Verity, &verity);
        assert_eq!(drifted(&node, &request), differs(Subject::HashTree, "slot b"), "{blocks}");
    }
}

#[test]
fn a_kernel_with_another_root_hash_is_found() {
    let (node, mut request) = node(Depth::Quick);
    request.kernel_root_hash = Some([9; 32].into());
    assert_eq!(drifted(&node, &request), differs(Subject::RootHash, "kernel command line"));
    request.kernel_root_hash = None;
    assert_eq!(drifted(&node, &request), differs(Subject::RootHash, "kernel command line"));
}

#[test]
fn a_changed_or_added_uki_is_found() {
    let (node, request) = node(Depth::Quick);
    node.install_uki(uki("slipway-000001-b.efi"), b"changed");
    assert_eq!(drifted(&node, &request), differs(Subject::Uki, "slipway-000001-b.efi"));
    let (node, request) = self::node(Depth::Quick);
    node.install_uki(uki("slipway-000009-a+3.efi"), b"smuggled");
    assert_eq!(drifted(&node, &request), differs(Subject::Uki, "slipway-000009-a+3.efi"));
}

#[test]
fn what_was_never_recorded_is_unknown() {
    let (node, mut request) = node(Depth::Full);
    request.a = None;
    request.b = None;
    let unknown = |subject, name: &str| (subject, name.to_owned(), Outcome::Unknown);
    let expected = [
        unknown(Subject::RootHash, "kernel command line"),
        unknown(Subject::Uki, "slipway-000002-a.efi"),
        unknown(Subject::Uki, "slipway-000001-b.efi"),
    ];
    assert_eq!(drifted(&node, &request), expected);
}

#[test]
fn a_comparison_can_be_stopped() {
    let (node, request) = node(Depth::Full);
    let places = DriftPlaces {
        mounts: "/dev/null".into(),
        devices: "/nonexistent".into(),
        writable: Vec::new(),
    };
    let drift = compare(&request, &places, &node.effects(), &AtomicBool::new(true));
    assert!(drift.items.iter().all(|item| item.subject != Subject::Slot));
}
