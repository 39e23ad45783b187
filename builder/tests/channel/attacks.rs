//! Channels that someone with some of the keys, or with the web server, has changed: a client
//! that remembers what it saw refuses each.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

use builder::channel::commit::{Signing, metadata_file, next, sign};
use builder::channel::roles::TargetsRole;
use builder::channel::{ChannelError, Lifetimes, RootKeys, State, metadata, root};
use builder::signing::keys::{ChannelKey, ChannelKeys};
use builder::signing::signer::ReleaseSigner;
use jiff::{SignedDuration, Timestamp};
use tough::ExpirationEnforcement;
use tough::schema::Targets;

use crate::fixture::{Bench, Node, copy_folder, keys, now, other_keys};

const FAR: SignedDuration = SignedDuration::from_hours(24 * 30);

fn open(folder: &Path) -> ChannelKeys {
    ChannelKeys::open(folder, &ChannelKey::ALL).unwrap()
}

fn in_a_month() -> Timestamp {
    now() + FAR
}

fn signing(keys: &ChannelKeys) -> Signing<'_> {
    let lifetimes = Lifetimes::default();
    Signing { keys, lifetimes, now: now(), expiry: ExpirationEnforcement::Unsafe }
}

async fn state(channel: &Path) -> State {
    State::load(channel, ExpirationEnforcement::Unsafe).await.unwrap()
}

/// Puts roles into a channel with a snapshot and timestamp over them, whatever they say.
async fn put(channel: &Path, roles: &[(TargetsRole, Targets)], forge: impl Fn(&mut Vec<u8>)) {
    let (state, keys) = (state(channel).await, open(keys()));
    let previous = Some((&state.snapshot.signed, &state.timestamp.signed));
    let mut signed = sign(roles, previous, &signing(&keys)).unwrap();
    for (role, content) in roles {
        let name = metadata_file(role.name(), content.version);
        if let Some(bytes) = signed.files.get_mut(&name) {
            forge(bytes);
        }
    }
    // The snapshot must name the forged file, or its digest alone would give it away.
    let mut meta = state.snapshot.signed.meta.clone();
    for (role, content) in roles {
        let bytes = &signed.files[&metadata_file(role.name(), content.version)];
        let file = metadata::metafile(content.version, bytes);
        meta.insert(format!("{}.json", role.name()), file);
    }
    let version = next(state.snapshot.signed.version).unwrap();
    let snapshot = metadata::snapshot(version, in_a_month(), meta);
    let snapshot =
        metadata::sign(&snapshot, &[keys.signer(ChannelKey::Snapshot).unwrap()]).unwrap();
    let timestamp_version = next(state.timestamp.signed.version).unwrap();
    let timestamp = metadata::timestamp(timestamp_version, in_a_month(), version, &snapshot);
    let signer = keys.signer(ChannelKey::Timestamp).unwrap();
    signed.timestamp = metadata::sign(&timestamp, &[signer]).unwrap();
    signed.files.insert(metadata_file("snapshot", version), snapshot);
    for (name, bytes) in signed.all() {
        fs::write(channel.join(name), bytes).unwrap();
    }
}

/// What a node says that sees the channel for the first time.
async fn refusal(bench: &Bench, channel: &Path) -> String {
    Node::new(bench.root()).refuses(channel).await
}

/// A role with one more document, and the next version.
fn with_document(role: &Targets, name: &str, bytes: &[u8]) -> Targets {
    let mut role = role.clone();
    role.version = next(role.version).unwrap();
    role.targets.insert(name.try_into().unwrap(), metadata::target(bytes));
    role
}

fn signed_by(role: &Targets, keys: &ChannelKeys, key: ChannelKey) -> Vec<u8> {
    metadata::sign(role, &[keys.signer(key).unwrap()]).unwrap()
}

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.move_stable("1.0.0", 1).await;
    bench.group("workers", "channel: stable").await.unwrap();
    bench
}

#[tokio::test]
async fn the_forging_itself_is_not_what_is_refused() {
    let bench = bench().await;
    let groups = with_document(&state(&bench.channel()).await.groups, "groups/x.json", b"{}");
    put(&bench.channel(), &[(TargetsRole::Groups, groups)], |_| {}).await;
    Node::new(bench.root()).load(&bench.channel()).await.unwrap();
}

