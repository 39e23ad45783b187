//! Pruning removes what nothing points at, and nothing else.

#![allow(clippy::unwrap_used)]

use std::fs;

use builder::channel::{self, ChannelError, Lifetimes, PruneRequest, Pruned};

use crate::fixture::{Bench, Node, keys, now, only};

async fn prune(bench: &Bench, keep: usize) -> Result<Pruned, ChannelError> {
    let request = PruneRequest { keep, keys: keys().into(), lifetimes: Lifetimes::default() };
    channel::prune(&bench.folder(), &request, now()).await
}

async fn releases(bench: &Bench) -> Vec<String> {
    let verified = channel::verify(&bench.channel(), None).await.unwrap();
    verified.releases.into_iter().map(|(version, _)| version.to_string()).collect()
}

fn blobs(bench: &Bench) -> usize {
    fs::read_dir(bench.channel().join("blobs")).unwrap().count()
}

#[tokio::test]
async fn channels_pins_and_the_newest_stay() {
    let bench = Bench::new().await;
    let versions = ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0-rc.1"];
    let folders: Vec<_> =
        versions.iter().zip(1..).map(|(version, seed)| bench.release(version, seed)).collect();
    bench.publish(&folders).await.unwrap();
    bench.set("stable", "1.1.0").await.unwrap();
    bench.group("lab", "release: 1.0.0").await.unwrap();
    let (before, node) = (blobs(&bench), Node::new(bench.root()));
    node.load(&bench.channel()).await.unwrap();
    let pruned = prune(&bench, 1).await.unwrap();
    let gone: Vec<_> = pruned.releases.iter().map(|(version, _)| version.to_string()).collect();
    assert_eq!(gone, ["1.2.0", "1.3.0"]);
    let kept: Vec<_> = pruned.kept.iter().map(ToString::to_string).collect();
    assert_eq!(kept, ["1.0.0", "1.1.0", "1.4.0-rc.1"]);
    assert_eq!(releases(&bench).await, ["1.0.0", "1.1.0", "1.4.0-rc.1"]);
    assert!(blobs(&bench) < before);
    assert_eq!(node.stable(&bench.channel()).await.unwrap(), "1.1.0");
    assert!(pruned.bytes > 0);
}

#[tokio::test]
async fn a_reader_in_the_middle_finds_the_metadata_that_it_started_with() {
    let bench = Bench::new().await;
    bench.publish(&[bench.release("1.0.0", 1), bench.release("1.1.0", 2)]).await.unwrap();
    bench.set("stable", "1.1.0").await.unwrap();
    let timestamp = bench.channel().join("metadata/timestamp.json");
    let before = fs::read(&timestamp).unwrap();
    prune(&bench, 1).await.unwrap();
    fs::write(&timestamp, before).unwrap();
    assert_eq!(Node::new(bench.root()).stable(&bench.channel()).await.unwrap(), "1.1.0");
}

#[tokio::test]
async fn a_second_run_removes_old_metadata_and_needs_no_keys() {
    let bench = Bench::new().await;
    bench.move_stable("1.0.0", 1).await;
    bench.move_stable("1.1.0", 2).await;
    prune(&bench, 1).await.unwrap();
    let nothing = only(keys(), &[]);
    let request =
        PruneRequest { keep: 1, keys: nothing.path().into(), lifetimes: Lifetimes::default() };
    let pruned = channel::prune(&bench.folder(), &request, now()).await.unwrap();
    assert!(pruned.releases.is_empty() && !pruned.files.is_empty(), "{pruned:?}");
    let again = channel::prune(&bench.folder(), &request, now()).await.unwrap();
    assert!(again.releases.is_empty() && again.files.is_empty(), "{again:?}");
    let metadata = fs::read_dir(bench.channel().join("metadata")).unwrap().count();
    // Root, timestamp, snapshot, and the three roles that list documents.
    assert_eq!(metadata, 6);
    channel::verify(&bench.channel(), None).await.unwrap();
}

#[tokio::test]
async fn files_that_are_not_ours_stay() {
    let bench = Bench::new().await;
    bench.move_stable("1.0.0", 1).await;
    for name in ["blobs/README", "metadata/robots.txt", "targets/index.html"] {
        fs::write(bench.channel().join(name), "mine").unwrap();
    }
    prune(&bench, 1).await.unwrap();
    for name in ["blobs/README", "metadata/robots.txt", "targets/index.html"] {
        assert_eq!(fs::read_to_string(bench.channel().join(name)).unwrap(), "mine");
    }
}
