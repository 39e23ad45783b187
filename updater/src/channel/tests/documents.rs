//! Documents that are signed by the right role and still not for this node.

use super::*;

async fn node_with(change: impl FnOnce(&mut Maker)) -> (Server, Node) {
    let mut maker = channel("1.1.0");
    change(&mut maker);
    let server = Server::start(maker.files()).await;
    let node = Node::new(&[&server], maker.initial_root());
    (server, node)
}

const OFFER: &str = "releases/1.1.0/x86_64/offer.json";

fn put_offer(maker: &mut Maker, change: impl FnOnce(&mut Offer)) {
    let mut offer = offer_of("1.1.0");
    change(&mut offer);
    maker.add(RELEASES_ROLE, OFFER, offer.to_json().unwrap());
}

#[tokio::test]
async fn a_group_without_a_document_follows_the_channel_of_the_settings() {
    let (_server, node) = node_with(|maker| drop(maker.targets.remove(GROUPS_ROLE))).await;
    let found = node.look().await.unwrap();
    assert!(found.group.is_none() && found.offer.is_some());
}

#[tokio::test]
async fn a_pinned_release_needs_no_channel_document() {
    let (_server, mut node) = node_with(|maker| {
        maker.targets.remove("targets");
    })
    .await;
    let error = node.error().await;
    assert!(matches!(error, ChannelError::NoDocument { .. }), "{error}");
    node.pin = "1.1.0".parse().ok();
    let found = node.look().await.unwrap();
    assert!(found.channel.is_none() && found.offer.is_some());
    node.pin = "9.9.9".parse().ok();
    assert!(node.look().await.unwrap().offer.is_none());
}

#[tokio::test]
async fn a_document_in_the_place_of_another_is_refused() {
    let (_server, node) = node_with(|maker| {
        let text = r#"{"schema": 1, "channel": "beta", "release": "1.1.0",
            "since": "2026-11-20T00:00:00Z"}"#;
        maker.add("targets", "channels/stable.json", text);
    })
    .await;
    assert!(matches!(node.error().await, ChannelError::Channel { .. }));
    let (_server, node) = node_with(|maker| {
        let text = r#"{"apiVersion": "slipway.dev/v1alpha1", "kind": "NodeGroup",
            "metadata": {"name": "others"}, "spec": {"channel": "stable"}}"#;
        maker.add(GROUPS_ROLE, "groups/workers.json", text);
    })
    .await;
    assert!(matches!(node.error().await, ChannelError::Group { .. }));
    let (_server, node) = node_with(|maker| {
        put_offer(maker, |offer| offer.release.version = "1.2.0".parse().unwrap());
    })
    .await;
    let found = node.look().await.unwrap();
    assert!(found.offer.is_none() && found.unmet[0].cause.contains("1.2.0"), "{:?}", found.unmet);
    let (_server, node) =
        node_with(|maker| put_offer(maker, |offer| offer.root.frames.clear())).await;
    let found = node.look().await.unwrap();
    assert!(found.offer.is_none() && found.unmet.len() == 1, "{:?}", found.unmet);
}

#[tokio::test]
async fn an_offer_that_cannot_be_used_keeps_no_block_from_counting() {
    let blocked = r#""requires": ["blocked"], "blocked": [{"release": "1.0.9", "reason": "x"}]"#;
    let (_server, node) = node_with(|maker| {
        say(maker, blocked, &[]);
        put_offer(maker, |offer| offer.root.frames.clear());
    })
    .await;
    let found = node.look().await.unwrap();
    assert_eq!(found.marks.blocked.len(), 1);
    assert!(found.offer.is_none() && found.channel.is_some());
}

#[tokio::test]
async fn a_pin_is_the_way_out_of_a_group_beyond_our_bounds_too() {
    let (_server, mut node) = node_with(|maker| {
        let group = r#"{"apiVersion": "slipway.dev/v1alpha1", "kind": "NodeGroup",
            "metadata": {"name": "workers"}, "spec": {"channel": "stable", "deadline": "900h"}}"#;
        maker.add(GROUPS_ROLE, "groups/workers.json", group);
    })
    .await;
    let found = node.look().await.unwrap();
    assert!(
        found.offer.is_none() && found.unmet[0].cause.contains("deadline"),
        "{:?}",
        found.unmet
    );
    node.pin = "1.1.0".parse().ok();
    assert_eq!(node.version().await, "1.1.0");
}