#[tokio::test]
async fn ci_cannot_move_a_channel() {
    let bench = bench().await;
    let before = state(&bench.channel()).await;
    // As a document of its own role …
    let releases = with_document(&before.releases, "channels/beta.json", b"{}");
    let copy = bench.copy("own-role");
    put(&copy, &[(TargetsRole::Releases, releases)], |_| {}).await;
    assert!(refusal(&bench, &copy).await.contains("InvalidPath"));
    // … and in the role of the release managers, with its own key.
    let targets = with_document(&before.targets, "channels/stable.json", b"{}");
    let forged = signed_by(&targets, &open(keys()), ChannelKey::Releases);
    let copy = bench.copy("own-key");
    put(&copy, &[(TargetsRole::Targets, targets)], |bytes| *bytes = forged.clone()).await;
    assert!(refusal(&bench, &copy).await.contains("SignatureThreshold"));
}

#[tokio::test]
async fn ci_cannot_change_a_group() {
    let bench = bench().await;
    let before = state(&bench.channel()).await;
    let groups = with_document(&before.groups, "groups/workers.json", b"{}");
    let forged = signed_by(&groups, &open(keys()), ChannelKey::Releases);
    put(&bench.channel(), &[(TargetsRole::Groups, groups)], |bytes| *bytes = forged.clone()).await;
    assert!(refusal(&bench, &bench.channel()).await.contains("SignatureThreshold"));
}

#[tokio::test]
async fn an_operator_cannot_sign_an_offer() {
    let bench = bench().await;
    let before = state(&bench.channel()).await;
    let name = "releases/9.0.0/x86_64/offer.json";
    let groups = with_document(&before.groups, name, b"{}");
    let copy = bench.copy("own-role");
    put(&copy, &[(TargetsRole::Groups, groups)], |_| {}).await;
    assert!(refusal(&bench, &copy).await.contains("InvalidPath"));
    let releases = with_document(&before.releases, name, b"{}");
    let forged = signed_by(&releases, &open(keys()), ChannelKey::Groups);
    let copy = bench.copy("own-key");
    put(&copy, &[(TargetsRole::Releases, releases)], |bytes| *bytes = forged.clone()).await;
    assert!(refusal(&bench, &copy).await.contains("SignatureThreshold"));
}

#[tokio::test]
async fn an_offer_that_operators_list_too_stays_that_of_ci() {
    let bench = bench().await;
    let before = state(&bench.channel()).await;
    let name = "releases/1.0.0/x86_64/offer.json";
    let groups = with_document(&before.groups, name, b"hostile");
    put(&bench.channel(), &[(TargetsRole::Groups, groups)], |_| {}).await;
    let node = Node::new(bench.root());
    let repository = node.load(&bench.channel()).await.unwrap();
    let bytes = builder::channel::client::read(&repository, name).await.unwrap().unwrap();
    contract::Offer::from_json(&bytes).unwrap();
}

#[tokio::test]
async fn a_document_without_its_signature_is_refused() {
    let bench = bench().await;
    let targets = with_document(&state(&bench.channel()).await.targets, "channels/x.json", b"{}");
    let forged = metadata::sign(&targets, &[]).unwrap();
    put(&bench.channel(), &[(TargetsRole::Targets, targets)], |bytes| *bytes = forged.clone())
        .await;
    let node = Node::new(bench.root());
    assert!(node.refuses(&bench.channel()).await.contains("SignatureThreshold"));
}

fn write_timestamp(channel: &Path, timestamp: &tough::schema::Timestamp, keys: &ChannelKeys) {
    let bytes = metadata::sign(timestamp, &[keys.signer(ChannelKey::Timestamp).unwrap()]).unwrap();
    fs::write(channel.join("metadata/timestamp.json"), bytes).unwrap();
}

