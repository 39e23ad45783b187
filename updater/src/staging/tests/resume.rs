//! Going on after a restart of the daemon and after a power cut.

use std::time::Duration;

use tokio::sync::watch;

use super::machine::{Machine, Place, Trouble, uki_name};
use super::release::{FRAME, Published, noise, publish};
use super::server::{Manner, Server};
use super::{assert_installed, chain, client, limits, old_release, stage};
use crate::effects::StateStore;
use crate::staging::{DOCUMENT, Job, Progress, Stager};

/// Nothing of it is in the old release, so that all must be fetched.
fn different() -> Published {
    publish(noise(2, 2 << 20), 2, b"salt")
}

#[tokio::test]
async fn a_power_cut_after_any_write_costs_what_was_not_synced() {
    let (old, new) = (old_release(), different());
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let _staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    let writes = machine.writes();
    assert!(writes > 30, "{writes}");
    for (after, lasting) in (0..writes).step_by(3).zip([0, 2, 3, 1].into_iter().cycle()) {
        let machine = Machine::running(&old);
        machine.set(Some(Trouble::PowerCut { after }));
        stage(&machine, &new, server.mirrors()).await.expect_err("the power is off");
        machine.power_cycle(|number| lasting != 0 && number % lasting == 0);
        let before = server.content();
        let staged = stage(&machine, &new, server.mirrors()).await;
        let _staged = staged.unwrap_or_else(|error| panic!("{after}: {}", chain(&error)));
        assert_installed(&machine, &new);
        if lasting == 1 && after < 30 {
            // Every write lasted but for the torn one and those that had not begun.
            let saved = after.saturating_sub(1) as u64 * FRAME as u64;
            assert!(server.content() - before <= new.full_bytes() + new.index_bytes() - saved);
        }
    }
}

#[tokio::test]
async fn a_daemon_that_was_stopped_goes_on_where_it_was() {
    for keep_index in [true, false] {
        let (old, mut new) = (old_release(), different());
        if !keep_index {
            new = new.keep_ways(|way| way.blob().is_none());
        }
        let machine = Machine::running(&old);
        // 40 frames of about 64 KiB; the server falls silent within the second request.
        let first = [Manner::Honest, Manner::Honest, Manner::Stops(200_000)];
        let server = Server::start(&new.blobs, &first, Manner::Silent).await;
        stop_when_silent(&machine, &new, &server).await;
        let (before, moved) = (server.content(), machine.written());
        assert!(moved > 10 * FRAME as u64, "{moved}");
        server.set(Manner::Honest);
        let _staged = stage(&machine, &new, server.mirrors()).await.unwrap();
        assert_installed(&machine, &new);
        let again = server.content() - before;
        if keep_index {
            assert!(again + moved <= new.full_bytes() + new.index_bytes() + 4 * FRAME as u64);
        }
    }
}

/// Stages until nothing has arrived for a while, and drops the future.
async fn stop_when_silent(machine: &std::sync::Arc<Machine>, new: &Published, server: &Server) {
    let stager = Stager::new(machine.effects(), limits());
    let (progress, _) = watch::channel(Progress::default());
    let job = Job {
        offer: &new.offer,
        booted: Some(uki_name()),
        disarmed: machine.disarm(),
        client: client(),
        mirrors: server.mirrors(),
        progress: &progress,
    };
    let mut staging = std::pin::pin!(stager.stage(job));
    let mut last = 0;
    loop {
        match tokio::time::timeout(Duration::from_millis(200), &mut staging).await {
            Ok(ended) => panic!("ended early: {ended:?}"),
            Err(_) if progress.borrow().bytes_moved == last => return,
            Err(_) => last = progress.borrow().bytes_moved,
        }
    }
}

#[tokio::test]
async fn without_an_index_the_journal_finds_what_lasted() {
    let (old, new) = (old_release(), different().keep_ways(|way| way.blob().is_none()));
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let _staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    // One frame is lost after all.
    machine.tamper(Place::TargetRoot, |root| root[5 * FRAME + 1] ^= 1);
    let before = server.content();
    let _staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    assert_installed(&machine, &new);
    assert_eq!(server.content() - before, u64::from(new.offer.root.frames[5].bytes));
}

#[tokio::test]
async fn a_forged_journal_costs_bytes_and_nothing_else() {
    let (old, new) = (old_release(), different().keep_ways(|way| way.blob().is_none()));
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    // Claims that are true of wrong bytes: the old release in the target slot, staged as if it
    // were the new one.
    let other = Machine::running(&old);
    let decoy = old.clone().keep_ways(|way| way.blob().is_none());
    let decoys = Server::start(&decoy.blobs, &[], Manner::Honest).await;
    let _staged = stage(&other, &decoy, decoys.mirrors()).await.unwrap();
    let journal = String::from_utf8(other.load(DOCUMENT).unwrap().unwrap()).unwrap();
    let root_hash = |release: &Published| release.offer.release.root.root_hash.to_string();
    let forged = journal.replace(&root_hash(&decoy), &root_hash(&new));
    assert_ne!(forged, journal);
    for text in [forged.as_str(), "", "{}", "[[[[", "{\"schema\":1}"] {
        other.save(DOCUMENT, text.as_bytes()).unwrap();
        let _staged = stage(&other, &new, server.mirrors()).await.unwrap();
        assert_installed(&other, &new);
        other.tamper(Place::TargetRoot, |root| {
            root[..decoy.root.len()].copy_from_slice(&decoy.root)
        });
    }
}

#[tokio::test]
async fn a_journal_of_another_release_is_not_believed() {
    let (old, new) = (old_release(), different());
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let _staged = stage(&machine, &new, server.mirrors()).await.unwrap();
    let next = publish(noise(3, 2 << 20), 3, b"salt").keep_ways(|way| way.blob().is_none());
    let server = Server::start(&next.blobs, &[], Manner::Honest).await;
    let staged = stage(&machine, &next, server.mirrors()).await.unwrap();
    assert_installed(&machine, &next);
    assert_eq!(staged.bytes_moved, next.full_bytes());
}

#[tokio::test]
async fn a_staging_waits_for_the_last_write_of_one_that_was_dropped() {
    let (old, new) = (old_release(), different());
    let machine = Machine::running(&old);
    let server = Server::start(&new.blobs, &[], Manner::Honest).await;
    let stager = Stager::new(machine.effects(), limits());
    let (progress, mut seen) = watch::channel(Progress::default());
    let job = || Job {
        offer: &new.offer,
        booted: Some(uki_name()),
        disarmed: machine.disarm(),
        client: client(),
        mirrors: server.mirrors(),
        progress: &progress,
    };
    let held = machine.hold_writes().await;
    {
        // Enough has arrived that workers hold frames and wait to write them.
        let first = stager.stage(job());
        tokio::select! {
            ended = first => panic!("ended early: {ended:?}"),
            arrived = seen.wait_for(|progress| progress.bytes_moved > 4 * FRAME as u64) => {
                arrived.unwrap();
            }
        }
    }
    let requests = server.requests();
    let mut second = std::pin::pin!(stager.stage(job()));
    let waiting = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
    assert!(waiting.is_err() && server.requests() == requests, "it did not wait");
    drop(held);
    let _staged = second.await.unwrap();
    assert_installed(&machine, &new);
}