#[tokio::test]
async fn a_development_release_needs_a_development_node_and_channel() {
    for (channel_is, node_is) in [(false, false), (false, true), (true, false), (true, true)] {
        let (_server, mut node) = node_with(|maker| {
            put_offer(maker, |offer| offer.release.development = true);
            maker.is_development = channel_is;
            maker.roots.clear();
            maker.add_root(&[1, 2]);
        })
        .await;
        node.image.is_development = node_is;
        match node.look().await {
            Ok(found) => assert_eq!(found.offer.is_some(), channel_is && node_is),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_document_over_its_bound_is_not_fetched() {
    let (server, node) = node_with(|maker| {
        let text = " ".repeat(channel_document::MAX_CHANNEL_BYTES as usize + 1);
        maker.add("targets", "channels/stable.json", text);
    })
    .await;
    let error = node.error().await;
    assert!(matches!(error, ChannelError::TooLarge { .. }), "{error}");
    let asked = server.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|path| !path.contains("channels")), "{asked:?}");
}

#[tokio::test]
async fn every_sentence_is_one_with_a_next_step() {
    let (_server, node) = node_with(|maker| {
        maker.forged.insert("targets", 99);
    })
    .await;
    let sentence = node.error().await.sentence();
    assert!(sentence.contains("slipway channel verify") && sentence.ends_with(")."), "{sentence}");
    assert!(!sentence.contains('\n'), "{sentence}");
}

/// `stable` points at 1.1.0 and says `more`; all releases of `offered` are there.
fn say(maker: &mut Maker, more: &str, offered: &[&str]) {
    let document = format!(
        r#"{{"schema": 1, "channel": "stable", "release": "1.1.0", "since": "2026-11-20T00:00:00Z",
            {more}}}"#
    );
    maker.add("targets", "channels/stable.json", document);
    for version in offered {
        let name = format!("releases/{version}/x86_64/offer.json");
        maker.add(RELEASES_ROLE, &name, offer_of(version).to_json().unwrap());
    }
}

#[tokio::test]
async fn the_offer_of_the_next_floor_is_read_and_then_that_of_the_end() {
    let floors = r#""requires": ["floors"],
        "floors": [{"release": "1.0.5", "reason": "x"}, {"release": "1.0.2", "reason": "y"}]"#;
    let (_server, mut node) = node_with(|maker| say(maker, floors, &["1.0.2", "1.0.5"])).await;
    for next in ["1.0.2", "1.0.5", "1.1.0", "1.1.0"] {
        assert_eq!(node.version().await, next);
        node.running = next.parse().unwrap();
    }
    node.running = "1.0.0".parse().unwrap();
    node.pin = "1.0.3".parse().ok();
    assert_eq!(node.version().await, "1.0.2", "a pin skips no floor of the channel it leaves");
    node.pin = "0.9.0".parse().ok();
    assert!(node.look().await.unwrap().offer.is_none(), "1.0.2 is not on the way down");
}

#[tokio::test]
async fn a_pin_does_not_pass_a_block_of_its_channel_or_of_any_when_none_is_named() {
    let blocked = r#""requires": ["blocked"], "blocked": [{"release": "1.1.1", "reason": "x"}]"#;
    let (_server, mut node) = node_with(|maker| say(maker, blocked, &["1.1.1"])).await;
    node.pin = "1.1.1".parse().ok();
    let found = node.look().await.unwrap();
    assert!(found.offer.is_none() && found.channel.is_none());
    assert_eq!(found.marks.blocked[0].release, "1.1.1".parse().unwrap());
    let (_server, node) = node_with(|maker| {
        say(maker, blocked, &["1.1.1"]);
        let group = r#"{"apiVersion": "slipway.dev/v1alpha1", "kind": "NodeGroup",
            "metadata": {"name": "workers"}, "spec": {"release": "1.1.1"}}"#;
        maker.add(GROUPS_ROLE, "groups/workers.json", group);
    })
    .await;
    assert!(node.look().await.unwrap().offer.is_none());
}

#[tokio::test]
async fn a_document_for_a_later_slipwayd_is_noted_and_is_no_failure() {
    let later = r#""minimum_updater": "9.0.0", "requires": ["floors", "cohorts"],
        "floors": [{"release": "1.0.2", "reason": "brings slipwayd 9"}]"#;
    let (_server, mut node) = node_with(|maker| say(maker, later, &["1.0.2"])).await;
    let found = node.look().await.unwrap();
    assert!(found.channel.is_none() && found.offer.is_none());
    let [unmet] = found.unmet.as_slice() else { panic!("{:?}", found.unmet) };
    assert_eq!(unmet.needed, Some(semver::Version::new(9, 0, 0)));
    assert_eq!(found.marks.floors[0].release, "1.0.2".parse().unwrap(), "the way there");
    node.pin = "1.0.2".parse().ok();
    assert_eq!(node.version().await, "1.0.2", "a pin is the way out");

    let (_server, node) = node_with(|maker| {
        let group = r#"{"apiVersion": "slipway.dev/v2", "kind": "NodeGroup",
            "metadata": {"name": "workers"}, "spec": {"requires": ["live-patch"]}}"#;
        maker.add(GROUPS_ROLE, "groups/workers.json", group);
    })
    .await;
    let found = node.look().await.unwrap();
    assert_eq!(found.unmet.len(), 1);
    assert!(found.offer.is_none(), "the channel of the settings does not stand in for the group");

    let (_server, node) = node_with(|maker| {
        let text = offer_of("1.1.0").to_json().unwrap();
        maker.add(RELEASES_ROLE, OFFER, text.replacen('{', r#"{"requires":["delta"],"#, 1));
    })
    .await;
    let found = node.look().await.unwrap();
    assert_eq!(found.unmet[0].document, policy::Lacking::Release("1.1.0".parse().unwrap()));
}