#[tokio::test]
async fn a_frozen_channel_is_noticed_when_its_timestamp_expires() {
    let bench = bench().await;
    let mut timestamp = state(&bench.channel()).await.timestamp.signed;
    timestamp.expires = now() - SignedDuration::from_hours(1);
    timestamp.version = next(timestamp.version).unwrap();
    write_timestamp(&bench.channel(), &timestamp, &open(keys()));
    let node = Node::new(bench.root());
    assert!(node.refuses(&bench.channel()).await.contains("ExpiredMetadata"));
}

#[tokio::test]
async fn a_timestamp_of_another_key_is_refused() {
    let bench = bench().await;
    let timestamp = state(&bench.channel()).await.timestamp.signed;
    write_timestamp(&bench.channel(), &timestamp, &open(other_keys()));
    let node = Node::new(bench.root());
    assert!(node.refuses(&bench.channel()).await.contains("SignatureThreshold"));
}

#[tokio::test]
async fn a_replayed_channel_is_refused_by_a_node_that_saw_a_newer_one() {
    let bench = bench().await;
    let old = bench.copy("old");
    bench.move_stable("1.1.0", 2).await;
    let node = Node::new(bench.root());
    assert_eq!(node.stable(&bench.channel()).await.unwrap(), "1.1.0");
    assert!(node.refuses(&old).await.contains("OlderMetadata"));
    // A node that saw nothing newer has no way to know.
    assert_eq!(Node::new(bench.root()).stable(&old).await.unwrap(), "1.0.0");
}

#[tokio::test]
async fn a_snapshot_that_goes_back_is_refused_under_a_new_timestamp() {
    let bench = bench().await;
    let old = state(&bench.channel()).await;
    let old_name = metadata_file("snapshot", old.snapshot.signed.version);
    let old_snapshot = fs::read(bench.channel().join(old_name)).unwrap();
    bench.move_stable("1.1.0", 2).await;
    let node = Node::new(bench.root());
    node.load(&bench.channel()).await.unwrap();
    let version = next(state(&bench.channel()).await.timestamp.signed.version).unwrap();
    let old_version = old.snapshot.signed.version;
    let timestamp = metadata::timestamp(version, in_a_month(), old_version, &old_snapshot);
    write_timestamp(&bench.channel(), &timestamp, &open(keys()));
    assert!(node.refuses(&bench.channel()).await.contains("OlderSnapshotInTimestamp"));
}

#[tokio::test]
async fn old_roles_under_a_new_snapshot_are_refused() {
    let bench = bench().await;
    let old = state(&bench.channel()).await;
    bench.move_stable("1.1.0", 2).await;
    let node = Node::new(bench.root());
    node.load(&bench.channel()).await.unwrap();
    let new = state(&bench.channel()).await;
    // The old targets beside the new offers, all with true signatures.
    let mut meta = new.snapshot.signed.meta.clone();
    meta.insert("targets.json".into(), old.snapshot.signed.meta["targets.json"].clone());
    let version = next(new.snapshot.signed.version).unwrap();
    let keys = open(keys());
    let snapshot = metadata::snapshot(version, in_a_month(), meta);
    let signer = keys.signer(ChannelKey::Snapshot).unwrap();
    let bytes = metadata::sign(&snapshot, &[signer]).unwrap();
    fs::write(bench.channel().join(metadata_file("snapshot", version)), &bytes).unwrap();
    let timestamp_version = next(new.timestamp.signed.version).unwrap();
    let timestamp = metadata::timestamp(timestamp_version, in_a_month(), version, &bytes);
    write_timestamp(&bench.channel(), &timestamp, &keys);
    let refusal = node.refuses(&bench.channel()).await;
    assert!(refusal.contains("SnapshotRoleRollback"), "{refusal}");
}

#[tokio::test]
async fn metadata_of_two_states_mixed_is_refused() {
    let bench = bench().await;
    let old = bench.copy("old");
    bench.move_stable("1.1.0", 2).await;
    let new = state(&bench.channel()).await;
    // The new timestamp and snapshot, and the old content under the new name.
    let name = metadata_file("targets", new.targets.version);
    let old_targets = metadata_file("targets", state(&old).await.targets.version);
    fs::copy(old.join(old_targets), bench.channel().join(name)).unwrap();
    let refusal = Node::new(bench.root()).refuses(&bench.channel()).await;
    assert!(refusal.contains("HashMismatch") || refusal.contains("MaxSizeExceeded"), "{refusal}");
}

