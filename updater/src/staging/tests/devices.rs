//! Disks that fail, fill up and lie.

use super::machine::{EIO, ENOSPC, Machine, Place, Trouble};
use super::release::publish_with;
use super::server::{Manner, Server};
use super::{assert_installed, chain, new_release, old_release, stage};
use crate::staging::{ReadBack, StageError};
use ::release::Slot;

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
