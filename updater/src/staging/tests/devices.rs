//! Disks that fail, fill up and lie.

use super::machine::{EIO, ENOSPC, Machine, Place, Trouble};
use super::release::{FRAME, publish, publish_with};
use super::server::{Manner, Server};
use super::{assert_installed, chain, limits, new_release, old_release, stage};
use crate::staging::{Part, ReadBack, StageError, Stager};
use contract::Slot;

async fn stage_with(trouble: Trouble) -> StageError {
    let (old, new) = (old_release(), new_release());
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    machine.set(Some(trouble));
    let error = stage(&machine, &new, server.mirrors()).await.unwrap_err();
    // Once the disk is well again, so is the node.
    machine.set(None);
    let _staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert_installed(&machine, &new);
    error
}

#[tokio::test]
async fn a_failed_write_names_the_place_and_ends_it() {
    for (place, errno, message) in [
        (Place::TargetRoot, EIO, "cannot write the root, at byte"),
        (Place::TargetVerity, EIO, "cannot write the hash tree, at byte"),
        (Place::Temporary, EIO, "the UKI, at byte"),
        (Place::Temporary, ENOSPC, "No space left on device"),
    ] {
        for after in [0, 1] {
            let error = stage_with(Trouble::WriteFails { place, after, errno }).await;
            assert!(matches!(error, StageError::Device(_)), "{}", chain(&error));
            assert!(chain(&error).contains(message), "{}", chain(&error));
        }
    }
}

#[tokio::test]
async fn a_disk_that_stores_something_else_is_found_by_reading_back() {
    for place in [Place::TargetRoot, Place::TargetVerity, Place::Temporary] {
        let error = stage_with(Trouble::WriteLies { place, number: 1 }).await;
        let StageError::ReadBack { part, .. } = error else { panic!("{}", chain(&error)) };
        assert_eq!(part == ReadBack::Tree, place == Place::TargetVerity);
    }
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_back_is_an_error() {
    for place in [Place::TargetRoot, Place::TargetVerity, Place::Temporary] {
        let error = stage_with(Trouble::ReadFails(place)).await;
        assert!(chain(&error).contains("cannot read back"), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_bad_sector_is_written_also_where_the_release_has_zeros() {
    let old = old_release();
    let mut root = old.root.clone();
    root[FRAME..2 * FRAME].fill(0);
    let new = publish(root, 1, b"salt");
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    for bad in [FRAME, FRAME + 5 * 4096, 2 * FRAME - 1] {
        let machine = Machine::running(&old);
        machine.set(Some(Trouble::BadSector(bad)));
        let _staged = stage(&machine, &new, server.mirrors()).await.unwrap();
        assert_installed(&machine, &new);
    }
}

#[tokio::test]
async fn a_full_state_partition_costs_only_the_journal() {
    let (old, new) = (old_release(), new_release());
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    machine.set(Some(Trouble::StateFull));
    let staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert_installed(&machine, &new);
    assert!(staged.journal_trouble.unwrap().contains("No space left"));
}

#[tokio::test]
async fn an_esp_without_room_is_told_before_anything_is_written() {
    let old = old_release();
    let ukis = Slot::ALL.map(|slot| (slot, vec![7; 3 << 20])).into();
    let new = publish_with(old.root.clone(), ukis, b"salt");
    let machine = Machine::running(&old);
    let error = stage(&machine, &new, &[]).await.unwrap_err();
    assert!(matches!(error, StageError::EspFull { .. }), "{}", chain(&error));
    assert_eq!(machine.writes(), 0);
}

#[tokio::test]
async fn what_changes_after_staging_is_found_before_arming_and_repaired() {
    let (old, new) = (old_release(), new_release());
    let (end, tree_end) = (new.root.len() - 1, new.tree().len() - 1);
    for (place, at) in [
        (Place::TargetRoot, 0),
        (Place::TargetRoot, end),
        (Place::TargetVerity, 0),
        (Place::TargetVerity, tree_end),
        (Place::Temporary, 17),
    ] {
        let machine = Machine::running(&old);
        let server = Server::start(&new.blobs, &[], Manner::Honest).await;
        let staged = stage(&machine, &new, server.mirrors()).await.unwrap().staged;
        let stager = Stager::new(machine.effects(), limits());
        let confirmed = stager.confirm(staged, new.offer.clone()).await.unwrap();
        machine.tamper(place, |content| content[at] ^= 1);
        let error = stager.confirm(confirmed.into_staged(), new.offer.clone()).await.unwrap_err();
        let fits = match place {
            Place::TargetRoot => matches!(error, StageError::Changed(Part::Root)),
            Place::TargetVerity => {
                matches!(error, StageError::ReadBack { part: ReadBack::Tree, .. })
            }
            Place::Temporary => matches!(error, StageError::Changed(Part::Uki)),
        };
        assert!(fits, "{place:?}: {}", chain(&error));
        let before = server.content();
        let _staged = stage(&machine, &new, server.mirrors()).await.unwrap();
        assert_installed(&machine, &new);
        let moved = server.content() - before;
        assert!(moved <= new.index_bytes() + 2 * FRAME as u64, "{place:?}: {moved} bytes");
    }
}

#[tokio::test]
async fn a_slot_that_cannot_be_read_or_is_of_another_offer_is_not_armed() {
    let (old, new) = (old_release(), new_release());
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let stager = Stager::new(machine.effects(), limits());
    let staged = stage(&machine, &new, server.mirrors()).await.unwrap().staged;
    machine.set(Some(Trouble::ReadFails(Place::TargetVerity)));
    let error = stager.confirm(staged, new.offer.clone()).await.unwrap_err();
    assert!(chain(&error).contains("cannot read"), "{}", chain(&error));
    machine.set(None);
    let staged = stage(&machine, &new, server.mirrors()).await.unwrap().staged;
    let error = stager.confirm(staged, old.offer.clone()).await.unwrap_err();
    assert!(matches!(error, StageError::Changed(Part::Root)), "{}", chain(&error));
}
