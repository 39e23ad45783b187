//! Which bytes move on which way.

use contract::release::offer::Way;
use contract::{RootHash, Slot};

use super::machine::{Machine, Place};
use super::release::{FRAME, noise, publish, publish_with, store};
use super::server::{Manner, Server};
use super::{assert_installed, chain, new_release, old_release, stage};
use crate::staging::{KnownWay, Part, StageError};

fn full_only(way: &Way) -> bool {
    matches!(way, Way::Full { .. })
}

#[tokio::test]
async fn full_moves_every_frame_once_and_nothing_else() {
    let (old, new) = (old_release(), new_release().keep_ways(full_only));
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert_installed(&machine, &new);
    assert_eq!(staged.root_way, KnownWay::Full);
    assert_eq!(server.content(), new.full_bytes());
    assert_eq!(staged.bytes_moved, new.full_bytes());
}

#[tokio::test]
async fn blocks_moves_the_index_and_the_frames_that_changed() {
    let (old, new) = (old_release(), new_release());
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert_installed(&machine, &new);
    assert_eq!(staged.root_way, KnownWay::Blocks);
    assert_eq!(staged.uki_way, KnownWay::Blocks);
    // Blocks 3 and 4 are in frame 0, 100 in frame 6, the new one in the last. Of the UKI for
    // slot B only the last frame differs from the running one for slot A.
    let frames = &new.offer.root.frames;
    let root: u32 = [0, 6, 32].iter().map(|frame| frames[*frame].bytes).sum();
    let uki = new.offer.ukis[&Slot::B].frames.last().unwrap().bytes;
    assert_eq!(staged.bytes_moved, new.index_bytes() + u64::from(root + uki));
}

#[tokio::test]
async fn an_unchanged_root_moves_its_index_only() {
    let old = old_release();
    let machine = Machine::running(&old);
    let server = Server::start(&old.blobs, &[], Manner::Honest).await;
    let staged = stage(&machine, &old, server.mirrors()).await.unwrap();
    assert_installed(&machine, &old);
    let uki = old.offer.ukis[&Slot::B].frames.last().unwrap().bytes;
    assert_eq!(staged.bytes_moved, old.index_bytes() + u64::from(uki));
}

#[tokio::test]
async fn another_salt_costs_hashing_and_no_bytes() {
    let old = old_release();
    let salted = publish(old.root.clone(), 1, b"another salt");
    let machine = Machine::running(&old);
    let server = Server::start(&salted.blobs, &[], Manner::Honest).await;
    let staged = stage(&machine, &salted, server.mirrors()).await.unwrap();
    assert_installed(&machine, &salted);
    let uki = salted.offer.ukis[&Slot::B].frames.last().unwrap().bytes;
    assert_eq!(staged.bytes_moved, salted.index_bytes() + u64::from(uki));
}

#[tokio::test]
async fn a_kernel_that_moved_by_a_section_is_found_in_the_running_uki() {
    let old = old_release();
    let moved = [noise(90, 512 * 3), old.ukis[&Slot::A].clone()].concat();
    let ukis = Slot::ALL.map(|slot| (slot, moved.clone())).into();
    let new = publish_with(old.root.clone(), ukis, b"salt");
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert_installed(&machine, &new);
    let first = new.offer.ukis[&Slot::B].frames[0].bytes;
    assert_eq!(staged.bytes_moved, new.index_bytes() + u64::from(first));
}

#[tokio::test]
async fn what_the_target_slot_already_holds_is_not_fetched_or_written_again() {
    let (old, new) = (old_release(), new_release());
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let first = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert!(first.bytes_moved > new.index_bytes());
    let written = machine.written();
    let again = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert_eq!(again.bytes_moved, new.index_bytes());
    assert_eq!(machine.written() - written, new.tree().len() as u64);
}

#[tokio::test]
async fn an_index_that_names_the_wrong_block_costs_a_full_download() {
    // What two blocks with the same eight bytes of hash look like to a node.
    let (old, mut new) = (old_release(), new_release());
    for part in [Part::Root, Part::Uki] {
        let payload = match part {
            Part::Root => &mut new.offer.root,
            Part::Uki => new.offer.ukis.get_mut(&Slot::B).unwrap(),
        };
        let Some(Way::Blocks { leaves }) = payload.ways.pop() else { panic!("blocks is last") };
        let mut index = new.blobs[&leaves.sha256].clone();
        // Blocks 3 and 4 are said to be what block 10 is.
        index.copy_within(10 * 8..11 * 8, 3 * 8);
        index.copy_within(10 * 8..11 * 8, 4 * 8);
        payload.ways.push(Way::Blocks { leaves: store(index, &mut new.blobs) });
    }
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert_installed(&machine, &new);
    assert_eq!(staged.root_way, KnownWay::Full);
    assert_eq!(staged.uki_way, KnownWay::Full);
    assert!(staged.bytes_moved > new.full_bytes());
}

#[tokio::test]
async fn a_rotten_running_slot_gives_no_wrong_blocks() {
    let (old, new) = (old_release(), new_release());
    let machine = Machine::running(&old);
    machine.tamper_booted(|root| root[20 * FRAME + 5] ^= 1);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert_installed(&machine, &new);
    assert_eq!(staged.root_way, KnownWay::Blocks);
    let frames = &new.offer.root.frames;
    let root: u32 = [0, 6, 20, 32].iter().map(|frame| frames[*frame].bytes).sum();
    let uki = new.offer.ukis[&Slot::B].frames.last().unwrap().bytes;
    assert_eq!(staged.bytes_moved, new.index_bytes() + u64::from(root + uki));
}

#[tokio::test]
async fn a_patch_and_ways_of_the_future_are_passed_over() {
    let (old, mut new) = (old_release(), new_release());
    let patch = store(b"not yet".to_vec(), &mut new.blobs);
    let from = RootHash::from([1; 32]);
    new.offer.root.ways.insert(0, Way::Patch { from, patch });
    new.offer.root.ways.insert(0, Way::Unknown);
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert_eq!(staged.root_way, KnownWay::Blocks);
    assert_installed(&machine, &new);
}

#[tokio::test]
async fn an_offer_without_a_known_way_says_so() {
    let (old, new) = (old_release(), new_release().keep_ways(|_| false));
    let machine = Machine::running(&old);
    let error = stage(&machine, &new, &[]).await.unwrap_err();
    assert!(matches!(error, StageError::NoWay(Part::Root)), "{}", chain(&error));
}

#[tokio::test]
async fn a_frame_that_unpacks_to_more_or_less_than_its_size_is_refused() {
    for length in [FRAME + 1, FRAME - 1, 64 << 20] {
        let (old, mut new) = (old_release(), new_release().keep_ways(full_only));
        let payload = &mut new.offer.root;
        let start = payload.frame_start(2) as usize;
        let bomb = zstd::bulk::compress(&vec![0; length], 19).unwrap();
        let mut container = new.blobs[&payload.container.sha256].clone();
        container.splice(start..start + payload.frames[2].bytes as usize, bomb.iter().copied());
        payload.frames[2].bytes = bomb.len() as u32;
        payload.frames[2].sha256 = contract::Digest::of(&bomb);
        payload.container = store(container, &mut new.blobs);
        new.offer.check().unwrap();
        let machine = Machine::running(&old);
        let server = Server::start(&new.blobs, &[], Manner::Honest).await;
        let error = stage(&machine, &new, server.mirrors()).await.unwrap_err();
        assert!(chain(&error).contains("frame 2 is"), "{length}: {}", chain(&error));
        assert_eq!(machine.durable(Place::Temporary), Vec::<u8>::new());
    }
}
