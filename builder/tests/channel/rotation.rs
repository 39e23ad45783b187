//! Other keys: a node with the first root follows, and the old keys count no more.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use builder::channel::{self, ChannelError, Lifetimes, RotateRequest};
use builder::signing::keys::ChannelKey;

use crate::fixture::{Bench, Node, development_keys, keys, now, only, other_keys};

async fn rotate(
    bench: &Bench,
    old: &Path,
    new: Option<&Path>,
    roles: &[ChannelKey],
) -> Result<u64, ChannelError> {
    let request = RotateRequest {
        keys: old.into(),
        new_keys: new.map(Into::into),
        roles: roles.iter().copied().collect(),
        lifetimes: Lifetimes::default(),
    };
    channel::rotate(&bench.folder(), &request, now()).await
}

async fn set_with(bench: &Bench, keys: &Path, version: &str) -> Result<(), ChannelError> {
    let setting = crate::fixture::setting("stable", version);
    let lifetimes = Lifetimes::default();
    channel::set_channel(&bench.folder(), &setting, keys, lifetimes, now()).await.map(drop)
}

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.move_stable("1.0.0", 1).await;
    bench
}

#[tokio::test]
async fn a_node_with_the_first_root_follows_over_several_roots() {
    let bench = bench().await;
    let (node, first) = (Node::new(bench.root()), bench.root());
    node.load(&bench.channel()).await.unwrap();
    let (old, new) = (keys(), other_keys());
    rotate(&bench, old, Some(new), &[ChannelKey::Root1]).await.unwrap();
    rotate(&bench, old, None, &[]).await.unwrap();
    rotate(&bench, old, Some(new), &[ChannelKey::Timestamp, ChannelKey::Snapshot]).await.unwrap();
    node.load(&bench.channel()).await.unwrap();
    assert_eq!(first, bench.root());
    let version = channel::verify(&bench.channel(), None).await.unwrap().root_version;
    // One for the root key, one for the renewal, two for the others.
    assert_eq!(version, 5);
    assert_eq!(Node::new(first).stable(&bench.channel()).await.unwrap(), "1.0.0");
}

#[tokio::test]
async fn all_keys_at_once_and_the_old_ones_count_no_more() {
    let bench = bench().await;
    rotate(&bench, keys(), Some(other_keys()), &ChannelKey::ALL).await.unwrap();
    let node = Node::new(bench.root());
    assert_eq!(node.stable(&bench.channel()).await.unwrap(), "1.0.0");
    let error = set_with(&bench, keys(), "1.0.0").await.unwrap_err();
    assert!(matches!(error, ChannelError::WrongKey { .. }), "{error}");
    set_with(&bench, other_keys(), "1.0.0").await.unwrap();
    let error = rotate(&bench, keys(), None, &[]).await.unwrap_err();
    assert!(matches!(error, ChannelError::WouldBeRefused(_)), "{error}");
    rotate(&bench, other_keys(), None, &[]).await.unwrap();
    assert_eq!(node.stable(&bench.channel()).await.unwrap(), "1.0.0");
}

#[tokio::test]
async fn a_lost_key_is_replaced_without_it() {
    for key in [ChannelKey::Timestamp, ChannelKey::Snapshot, ChannelKey::Targets] {
        let bench = bench().await;
        let node = Node::new(bench.root());
        node.load(&bench.channel()).await.unwrap();
        let names: Vec<String> = ChannelKey::ALL
            .iter()
            .filter(|known| **known != key)
            .flat_map(|key| ["key", "pub"].map(|end| format!("{}.{end}", key.stem())))
            .collect();
        let left = only(keys(), &names.iter().map(String::as_str).collect::<Vec<_>>());
        rotate(&bench, left.path(), Some(other_keys()), &[key]).await.unwrap();
        assert_eq!(node.stable(&bench.channel()).await.unwrap(), "1.0.0", "{key:?}");
    }
}

#[tokio::test]
async fn a_lost_root_key_is_replaced_by_the_two_others() {
    let bench = bench().await;
    let all = ["root-1.pub", "root-2.pub", "root-3.pub", "root-2.key", "root-3.key"];
    let left = only(keys(), &all);
    rotate(&bench, left.path(), Some(other_keys()), &[ChannelKey::Root1]).await.unwrap();
    let node = Node::new(bench.root());
    assert_eq!(node.stable(&bench.channel()).await.unwrap(), "1.0.0");
    let one = only(keys(), &[&all[..3], &["root-2.key"]].concat());
    let error = rotate(&bench, one.path(), None, &[]).await.unwrap_err().to_string();
    assert!(error.contains("root-3.key"), "{error}");
}

