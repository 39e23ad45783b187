//! What a hostile server, or the holder of one stolen key, cannot do.

use super::*;

async fn served(maker: &Maker) -> (Server, Node) {
    let server = Server::start(maker.files()).await;
    let node = Node::new(&[&server], maker.initial_root());
    (server, node)
}

#[tokio::test]
async fn a_good_channel_is_believed_again_and_again() {
    let maker = channel("1.1.0");
    let (server, node) = served(&maker).await;
    for _ in 0..2 {
        let found = node.look().await.unwrap();
        assert_eq!(found.group.unwrap().metadata.name.as_str(), "workers");
        assert_eq!(found.channel.unwrap().release.to_string(), "1.1.0");
        assert_eq!(found.offer.unwrap().release.version.to_string(), "1.1.0");
        assert_eq!(found.expires, at("2027-06-01T00:00:00Z"));
        assert!(!found.is_memory_damaged);
    }
    let mut next = maker.next();
    point(&mut next, "1.2.0");
    server.serve(next.files());
    assert_eq!(node.version().await, "1.2.0");
}

#[tokio::test]
async fn freeze_an_expired_document_of_any_role_is_refused() {
    for role in ["timestamp", "snapshot", "targets", RELEASES_ROLE, GROUPS_ROLE] {
        let mut maker = channel("1.1.0");
        maker.expires.insert(role, "2026-11-27T11:59:59Z".to_owned());
        let (_server, node) = served(&maker).await;
        match node.error().await {
            ChannelError::Expired { role: found, since, .. } => {
                assert_eq!((found.as_str(), since), (role, at("2026-11-27T11:59:59Z")));
            }
            error => panic!("{role}: {error}"),
        }
    }
}

#[tokio::test]
async fn freeze_an_expired_root_is_refused_until_its_successor_is_there() {
    let mut maker = channel("1.1.0");
    maker.roots.clear();
    maker.expires.insert("root", "2026-11-01T00:00:00Z".to_owned());
    maker.add_root(&[1, 2]);
    let (server, node) = served(&maker).await;
    let error = node.error().await;
    assert!(matches!(&error, ChannelError::Expired { role, .. } if role == "root"), "{error}");
    maker.expires.insert("root", "2027-11-01T00:00:00Z".to_owned());
    maker.add_root(&[1, 2]);
    server.serve(maker.files());
    assert_eq!(node.version().await, "1.1.0");
}

#[tokio::test]
async fn rollback_an_old_channel_is_refused_after_a_newer_one_was_seen() {
    let old = channel("1.1.0");
    let (server, node) = served(&old).await;
    assert_eq!(node.version().await, "1.1.0");
    let mut new = old.next();
    point(&mut new, "1.2.0");
    server.serve(new.files());
    assert_eq!(node.version().await, "1.2.0");
    server.serve(old.files());
    let error = node.error().await;
    assert!(matches!(error, ChannelError::RolledBack { .. }), "{error}");
    assert!(error.sentence().contains("rollback"), "{}", error.sentence());
    server.serve(new.files());
    assert_eq!(node.version().await, "1.2.0");
}

#[tokio::test]
async fn rollback_a_newer_timestamp_over_an_older_snapshot_is_refused() {
    let old = channel("1.1.0");
    let new = old.next();
    let (server, node) = served(&new).await;
    node.look().await.unwrap();
    for role in ["snapshot", "targets", RELEASES_ROLE, GROUPS_ROLE] {
        let mut hostile = new.next();
        hostile.versions.insert(role, 1);
        server.serve(hostile.files());
        let error = node.error().await;
        assert!(matches!(error, ChannelError::RolledBack { .. }), "{role}: {error}");
    }
}

