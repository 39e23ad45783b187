//! Firmware that would not start what the channel offers.

use std::sync::Arc;

use contract::Slot;

use super::machine::{Machine, Place, uki_name};
use super::release::{Published, noise, publish_with};
use super::server::{Manner, Server};
use super::{assert_installed, chain, limits, stage};
use crate::effects::Esp;
use crate::secure_boot::testing::{certificate, db, program};
use crate::staging::{StageError, Stager};

/// A release whose UKIs carry this certificate.
fn signed(seed: u64, certificate: &[u8]) -> Published {
    let uki = |slot| (slot, program(&noise(seed, 200_000), &[certificate]));
    publish_with(noise(seed, 1 << 20), Slot::ALL.map(uki).into(), b"salt")
}

fn only_the_booted_can_start(machine: &Arc<Machine>) {
    assert_eq!(machine.list().unwrap(), [uki_name()]);
}

#[tokio::test]
async fn a_uki_that_the_firmware_would_refuse_is_not_staged_and_the_next_good_one_is() {
    let (ours, stranger) = (certificate("ours"), certificate("stranger"));
    let (old, bad, good) = (signed(1, &ours), signed(2, &stranger), signed(3, &ours));
    let machine = Machine::running(&old);
    machine.enforce(db(&[&ours]));
    let server = Server::start(&bad.blobs, &[], Manner::Honest).await;
    for _ in 0..2 {
        let error = stage(&machine, &bad, server.mirrors()).await.unwrap_err();
        assert!(matches!(error, StageError::Firmware(_)), "{}", chain(&error));
        assert!(chain(&error).contains("signed by CN=stranger"), "{}", chain(&error));
        only_the_booted_can_start(&machine);
    }
    // It was whole: this was the last thing to be asked.
    assert!(machine.durable(Place::Temporary) == bad.ukis[&Slot::B]);
    let server = Server::start(&good.blobs, &[], Manner::Honest).await;
    let _staged = stage(&machine, &good, server.mirrors()).await.unwrap();
    assert_installed(&machine, &good);
}

#[tokio::test]
async fn a_key_that_was_taken_from_the_firmware_meanwhile_is_found_before_arming() {
    let (old_key, new_key) = (certificate("old"), certificate("new"));
    let (old, new) = (signed(1, &old_key), signed(2, &new_key));
    let machine = Machine::running(&old);
    machine.enforce(db(&[&old_key, &new_key]));
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let stager = Stager::new(machine.effects(), limits());
    let staged = stage(&machine, &new, server.mirrors()).await.unwrap().staged;
    let confirmed = stager.confirm(staged, new.offer.clone()).await.unwrap();
    machine.enforce(db(&[&old_key]));
    let error = stager.confirm(confirmed.into_staged(), new.offer.clone()).await.unwrap_err();
    assert!(matches!(error, StageError::Firmware(_)), "{}", chain(&error));
    only_the_booted_can_start(&machine);
}
