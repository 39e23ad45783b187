//! What is published decodes to what was built, and what a node would refuse is not published.

#![allow(clippy::unwrap_used)]

use std::fs;

use builder::channel::payload::{self, Encoding, KnownFrames};
use builder::channel::release_folder::ReleaseFolderError;
use builder::channel::{self, ChannelError, Lifetimes, State};
use builder::signing::keys::KeyFolder;
use contract::channel::targets;
use contract::release::offer::{FRAME_BYTES, LEAF_BYTES, Payload, Way};
use contract::release::verity::BlockHasher;
use contract::{Architecture, Digest, Offer, ReleaseDocument, Slot};
use proptest::prelude::*;
use tough::ExpirationEnforcement;

use crate::fixture::{
    Bench, Node, development_keys, keys, now, only, other_keys, root_content, sign_document,
};

async fn offer(bench: &Bench, version: &str) -> Offer {
    let node = Node::new(bench.root());
    let repository = node.load(&bench.channel()).await.unwrap();
    let name = targets::offer(&version.parse().unwrap(), Architecture::X86_64);
    let bytes = channel::client::read(&repository, &name).await.unwrap().unwrap();
    Offer::from_json(&bytes).unwrap()
}

/// The payload as the full way gives it.
fn assemble(bench: &Bench, payload: &Payload) -> Vec<u8> {
    let path = bench.channel().join(targets::blob(&payload.container.sha256));
    let container = fs::read(path).unwrap();
    let mut whole = Vec::new();
    for (index, frame) in payload.frames.iter().enumerate() {
        let start = payload.frame_start(index) as usize;
        let compressed = &container[start..start + frame.bytes as usize];
        assert_eq!(Digest::of(compressed), frame.sha256);
        whole.extend(zstd::decode_all(compressed).unwrap());
    }
    whole
}

#[tokio::test]
async fn a_published_release_decodes_to_the_files_that_were_built() {
    let bench = Bench::new().await;
    let folder = bench.release("1.0.0", 1);
    bench.publish(std::slice::from_ref(&folder)).await.unwrap();
    let offer = offer(&bench, "1.0.0").await;
    assert!(assemble(&bench, &offer.root) == fs::read(folder.join("root.erofs")).unwrap());
    for slot in Slot::ALL {
        let file = fs::read(folder.join(format!("slipway-{slot}.efi"))).unwrap();
        assert!(assemble(&bench, &offer.ukis[&slot]) == file);
    }
    let hasher = BlockHasher::new(&offer.release.root.salt);
    for payload in offer.ukis.values().chain([&offer.root]) {
        let Some(Way::Blocks { leaves }) = payload.ways.get(1) else { panic!("{payload:?}") };
        let index = fs::read(bench.channel().join(targets::blob(&leaves.sha256))).unwrap();
        let content = assemble(&bench, payload);
        let expected: Vec<u8> = content
            .chunks(4096)
            .flat_map(|block| hasher.hash(block)[..LEAF_BYTES as usize].to_vec())
            .collect();
        assert!(index == expected);
    }
}

#[tokio::test]
async fn unchanged_frames_are_copied_and_a_second_run_changes_nothing() {
    let bench = Bench::new().await;
    let (one, two) = (bench.release("1.0.0", 1), bench.release("1.1.0", 2));
    let first = bench.publish(std::slice::from_ref(&one)).await.unwrap();
    // The second UKI differs from the first in its header, command line and signature only.
    assert!(first[0].copied >= 2, "{} of {}", first[0].copied, first[0].frames);
    let second = bench.publish(std::slice::from_ref(&two)).await.unwrap();
    // Two whole frames of the root are the same, and two of each UKI.
    assert!(second[0].copied >= 6, "{} of {}", second[0].copied, second[0].frames);
    let before = fs::read(bench.channel().join("metadata/timestamp.json")).unwrap();
    let again = bench.publish(&[one, two]).await.unwrap();
    assert!(again.iter().all(|release| release.unchanged));
    assert_eq!(fs::read(bench.channel().join("metadata/timestamp.json")).unwrap(), before);
}

#[tokio::test]
async fn a_lost_blob_is_made_again() {
    let bench = Bench::new().await;
    let folder = bench.release("1.0.0", 1);
    bench.publish(std::slice::from_ref(&folder)).await.unwrap();
    let blob = targets::blob(&offer(&bench, "1.0.0").await.root.container.sha256);
    fs::write(bench.channel().join(&blob), "damaged").unwrap();
    let error = channel::verify(&bench.channel(), None).await.unwrap_err();
    assert!(matches!(error, ChannelError::Blob { .. }), "{error}");
    let again = bench.publish(&[folder]).await.unwrap();
    assert!(again[0].unchanged && again[0].frames > 0, "{again:?}");
    channel::verify(&bench.channel(), None).await.unwrap();
}