#[tokio::test]
async fn mix_and_match_of_two_versions_is_refused() {
    let old = channel("1.1.0");
    let mut new = old.next();
    point(&mut new, "1.2.0");
    for role in ["snapshot", "targets", RELEASES_ROLE, GROUPS_ROLE] {
        let mut files = new.files();
        let old_bytes = old.files()[&format!("metadata/1.{role}.json")].clone();
        files.insert(format!("metadata/2.{role}.json"), old_bytes);
        let server = Server::start(files).await;
        let node = Node::new(&[&server], new.initial_root());
        let error = node.error().await;
        assert!(matches!(error, ChannelError::Signature { .. }), "{role}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_for_every_role() {
    for role in repository::ROLES {
        let mut maker = channel("1.1.0");
        maker.forged.insert(role, 99);
        let (_server, node) = served(&maker).await;
        let error = node.error().await;
        assert!(matches!(error, ChannelError::Signature { .. }), "{role}: {error}");
    }
}

#[tokio::test]
async fn a_root_below_its_threshold_is_refused() {
    let mut maker = channel("1.1.0");
    maker.roots.clear();
    maker.add_root(&[1]);
    let (_server, node) = served(&maker).await;
    assert!(matches!(node.error().await, ChannelError::InitialRoot(_)));
    // The same key twice is one signature.
    for signers in [&[1][..], &[1, 1], &[9, 9], &[1, 9]] {
        let mut maker = channel("1.1.0");
        maker.add_root(signers);
        let (_server, node) = served(&maker).await;
        let error = node.error().await;
        assert!(matches!(error, ChannelError::Signature { .. }), "{signers:?}: {error}");
    }
}

#[tokio::test]
async fn a_new_root_must_be_signed_by_the_old_and_the_new_threshold() {
    for signers in [&[1, 2][..], &[4, 5], &[1, 4], &[1, 2, 4]] {
        let mut maker = channel("1.1.0");
        maker.root_keys = vec![4, 5, 6];
        maker.add_root(signers);
        let (_server, node) = served(&maker).await;
        let error = node.error().await;
        assert!(matches!(error, ChannelError::Signature { .. }), "{signers:?}: {error}");
    }
}

/// Changes root, timestamp and snapshot keys in three steps.
fn rotated(maker: &Maker) -> Maker {
    let mut maker = maker.clone();
    for (step, keys) in [[1, 2, 4], [1, 5, 4], [6, 5, 4]].into_iter().enumerate() {
        let mut signers = maker.root_keys.clone();
        signers.extend(keys);
        signers.sort_unstable();
        signers.dedup();
        maker.root_keys = keys.to_vec();
        let seed = 20 + 2 * step as u8;
        maker.keys.extend([("timestamp", seed), ("snapshot", seed + 1)]);
        maker.add_root(&signers);
    }
    maker
}

#[tokio::test]
async fn a_root_is_followed_over_several_rotations() {
    let maker = rotated(&channel("1.1.0"));
    assert_eq!(maker.roots.len(), 4);
    let (server, node) = served(&maker).await;
    assert_eq!(node.version().await, "1.1.0");
    // From then on it starts at the newest root: the older ones are not asked for again.
    server.asked.lock().unwrap().clear();
    node.look().await.unwrap();
    let asked = server.asked.lock().unwrap().clone();
    assert!(!asked.contains(&"metadata/2.root.json".to_owned()), "{asked:?}");
    assert!(asked.contains(&"metadata/5.root.json".to_owned()), "{asked:?}");
}

#[tokio::test]
async fn rotation_does_not_end_the_protection_from_old_documents() {
    let maker = rotated(&channel("1.1.0"));
    let (server, node) = served(&maker).await;
    node.look().await.unwrap();
    server.serve(maker.next().files());
    node.look().await.unwrap();
    server.serve(maker.files());
    let error = node.error().await;
    assert!(matches!(error, ChannelError::RolledBack { .. }), "{error}");
}

#[tokio::test]
async fn rotated_keys_are_refused_when_the_new_root_is_kept_back() {
    let old = channel("1.1.0");
    let (server, node) = served(&old).await;
    node.look().await.unwrap();
    // The new root is seen once, on a line that is cut right behind it.
    let mut new = rotated(&old).files();
    new.remove("metadata/timestamp.json");
    server.serve(new);
    assert!(node.look().await.is_err());
    // The thief of the old keys signs a newer version, and keeps the new roots back.
    let mut hostile = old.next();
    point(&mut hostile, "6.6.6");
    server.serve(hostile.files());
    let error = node.error().await;
    assert!(matches!(error, ChannelError::Signature { .. }), "{error}");
}

#[tokio::test]
async fn versions_that_a_thief_drove_up_are_forgotten_with_the_keys() {
    let mut hostile = channel("1.1.0");
    hostile.versions.extend([("timestamp", u64::MAX >> 1), ("snapshot", u64::MAX >> 1)]);
    let (server, node) = served(&hostile).await;
    node.look().await.unwrap();
    let recovered = rotated(&channel("1.2.0"));
    server.serve(recovered.files());
    assert_eq!(node.version().await, "1.2.0");
}

#[tokio::test]
async fn a_role_cannot_sign_for_another() {
    let offer = offer_of("6.6.6").to_json().unwrap();
    let channel_document = r#"{"schema": 1, "channel": "beta", "release": "6.6.6",
        "since": "2026-11-20T00:00:00Z"}"#;
    let cases = [
        (GROUPS_ROLE, "releases/6.6.6/x86_64/offer.json", offer.as_str()),
        (GROUPS_ROLE, "channels/beta.json", channel_document),
        (RELEASES_ROLE, "channels/beta.json", channel_document),
        (RELEASES_ROLE, "groups/others.json", "{}"),
    ];
    for (role, target, content) in cases {
        let mut maker = channel("1.1.0");
        maker.add(role, target, content);
        let (_server, node) = served(&maker).await;
        let error = node.error().await;
        assert!(matches!(error, ChannelError::Signature { .. }), "{role} signed {target}: {error}");
    }
}

#[tokio::test]
async fn one_flipped_bit_of_a_signed_document_is_noticed() {
    let maker = channel("1.1.0");
    let (server, node) = served(&maker).await;
    for name in maker.files().keys().filter(|name| name.starts_with("targets/")) {
        let mut files = maker.files();
        files.get_mut(name).unwrap()[5] ^= 1;
        server.serve(files);
        let error = node.error().await;
        assert!(matches!(error, ChannelError::Signature { .. }), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_clock_of_1970_holds_and_goes_on_once_it_is_set() {
    let maker = channel("1.1.0");
    let (server, mut node) = served(&maker).await;
    let right = node.reading;
    let start = at("1970-01-01T00:02:00Z");
    node.reading = ClockReading { now: start, is_synchronized: false, rtc: Some(start) };
    let error = node.error().await;
    assert!(error.is_clock() && error.sentence().contains("time server"), "{}", error.sentence());
    // systemd moves it to its own build time, which is no better.
    node.reading.now = at("2026-11-05T00:00:00Z");
    assert!(node.error().await.is_clock());
    assert!(server.asked.lock().unwrap().is_empty(), "nothing is read that cannot be judged");
    node.reading = right;
    assert_eq!(node.version().await, "1.1.0");
}

#[tokio::test]
async fn a_clock_that_was_far_ahead_is_no_dead_end() {
    let (_server, mut node) = served(&channel("1.1.0")).await;
    let right = node.reading;
    // Far ahead: everything looks expired, and the time is not kept.
    let ahead = at("2031-01-01T00:00:00Z");
    node.reading = ClockReading { now: ahead, is_synchronized: false, rtc: Some(ahead) };
    assert!(matches!(node.error().await, ChannelError::Expired { .. }));
    // Somewhat ahead: it is kept, and a time server puts it right.
    let ahead = at("2027-01-01T00:00:00Z");
    node.reading = ClockReading { now: ahead, is_synchronized: false, rtc: Some(ahead) };
    assert_eq!(node.version().await, "1.1.0");
    node.reading = ClockReading { is_synchronized: false, rtc: Some(right.now), ..right };
    assert!(node.error().await.is_clock());
    node.reading = right;
    assert_eq!(node.version().await, "1.1.0");
}
