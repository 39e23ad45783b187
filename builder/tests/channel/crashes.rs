//! A writer that dies before any of its writes: readers have the old state or the new one, and
//! the next run goes on.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use builder::channel::{self, ChannelError, Folder, Lifetimes, PruneRequest, RotateRequest};
use builder::progress::Progress;
use builder::signing::keys::ChannelKey;

use crate::fixture::{Bench, Node, copy_folder, keys, now, other_keys, setting};

/// Runs `command` on copies of a channel, stopping before each of its writes in turn, until it
/// gets through. After each stop: what readers see, and that another run completes it.
async fn crash_everywhere<F>(bench: &Bench, old: &str, new: &str, command: impl Fn(Folder) -> F)
where
    F: Future<Output = Result<(), ChannelError>>,
{
    let mut writes = 0;
    loop {
        let copy = bench.path().join("crashing");
        copy_folder(&bench.channel(), &copy);
        let folder = channel::open(&copy).unwrap();
        folder.stop_after(writes);
        let result = command(folder).await;
        let node = Node::new(bench.root());
        let seen = node.stable(&copy).await.unwrap();
        channel::verify(&copy, None).await.unwrap();
        match result {
            Ok(()) => {
                assert_eq!(seen, new);
                break;
            }
            Err(ChannelError::Stopped) => assert!(seen == old || seen == new, "{seen}"),
            Err(error) => panic!("after {writes} writes: {error}"),
        }
        command(channel::open(&copy).unwrap()).await.unwrap();
        // The same node, which saw what the crash left.
        assert_eq!(node.stable(&copy).await.unwrap(), new);
        channel::verify(&copy, None).await.unwrap();
        no_leftovers(&copy);
        fs::remove_dir_all(&copy).unwrap();
        writes += 1;
    }
    assert!(writes >= 2, "only {writes} writes");
}

/// What was not whole is gone after the next run.
fn no_leftovers(channel: &Path) {
    let temporary = channel.join(".slipway-tmp");
    let left = fs::read_dir(&temporary).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(left, 0);
}

async fn bench() -> Bench {
    let bench = Bench::new().await;
    let releases = [bench.release("1.0.0", 1), bench.release("1.1.0", 2)];
    bench.publish(&releases).await.unwrap();
    bench.set("stable", "1.0.0").await.unwrap();
    bench
}

#[tokio::test]
async fn a_crash_while_a_channel_is_moved() {
    let bench = bench().await;
    crash_everywhere(&bench, "1.0.0", "1.1.0", |folder| async move {
        let setting = setting("stable", "1.1.0");
        channel::set_channel(&folder, &setting, keys(), Lifetimes::default(), now()).await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_crash_while_a_release_is_published() {
    let bench = bench().await;
    let release = bench.release("1.2.0", 3);
    let request = bench.request(&[release]);
    let (request, progress) = (&request, &Progress::hidden());
    crash_everywhere(&bench, "1.0.0", "1.0.0", |folder| async move {
        channel::publish(&folder, request, now(), progress).await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_crash_while_a_channel_is_refreshed() {
    let bench = bench().await;
    crash_everywhere(&bench, "1.0.0", "1.0.0", |folder| async move {
        channel::refresh(&folder, keys(), Lifetimes::default(), now()).await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_crash_while_a_channel_is_pruned() {
    let bench = bench().await;
    bench.publish(&[bench.release("0.9.0", 4)]).await.unwrap();
    crash_everywhere(&bench, "1.0.0", "1.0.0", |folder| async move {
        let lifetimes = Lifetimes::default();
        let request = PruneRequest { keep: 1, keys: keys().into(), lifetimes };
        channel::prune(&folder, &request, now()).await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_crash_while_every_key_is_rotated() {
    let bench = bench().await;
    crash_everywhere(&bench, "1.0.0", "1.0.0", |folder| async move {
        let request = RotateRequest {
            keys: keys().into(),
            new_keys: Some(other_keys().into()),
            roles: ChannelKey::ALL.into(),
            lifetimes: Lifetimes::default(),
        };
        channel::rotate(&folder, &request, now()).await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_crash_while_a_channel_is_made_leaves_no_channel_or_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut writes = 0;
    loop {
        let path = folder.path().join(writes.to_string());
        let make = async |writes: u32| {
            let folder = channel::create(&path).unwrap();
            folder.stop_after(writes);
            channel::init(&folder, keys(), Lifetimes::default(), now()).await
        };
        let result = make(writes).await;
        if result.is_ok() {
            break;
        }
        assert!(matches!(result, Err(ChannelError::Stopped)), "{result:?}");
        let error = channel::verify(&path, None).await.unwrap_err();
        assert!(matches!(error, ChannelError::NotAChannel(_)), "{error}");
        make(u32::MAX).await.unwrap();
        channel::verify(&path, None).await.unwrap();
        writes += 1;
    }
    assert!(writes > 5);
}

#[tokio::test]
async fn two_writers_exclude_each_other() {
    let bench = bench().await;
    let held = channel::open(&bench.channel()).unwrap();
    let again = channel::open(&bench.channel());
    assert!(matches!(again, Err(ChannelError::Locked(_))), "{again:?}");
    drop(held);
    bench.set("stable", "1.1.0").await.unwrap();
}