#[tokio::test]
async fn the_same_input_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let time = now();
    let mut files = Vec::new();
    for name in ["one", "two"] {
        let path = folder.path().join(name);
        channel::init(&channel::create(&path).unwrap(), keys(), Lifetimes::default(), time)
            .await
            .unwrap();
        let all = ["root.json", "metadata/1.targets.json", "metadata/timestamp.json"];
        files.push(all.map(|name| fs::read(path.join(name)).unwrap()));
    }
    assert_eq!(files[0], files[1]);
}

#[tokio::test]
async fn a_published_version_never_changes() {
    let bench = Bench::new().await;
    let (one, other) = (bench.release("1.0.0", 1), bench.release("1.0.0", 2));
    bench.publish(&[one]).await.unwrap();
    let error = bench.publish(&[other]).await.unwrap_err();
    assert!(matches!(error, ChannelError::Republished { .. }), "{error}");
    assert!(error.to_string().contains("--version"), "{error}");
}

#[tokio::test]
async fn two_releases_of_one_version_cannot_be_published_at_once() {
    let bench = Bench::new().await;
    let (one, other) = (bench.release("1.0.0", 1), bench.release("1.0.0", 2));
    let error = bench.publish(&[one.clone(), other]).await.unwrap_err();
    assert!(matches!(error, ChannelError::Republished { .. }), "{error}");
    assert_eq!(bench.publish(&[one.clone(), one]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_release_that_was_changed_after_its_signature_is_refused() {
    let bench = Bench::new().await;
    for name in ["root.erofs", "slipway-a.efi", "slipway-b.efi", "release.json"] {
        let folder = bench.release("1.0.0", 1);
        let mut bytes = fs::read(folder.join(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(folder.join(name), bytes).unwrap();
        let error = bench.publish(&[folder]).await.unwrap_err();
        assert!(matches!(error, ChannelError::Release(_)), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_root_hash_of_another_root_is_refused_though_all_is_signed() {
    let bench = Bench::new().await;
    let (folder, other) = (bench.release("1.0.0", 1), bench.release("1.0.1", 2));
    let signer = KeyFolder::open(keys()).unwrap();
    let read = |folder: &std::path::Path| {
        ReleaseDocument::from_json(&fs::read(folder.join("release.json")).unwrap()).unwrap()
    };
    // UKIs and root hash of the other release, and this root.
    let mut hostile = read(&other);
    hostile.files[0] = read(&folder).files[0].clone();
    fs::copy(folder.join("root.erofs"), other.join("root.erofs")).unwrap();
    sign_document(&other, &hostile, &signer);
    let error = bench.publish(&[other]).await.unwrap_err();
    assert!(matches!(error, ChannelError::RootHash { .. }), "{error}");
}

#[tokio::test]
async fn swapped_ukis_are_refused_though_all_is_signed() {
    let bench = Bench::new().await;
    let folder = bench.release("1.0.0", 1);
    let text = fs::read(folder.join("release.json")).unwrap();
    let mut document = ReleaseDocument::from_json(&text).unwrap();
    let (a, b) = (document.files[1].clone(), document.files[2].clone());
    (document.files[1].sha256, document.files[1].bytes) = (b.sha256, b.bytes);
    (document.files[2].sha256, document.files[2].bytes) = (a.sha256, a.bytes);
    fs::rename(folder.join("slipway-a.efi"), folder.join("c")).unwrap();
    fs::rename(folder.join("slipway-b.efi"), folder.join("slipway-a.efi")).unwrap();
    fs::rename(folder.join("c"), folder.join("slipway-b.efi")).unwrap();
    sign_document(&folder, &document, &KeyFolder::open(keys()).unwrap());
    let error = bench.publish(&[folder]).await.unwrap_err();
    assert!(error.to_string().contains("does not boot from slot a"), "{error}");
}

#[tokio::test]
async fn a_uki_that_another_db_signed_is_refused() {
    let bench = Bench::new().await;
    let mixed = only(other_keys(), &["db.pem"]);
    for name in ["release", "snapshot", "timestamp"] {
        for extension in ["key", "pub"] {
            let name = format!("{name}.{extension}");
            fs::copy(keys().join(&name), mixed.path().join(&name)).unwrap();
        }
    }
    let mut request = bench.request(&[bench.release("1.0.0", 1)]);
    request.keys = mixed.path().into();
    let progress = builder::progress::Progress::hidden();
    let error = channel::publish(&bench.folder(), &request, now(), &progress).await.unwrap_err();
    let wrong =
        ChannelError::Release(ReleaseFolderError::Uki { file: "x".into(), problem: String::new() });
    assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&wrong));
    assert!(error.to_string().contains("not signed by db.pem"), "{error}");
    // Without the certificate it cannot be known, and nothing is published either.
    fs::remove_file(mixed.path().join("db.pem")).unwrap();
    let error = channel::publish(&bench.folder(), &request, now(), &progress).await.unwrap_err();
    let missing = matches!(error, ChannelError::Release(ReleaseFolderError::NoCertificate(_)));
    assert!(missing && error.to_string().contains("--keys"), "{error}");
    let state = State::load(&bench.channel(), ExpirationEnforcement::Safe).await.unwrap();
    assert!(state.offers().unwrap().is_empty());
    // The right one next to the same keys is all that was missing.
    fs::copy(keys().join("db.pem"), mixed.path().join("db.pem")).unwrap();
    channel::publish(&bench.folder(), &request, now(), &progress).await.unwrap();
}

#[tokio::test]
async fn a_development_release_stays_out_of_a_real_channel() {
    let bench = Bench::new().await;
    let folder = bench.release("1.0.0", 1);
    let text = fs::read(folder.join("release.json")).unwrap();
    let mut document = ReleaseDocument::from_json(&text).unwrap();
    document.development = true;
    sign_document(&folder, &document, &KeyFolder::open(keys()).unwrap());
    let error = bench.publish(&[folder]).await.unwrap_err();
    assert!(matches!(error, ChannelError::Development(_)), "{error}");
    // Signed with the throw-away keys themselves, which other keys would not mend.
    let folder = bench.release("1.1.0", 2);
    document.version = "1.1.0".parse().unwrap();
    sign_document(&folder, &document, &KeyFolder::open(development_keys()).unwrap());
    let error = bench.publish(&[folder]).await.unwrap_err();
    assert!(matches!(error, ChannelError::Development(_)), "{error}");

    let bench = Bench::with_keys(development_keys()).await;
    bench.publish(&[bench.release("1.0.0", 1)]).await.unwrap();
    let node = Node::new(bench.root());
    let root = node.load(&bench.channel()).await.unwrap().root().signed.clone();
    assert_eq!(root._extra[targets::DEVELOPMENT_FIELD], true);
}

#[tokio::test]
async fn each_command_needs_only_its_keys_and_names_those_missing() {
    let bench = Bench::new().await;
    let ci = only(keys(), &["release.key", "release.pub", "snapshot.key", "snapshot.pub"]);
    let mut request = bench.request(&[bench.release("1.0.0", 1)]);
    request.keys = ci.path().into();
    let progress = builder::progress::Progress::hidden();
    let error = channel::publish(&bench.folder(), &request, now(), &progress)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("lacks timestamp.key:"), "{error}");
    for name in ["timestamp.key", "timestamp.pub"] {
        fs::copy(keys().join(name), ci.path().join(name)).unwrap();
    }
    let error = channel::publish(&bench.folder(), &request, now(), &progress).await.unwrap_err();
    assert!(error.to_string().contains("lacks db.pem"), "{error}");
    fs::copy(keys().join("db.pem"), ci.path().join("db.pem")).unwrap();
    channel::publish(&bench.folder(), &request, now(), &progress).await.unwrap();
    request.keys = other_keys().into();
    let error = channel::publish(&bench.folder(), &request, now(), &progress).await.unwrap_err();
    assert!(matches!(error, ChannelError::WrongKey { name: "release", .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_payload_survives_frames_and_reuse(
        length in 1_usize..(3 << 20),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut content = root_content(1);
        content.resize(length, 0x55);
        let salt = Digest::of(b"salt");
        let cancelled = std::sync::atomic::AtomicBool::new(false);
        let encoding = Encoding { level: 1, salt: &salt, cancelled: &cancelled };
        let mut known = KnownFrames::default();
        for round in 0..2 {
            let (file, blob) = (folder.path().join("file"), folder.path().join(round.to_string()));
            std::fs::write(&file, &content).unwrap();
            let mut out = std::fs::File::create(&blob).unwrap();
            let encoded = payload::encode(&file, &encoding, &known, &mut out, |_| {}).unwrap();
            prop_assert_eq!(encoded.frames.len(), length.div_ceil(FRAME_BYTES as usize));
            prop_assert_eq!(encoded.sha256, Digest::of(&content));
            prop_assert_eq!(encoded.container.bytes, blob.metadata().unwrap().len());
            let payload = Payload {
                bytes: encoded.bytes,
                sha256: encoded.sha256,
                container: encoded.container,
                frame_bytes: FRAME_BYTES,
                frames: encoded.frames.clone(),
                ways: Vec::new(),
            };
            let version = "1.0.0".parse().unwrap();
            let decoded = payload::decode(&blob, &payload, &salt, &version).unwrap();
            prop_assert_eq!(&decoded.contents, &encoded.contents);
            prop_assert_eq!(&decoded.hashes, &encoded.hashes);
            known.add(&blob, &encoded.frames, &encoded.contents);
            for (index, byte) in &changes {
                *index.get_mut(&mut content) = *byte;
            }
        }
    }
}
