//! Servers that stop, lie, stall and never end.

use super::machine::Machine;
use super::server::{Manner, Server};
use super::{assert_installed, chain, impatient, new_release, old_release, stage, stage_within};
use crate::staging::StageError;

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start() {
    for keep_blocks in [true, false] {
        let (old, mut new) = (old_release(), new_release());
        if !keep_blocks {
            new = new.keep_ways(|way| way.blob().is_none());
        }
        let machine = Machine::running(&old);
        let server = Server::start(&new.blobs, &[], Manner::IgnoresRange).await;
        let _staged = stage(&machine, &new, server.mirrors()).await.unwrap();
        assert_installed(&machine, &new);
    }
}

#[tokio::test]
async fn a_mirror_with_ranges_is_preferred_to_one_without() {
    let (old, new) = (old_release(), new_release());
    let machine = Machine::running(&old);
    let plain = Server::start(&new.blobs, &[], Manner::IgnoresRange).await;
    let good = Server::start(&new.blobs, &[], Manner::Honest).await;
    let _staged = stage(&machine, &new, &[plain.url.clone(), good.url.clone()]).await.unwrap();
    assert_installed(&machine, &new);
    assert_eq!(plain.requests(), 1, "one, to learn it");
}

#[tokio::test]
async fn each_fault_that_passes_is_survived() {
    let faults = [
        Manner::Stops(0),
        Manner::Stops(100),
        Manner::Stops(70_000),
        Manner::ShortRange,
        Manner::Corrupts,
        Manner::Status(416),
        Manner::Status(503),
        Manner::Status(404),
        Manner::WrongRange,
        Manner::NoContentRange,
        Manner::Redirects,
        Manner::Endless,
        Manner::HangsUp,
        Manner::Gibberish,
    ];
    for fault in faults {
        let (old, new) = (old_release(), new_release());
        let machine = Machine::running(&old);
        // Redirects are followed: the next request is answered in the next manner.
        let server = Server::start(&new.blobs, &[fault, fault, fault], Manner::Honest).await;
        let staged = stage(&machine, &new, server.mirrors()).await;
        let _staged = staged.unwrap_or_else(|error| panic!("{fault:?}: {}", chain(&error)));
        assert_installed(&machine, &new);
    }
}

#[tokio::test]
async fn a_server_that_stops_after_every_few_bytes_still_delivers() {
    let (old, new) = (old_release(), new_release());
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Stops(30_000)).await;
    let staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert_installed(&machine, &new);
    assert_eq!(staged.bytes_moved, server.content(), "cut off pieces go on where they stopped");
}

#[tokio::test]
async fn each_fault_that_stays_ends_in_an_error_that_names_it() {
    let faults = [
        (Manner::Stops(0), "the connection failed"),
        (Manner::Corrupts, "have another SHA-256"),
        (Manner::Status(416), "the server answers 416"),
        (Manner::Status(503), "the server answers 503"),
        (Manner::WrongRange, "and answers `bytes "),
        (Manner::NoContentRange, "and answers ``"),
        (Manner::Redirects, "the connection failed"),
        (Manner::Silent, "nothing arrived"),
        (Manner::Trickles, "bytes arrived in"),
        (Manner::HangsUp, "the connection failed"),
        (Manner::Gibberish, "the connection failed"),
    ];
    for (fault, message) in faults {
        let (old, new) = (old_release(), new_release());
        let machine = Machine::running(&old);
        let server = Server::start(&new.blobs, &[], fault).await;
        let staged = stage_within(&machine, &new, server.mirrors(), impatient()).await;
        let error = staged.expect_err("must fail");
        let text = chain(&error);
        assert!(matches!(error, StageError::Ways { .. }), "{fault:?}: {text}");
        assert!(text.contains(message), "{fault:?}: {text}");
        assert!(text.contains("/channel/blobs/"), "{fault:?}: {text}");
        assert!(!text.contains("secret"), "{fault:?}: {text}");
        assert!(server.requests() < 100, "{fault:?}: {} requests", server.requests());
    }
}

#[tokio::test]
async fn a_good_mirror_makes_up_for_bad_ones() {
    for fault in [Manner::Corrupts, Manner::Silent, Manner::Trickles, Manner::Status(404)] {
        let (old, new) = (old_release(), new_release());
        let machine = Machine::running(&old);
        let bad = Server::start(&new.blobs, &[], fault).await;
        let good = Server::start(&new.blobs, &[], Manner::Honest).await;
        let mirrors = [bad.url.clone(), good.url.clone()];
        let staged = stage_within(&machine, &new, &mirrors, impatient()).await;
        let _staged = staged.unwrap_or_else(|error| panic!("{fault:?}: {}", chain(&error)));
        assert_installed(&machine, &new);
    }
}

#[tokio::test]
async fn a_piece_goes_on_at_another_mirror_where_it_stopped() {
    let (old, new) = (old_release(), new_release());
    let machine = Machine::running(&old);
    let first = Server::start(&new.blobs, &[], Manner::Stops(1000)).await;
    let second = Server::start(&new.blobs, &[], Manner::Honest).await;
    let staged = stage(&machine, &new, &[first.url.clone(), second.url.clone()]).await.unwrap();
    assert_installed(&machine, &new);
    assert_eq!(staged.bytes_moved, first.content() + second.content());
}

#[tokio::test]
async fn without_a_mirror_the_error_says_what_to_set() {
    let (old, new) = (old_release(), new_release());
    let machine = Machine::running(&old);
    let error = stage(&machine, &new, &[]).await.unwrap_err();
    assert!(chain(&error).contains("set `channel` in the node's settings"), "{}", chain(&error));
}
