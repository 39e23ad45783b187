//! Documents as they were written once, and as they may be written one day: all are read.
//!
//! What lies in `written/` was written by the commits and programs that its folders name. **It never
//! changes**: nodes have such documents, and channels serve them. Each file has its digest here, so
//! that nobody renews one by the way; a later generation gets a folder of its own.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use contract::channel::InvalidChannel;
use contract::channel::group::{DrainPolicy, InvalidGroupJson};
use contract::channel::route::Mark;
use contract::head::Unmet;
use contract::node::api::{CauseKind, ProblemKind, Status, Why, status_lines};
use contract::node::settings::{Bootstrap, PodNetwork, Settings, UpdateMode};
use contract::release::offer::InvalidOffer;
use contract::{ChannelDocument, Digest, NodeGroup, Offer, ReleaseDocument};
use proptest::prelude::*;
use serde_json::{Value, json};

const TODAY: &str = "77b89a1";
const FUTURE: &str = "future";

const DIGESTS: [(&str, &str); 17] = [
    ("77b89a1/api-status.json", "28c1200057ad68c405cd9cb810271a66355606af18d3ae8b824430efca10bf05"),
    ("77b89a1/api-why.json", "2eba15daf7a95fc0ab4ea1a9d36aebe5dc73d3c79a25006878375ecc8ee05ba6"),
    (
        "77b89a1/channel-beta.json",
        "74f14043a5b3b5fd969af56d09b597d22656f17518055b239ab652a9642e2980",
    ),
    (
        "77b89a1/channel-stable.json",
        "8e8ebd364ff4f7ad4460b6eeec613d5b0f44031ed90f6c85673ebb235a77cbe2",
    ),
    (
        "77b89a1/group-control.json",
        "20dfc3fea51156380e8f2568857c34eb9e73bcc554a2325e3d73dcba35197003",
    ),
    (
        "77b89a1/group-workers.json",
        "bf49275f6358db34971599373c91765880445a8e6394c677c19b9545375f6ca1",
    ),
    ("77b89a1/offer.json", "9bda0690d6b836007a288965fa5745746bd80721b65a1c7aefdad3ca2db4659d"),
    ("77b89a1/release.json", "192a7e7fc1d72264a45a6ab09353dddb46550d76cfccb43fc0974f94d6d43efb"),
    (
        "77b89a1/settings-schema-1.json",
        "8f201b6eec4f95030f6232a9f6ba0df035d061a23b3260c5fcd3ee27be523ebf",
    ),
    (
        "77b89a1/settings-schema-2.json",
        "645dda202f03f8dd70a615994408a344d40faec46c4164c815f802c9ad759ed4",
    ),
    (
        "77b89a1/settings-shown-1.json",
        "2a5b74ccaf0e04b51beb234134c43899d33dc04ba1b85fccaca859eda42358cc",
    ),
    (
        "77b89a1/settings-shown-2.json",
        "aefa8e8c31416ad5bac9d539ff69a4e3b584dc0b7e0a5e2688f24d0981692654",
    ),
    (
        "future/channel-of-a-later-reader.json",
        "4341a520d974456176faa7819550722d40a35d167b24b2c50ab51b0f71f41f80",
    ),
    ("future/channel.json", "dd11feb58592327d2f3c7b276437deaf618d9da2f0a9dc5a5110736aa31b8eae"),
    (
        "future/group-of-a-later-reader.json",
        "80027c9e36493fed7741bb7df0cc59961f10b85dca5d069a386ebcd7e668c2b3",
    ),
    (
        "future/group-with-an-unknown-policy.json",
        "5fece9086999cc4d3cda8f4bcea23a581081ac176f9bdeae130b2fd980377591",
    ),
    ("future/group.json", "fbdc5164613f0d6a951520a2bbaefb394d952e0f470f743b183c2ded7e881501"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/written")
}

fn written(by: &str, name: &str) -> Vec<u8> {
    fs::read(folder().join(by).join(name)).unwrap()
}

#[test]
fn no_document_has_changed_and_none_is_unlisted() {
    let mut found = BTreeSet::new();
    for by in [TODAY, FUTURE] {
        for entry in fs::read_dir(folder().join(by)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let digest = Digest::of(&written(by, &name)).to_string();
            found.insert((format!("{by}/{name}"), digest));
        }
    }
    let listed = DIGESTS.map(|(name, digest)| (name.to_owned(), digest.to_owned()));
    let listed: BTreeSet<_> = listed.into_iter().collect();
    let wrong: Vec<_> = found.symmetric_difference(&listed).collect();
    assert!(
        wrong.is_empty(),
        "documents that were written once never change: put them back, and give new ones a folder \
         of their own: {wrong:#?}"
    );
}

#[test]
fn documents_of_the_first_generation_are_read_and_written_alike() {
    let text = |by, name| String::from_utf8(written(by, name)).unwrap();
    let release = ReleaseDocument::from_json(&written(TODAY, "release.json")).unwrap();
    assert_eq!(release.to_json().unwrap(), text(TODAY, "release.json"));
    let offer = Offer::from_json(&written(TODAY, "offer.json")).unwrap();
    assert_eq!(offer.to_json().unwrap(), text(TODAY, "offer.json"));
    assert_eq!(offer.release, release);

    let (stable, beta) = ("stable".parse().unwrap(), "beta".parse().unwrap());
    let channel =
        ChannelDocument::from_json(&stable, &written(TODAY, "channel-stable.json")).unwrap();
    assert_eq!(channel.to_json().unwrap(), text(TODAY, "channel-stable.json"));
    assert_eq!(channel.paused.as_deref(), Some("pods on new nodes do not start"));
    assert_eq!(channel.waves.as_slice().len(), 3);
    assert!(channel.floors.is_empty() && channel.blocked.is_empty());
    let channel = ChannelDocument::from_json(&beta, &written(TODAY, "channel-beta.json")).unwrap();
    assert_eq!(channel.depending().to_json().unwrap(), text(TODAY, "channel-beta.json"));

    let (workers, control) = ("workers".parse().unwrap(), "control".parse().unwrap());
    let group = NodeGroup::from_json(&workers, &written(TODAY, "group-workers.json")).unwrap();
    assert_eq!(group.to_json().unwrap(), text(TODAY, "group-workers.json"));
    assert_eq!(group.spec.windows[0].time_zone, "Europe/Berlin");
    group.check().unwrap();
    let group = NodeGroup::from_json(&control, &written(TODAY, "group-control.json")).unwrap();
    assert_eq!(group.spec.drain.unwrap().then, DrainPolicy::Restart);
}

#[test]
fn settings_that_a_slot_of_the_first_generation_kept_are_read() {
    let kept = |name| Settings::from_json(&written(TODAY, name)).unwrap();
    let schema = |name| Settings::schema_of(&written(TODAY, name)).unwrap();
    assert_eq!((schema("settings-schema-1.json"), schema("settings-schema-2.json")), (1, 2));
    let (one, two) = (kept("settings-schema-1.json"), kept("settings-schema-2.json"));
    assert_eq!(one.channel, two.channel);
    assert_eq!((one.mode, two.mode), (UpdateMode::StagedOnly, UpdateMode::Automatic));
    assert_eq!(one.health.probes.len(), 2);
    let cluster = |settings: &Settings| settings.kubernetes.clone().unwrap();
    let (one, two) = (cluster(&one), cluster(&two));
    assert!(matches!(one.bootstrap, Some(Bootstrap::Token(token)) if token.expose().len() == 23));
    assert!(matches!(two.bootstrap, Some(Bootstrap::ClientCertificate(_))));
    assert_eq!((one.pod_network, two.pod_network), (PodNetwork::Bridge, PodNetwork::AddOn));
    assert_eq!(one.labels, two.labels);
}

#[test]
fn settings_are_shown_as_the_first_generation_showed_them() {
    for schema in ["1", "2"] {
        let kept = written(TODAY, &format!("settings-schema-{schema}.json"));
        let settings = Settings::from_json(&kept).unwrap();
        let shown = serde_json::to_string(&settings).unwrap();
        let then = written(TODAY, &format!("settings-shown-{schema}.json"));
        assert_eq!(shown, String::from_utf8(then).unwrap());
        assert!(!shown.contains("hunter2") && !shown.contains("c2VjcmV0"), "{shown}");
    }
}

#[test]
fn answers_of_the_first_generation_are_read() {
    let status: Status = serde_json::from_slice(&written(TODAY, "api-status.json")).unwrap();
    let problem = status.problem.as_ref().unwrap();
    assert_eq!(problem.kind, ProblemKind::Unknown);
    let fallback = status.fallback.as_ref().unwrap();
    assert_eq!((fallback.kind, fallback.probe.as_deref()), (CauseKind::Unknown, None));
    assert_eq!(status.refused[0].also, Vec::<String>::new());
    assert!(status_lines(&status).iter().any(|(label, _)| *label == "problem"));
    let why: Why = serde_json::from_slice(&written(TODAY, "api-why.json")).unwrap();
    assert!(why.way.is_empty() && !why.holds.is_empty());
}

#[test]
fn answers_with_kinds_of_a_later_generation_are_read() {
    let mut status: Value = serde_json::from_slice(&written(TODAY, "api-status.json")).unwrap();
    status["problem"]["kind"] = json!("teleporting");
    status["fallback"]["kind"] = json!("eclipse");
    status["refused"][0]["kind"] = json!("eclipse");
    status["holds"][0]["rule"] = json!("moon-phase");
    status["moon"] = json!({"phase": "full"});
    let status: Status = serde_json::from_value(status).unwrap();
    assert_eq!(status.problem.as_ref().unwrap().kind, ProblemKind::Unknown);
    assert_eq!(status.fallback.as_ref().unwrap().kind, CauseKind::Unknown);
    let lines = status_lines(&status);
    let why = lines.iter().find(|(label, _)| *label == "why").unwrap();
    assert!(!why.1.is_empty(), "a rule that nobody here knows still has its sentence");
}

/// Puts a field that nobody knows into every object.
fn add_novelties(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(add_novelties);
            fields.insert("x-novelty".to_owned(), json!({"deep": [1, {"er": null}]}));
        }
        Value::Array(items) => items.iter_mut().for_each(add_novelties),
        _ => {}
    }
}