#[tokio::test]
async fn a_changed_document_is_refused_when_it_is_read() {
    let bench = bench().await;
    let folder = bench.channel().join("targets");
    let mut names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let name = names.find(|name| name.to_string_lossy().ends_with(".channels")).unwrap();
    let file = folder.join(name).join("stable.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("1.0.0", "6.6.6")).unwrap();
    assert!(Node::new(bench.root()).stable(&bench.channel()).await.is_err());
}

/// A root with the keys of `folder` after that of the channel.
async fn write_root(channel: &Path, folder: &Path, signers: &[&dyn ReleaseSigner]) {
    let version = next(state(channel).await.root.signed.version).unwrap();
    let keys = RootKeys::of_folder(folder).unwrap();
    let content = root(version, in_a_month(), &keys, false).unwrap();
    let bytes = metadata::sign(&content, signers).unwrap();
    fs::write(channel.join(metadata_file("root", version)), bytes).unwrap();
}

#[tokio::test]
async fn a_root_below_its_threshold_is_refused() {
    let bench = bench().await;
    let keys_open = open(keys());
    let one = keys_open.signer(ChannelKey::Root1).unwrap();
    write_root(&bench.channel(), keys(), &[one]).await;
    let refusal = Node::new(bench.root()).refuses(&bench.channel()).await;
    assert!(refusal.contains("SignatureThreshold"), "{refusal}");
}

#[tokio::test]
async fn a_root_that_the_old_keys_did_not_sign_is_refused() {
    let bench = bench().await;
    let others = open(other_keys());
    let signers = ChannelKey::ROOTS.map(|key| others.signer(key).unwrap());
    write_root(&bench.channel(), other_keys(), &signers).await;
    let refusal = Node::new(bench.root()).refuses(&bench.channel()).await;
    assert!(refusal.contains("SignatureThreshold"), "{refusal}");
}

#[tokio::test]
async fn one_root_key_does_not_count_twice() {
    let bench = bench().await;
    let keys_open = open(keys());
    let one = keys_open.signer(ChannelKey::Root1).unwrap();
    write_root(&bench.channel(), keys(), &[one, one]).await;
    let refusal = Node::new(bench.root()).refuses(&bench.channel()).await;
    assert!(refusal.contains("DuplicateKeyId"), "{refusal}");
}

#[tokio::test]
async fn the_builder_does_not_sign_over_what_was_tampered_with() {
    let bench = bench().await;
    // Somebody with the web server adds an offer to the role, without its key.
    let before = state(&bench.channel()).await;
    let mut releases = before.releases.clone();
    let name = "releases/6.6.6/x86_64/offer.json".try_into().unwrap();
    releases.targets.insert(name, metadata::target(b"{}"));
    let forged = metadata::sign(&releases, &[]).unwrap();
    let file = bench.channel().join(metadata_file("releases", NonZeroU64::MIN.saturating_add(1)));
    assert!(file.exists());
    fs::write(file, forged).unwrap();
    let error = bench.set("stable", "1.0.0").await.unwrap_err();
    assert!(matches!(error, ChannelError::Refused { .. }), "{error}");
    let error = bench.publish(&[bench.release("1.1.0", 2)]).await.unwrap_err();
    assert!(matches!(error, ChannelError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn another_channel_of_the_same_kind_is_refused() {
    let (one, other) = (bench().await, Bench::with_keys(other_keys()).await);
    let refusal = Node::new(one.root()).refuses(&other.channel()).await;
    assert!(refusal.contains("SignatureThreshold"), "{refusal}");
    let mixed = one.path().join("mixed");
    copy_folder(&one.channel(), &mixed);
    fs::copy(
        other.channel().join("metadata/timestamp.json"),
        mixed.join("metadata/timestamp.json"),
    )
    .unwrap();
    assert!(Node::new(one.root()).refuses(&mixed).await.contains("SignatureThreshold"));
}