#[tokio::test]
async fn ci_and_operators_get_other_keys_without_a_new_root() {
    let bench = bench().await;
    let version =
        rotate(&bench, keys(), Some(other_keys()), &[ChannelKey::Releases, ChannelKey::Groups])
            .await
            .unwrap();
    assert_eq!(version, 1);
    let error = bench.publish(&[bench.release("1.1.0", 2)]).await.unwrap_err();
    assert!(matches!(error, ChannelError::WrongKey { name: "release", .. }), "{error}");
    let error = bench.group("workers", "channel: stable").await.unwrap_err();
    assert!(matches!(error, ChannelError::WrongKey { name: "groups", .. }), "{error}");
    let node = Node::new(bench.root());
    assert_eq!(node.stable(&bench.channel()).await.unwrap(), "1.0.0");
}

#[tokio::test]
async fn a_wrong_key_is_told_with_its_folder_before_anything_is_written() {
    let bench = bench().await;
    let mixed = tempfile::tempdir().unwrap();
    crate::fixture::copy_folder(keys(), mixed.path());
    for end in ["key", "pub"] {
        let name = format!("snapshot.{end}");
        std::fs::copy(other_keys().join(&name), mixed.path().join(&name)).unwrap();
    }
    let error = rotate(&bench, mixed.path(), Some(other_keys()), &[ChannelKey::Targets]).await;
    match error.unwrap_err() {
        ChannelError::WrongKey { folder, name: "snapshot" } => assert_eq!(folder, mixed.path()),
        other => panic!("{other}"),
    }
    assert_eq!(channel::verify(&bench.channel(), None).await.unwrap().root_version, 1);
}

#[tokio::test]
async fn throw_away_keys_do_not_get_into_a_real_channel() {
    let bench = bench().await;
    let error = rotate(&bench, keys(), Some(development_keys()), &[ChannelKey::Targets]).await;
    assert!(matches!(error, Err(ChannelError::MixedKeys)), "{error:?}");
}

#[tokio::test]
async fn no_key_is_replaced_by_itself() {
    let bench = bench().await;
    for key in [ChannelKey::Root1, ChannelKey::Targets, ChannelKey::Groups] {
        let error = rotate(&bench, keys(), Some(keys()), &[key]).await.unwrap_err();
        assert!(matches!(error, ChannelError::SameKey { name } if name == key.stem()), "{error}");
    }
    assert_eq!(channel::verify(&bench.channel(), None).await.unwrap().root_version, 1);
}

#[tokio::test]
async fn what_has_expired_is_renewed_by_each_key_holder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench().await;
    let long_ago = now() - jiff::SignedDuration::from_hours(24 * 200);
    // A channel whose every role but the root expired twenty days ago.
    let path = folder.path().join("old");
    crate::fixture::copy_folder(&bench.channel(), &path);
    crate::fixture::expire_all(&path, long_ago).await;
    let node = Node::new(bench.root());
    assert!(node.refuses(&path).await.contains("ExpiredMetadata"));
    let told = channel::verify(&path, None).await.unwrap_err().to_string();
    assert!(told.contains("the timestamp expired at"), "{told}");
    assert!(told.contains("`slipway channel refresh`") && !told.contains("backup"), "{told}");
    for stem in ["targets", "groups", "release"] {
        let names: Vec<String> = [stem, "snapshot", "timestamp"]
            .iter()
            .flat_map(|stem| ["key", "pub"].map(|end| format!("{stem}.{end}")))
            .collect();
        let own = only(keys(), &names.iter().map(String::as_str).collect::<Vec<_>>());
        let opened = channel::open(&path).unwrap();
        channel::refresh(&opened, own.path(), Lifetimes::default(), now()).await.unwrap();
        if stem != "release" {
            let told = channel::verify(&path, None).await.unwrap_err().to_string();
            assert!(told.contains("refresh` with the key of "), "{told}");
        }
    }
    assert_eq!(node.stable(&path).await.unwrap(), "1.0.0");
}