#[test]
fn a_field_that_nobody_knows_is_passed_over_at_every_level() {
    let with = |name| {
        let mut value: Value = serde_json::from_slice(&written(TODAY, name)).unwrap();
        add_novelties(&mut value);
        value["schema"] = json!(99);
        serde_json::to_vec(&value).unwrap()
    };
    let offer = Offer::from_json(&with("offer.json")).unwrap();
    let known = Offer::from_json(&written(TODAY, "offer.json")).unwrap();
    assert_eq!((offer.root, offer.ukis), (known.root, known.ukis));
    assert_eq!(ReleaseDocument::from_json(&with("release.json")).unwrap().schema, 99);
    let stable = "stable".parse().unwrap();
    assert!(ChannelDocument::from_json(&stable, &with("channel-stable.json")).is_ok());
    let workers = "workers".parse().unwrap();
    let group = NodeGroup::from_json(&workers, &with("group-workers.json")).unwrap();
    let known = NodeGroup::from_json(&workers, &written(TODAY, "group-workers.json")).unwrap();
    assert_eq!(group, known);
}

#[test]
fn documents_of_a_made_up_future_are_read_when_they_require_nothing_unknown() {
    let stable = "stable".parse().unwrap();
    let channel = ChannelDocument::from_json(&stable, &written(FUTURE, "channel.json")).unwrap();
    assert_eq!(channel.schema, 7);
    let marks = channel.marks();
    assert_eq!(marks.floors[0].release, "2.0.0".parse().unwrap());
    assert_eq!(marks.blocked[0].reason, "loses volumes");
    let workers = "workers".parse().unwrap();
    let group = NodeGroup::from_json(&workers, &written(FUTURE, "group.json")).unwrap();
    assert_eq!(group.spec.channel, Some(stable));
    assert_eq!(group.spec.drain.unwrap().then, DrainPolicy::Wait);
}

fn channel_lacks(bytes: &[u8]) -> Unmet {
    let error: InvalidChannel =
        ChannelDocument::from_json(&"stable".parse().unwrap(), bytes).unwrap_err();
    error.unmet().cloned().unwrap_or_else(|| panic!("{error:?}"))
}

fn group_lacks(bytes: &[u8]) -> Unmet {
    let error: InvalidGroupJson =
        NodeGroup::from_json(&"workers".parse().unwrap(), bytes).unwrap_err();
    error.unmet().unwrap_or_else(|| panic!("{error:?}"))
}

fn offer_lacks(bytes: &[u8]) -> Unmet {
    let error: InvalidOffer = Offer::from_json(bytes).unwrap_err();
    error.unmet().cloned().unwrap_or_else(|| panic!("{error:?}"))
}

#[test]
fn a_document_for_a_later_reader_says_what_it_needs_before_anything_else_is_read() {
    let bytes = written(FUTURE, "channel-of-a-later-reader.json");
    let lacks = channel_lacks(&bytes);
    assert_eq!(lacks.minimum_updater, Some("0.9.0".parse().unwrap()));
    assert_eq!(lacks.to_string(), "it requires `cohorts`");
    let reason = "brings slipwayd 0.9.0".to_owned();
    let floor = Mark { release: "2.0.0".parse().unwrap(), reason };
    assert_eq!(ChannelDocument::glimpse(&bytes).floors, [floor], "the way there");

    let lacks = group_lacks(&written(FUTURE, "group-of-a-later-reader.json"));
    assert_eq!(lacks.minimum_updater, Some("0.9.0".parse().unwrap()));
    assert_eq!(lacks.to_string(), "it requires `live-patch`");

    let mut offer: Value = serde_json::from_slice(&written(TODAY, "offer.json")).unwrap();
    offer["minimum_updater"] = json!("0.9.0");
    offer["root"] = json!("in pieces");
    let lacks = offer_lacks(&serde_json::to_vec(&offer).unwrap());
    assert_eq!(lacks.minimum_updater, Some("0.9.0".parse().unwrap()));
    offer["release"]["requires"] = json!(["measured-boot"]);
    offer["release"]["minimumUpdater"] = json!("0.10.0");
    let lacks = offer_lacks(&serde_json::to_vec(&offer).unwrap());
    assert_eq!(lacks.minimum_updater, Some("0.10.0".parse().unwrap()));
    assert_eq!(lacks.to_string(), "it requires `measured-boot`");
}

#[test]
fn a_value_that_is_not_understood_is_never_taken_for_another() {
    let lacks = group_lacks(&written(FUTURE, "group-with-an-unknown-policy.json"));
    let words = lacks.not_understood.unwrap();
    assert!(words.contains("migrate"), "{words}");
    for (pointer, value) in [
        ("/spec/workloads", json!("some")),
        ("/spec/windows/0/days/0", json!("moonday")),
        ("/spec/windows/0/length", json!({"hours": 4})),
        ("/spec/requires", json!("all")),
        ("/spec/maximumVersion", json!("latest")),
        ("/spec/deadline", json!("PT900H")),
    ] {
        let bytes = written(TODAY, "group-workers.json");
        let mut group: Value = serde_json::from_slice(&bytes).unwrap();
        match group.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => {
                let name = pointer.rsplit('/').next().unwrap();
                group["spec"][name] = value;
            }
        }
        let lacks = group_lacks(&serde_json::to_vec(&group).unwrap());
        assert!(lacks.not_understood.is_some(), "{pointer}");
    }
}

/// JSON of any shape, with the names of heads among its fields.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("1.0.0")),
    ];
    let name = prop_oneof![
        Just("schema".to_owned()),
        Just("requires".to_owned()),
        Just("minimum_updater".to_owned()),
        Just("minimumUpdater".to_owned()),
        Just("spec".to_owned()),
        Just("release".to_owned()),
        Just("floors".to_owned()),
        Just("channel".to_owned()),
        "[a-z]{1,5}",
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|fields| fields.into_iter().collect::<Value>()),
        ]
    })
}

/// Reads as every kind of document; what matters is that it comes back, with bounded words.
fn read_as_all(bytes: &[u8]) {
    let told = |text: String| assert!(text.len() < 4096, "{} bytes of words", text.len());
    if let Err(error) = Offer::from_json(bytes) {
        told(format!("{error} {:?}", error.unmet().map(ToString::to_string)));
    }
    if let Err(error) = ReleaseDocument::from_json(bytes) {
        told(error.to_string());
    }
    if let Err(error) = ChannelDocument::from_json(&"stable".parse().unwrap(), bytes) {
        told(format!("{error} {:?}", error.unmet().map(ToString::to_string)));
    }
    if let Err(error) = NodeGroup::from_json(&"workers".parse().unwrap(), bytes) {
        told(format!("{error} {:?}", error.unmet().map(|unmet| unmet.to_string())));
    }
    ChannelDocument::glimpse(bytes);
}

proptest! {
    #[test]
    fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_as_all(&bytes);
    }

    #[test]
    fn any_json_comes_back(value in any_json()) {
        read_as_all(&serde_json::to_vec(&value).unwrap());
    }

    #[test]
    fn a_document_with_one_wrong_byte_comes_back(
        which in 0..4_usize, place in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let name = ["offer.json", "release.json", "channel-stable.json", "group-workers.json"][which];
        let mut bytes = written(TODAY, name);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        read_as_all(&bytes);
    }

    #[test]
    fn a_document_that_requires_what_nobody_knows_is_never_read(feature in "[a-z]{2,20}-x") {
        let mut channel: Value =
            serde_json::from_slice(&written(TODAY, "channel-stable.json")).unwrap();
        channel["requires"] = json!([feature]);
        let lacks = channel_lacks(&serde_json::to_vec(&channel).unwrap());
        prop_assert_eq!(lacks.features.len(), 1);
    }
}

#[test]
fn nesting_without_end_comes_back() {
    for text in ["[".repeat(60_000), r#"{"spec":"#.repeat(8_000), r#"{"x":["#.repeat(10_000)] {
        read_as_all(text.as_bytes());
    }
    let deep = format!(r#"{{"schema": 1, "x": {}1{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    read_as_all(deep.as_bytes());
}
