//! Which rule holds a node when, and that none is ever passed by accident.

use contract::channel::route::{Mark, Marks};
use contract::node::settings::Settings;
use contract::{ChannelDocument, Component, NodeGroup, ReleaseVersion};
use jiff::{SignedDuration, Timestamp};
use semver::Version;

use super::*;

mod back;
mod pace;
mod property;
mod restart;
mod way;

const NODE: &str = "4c2f0e6ad1b74cd0a6a2a4b6b9b0c1d2";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn settings(text: &str) -> Settings {
    let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
    value["schema"] = 1.into();
    value["channel"] = serde_json::json!({
        "mirrors": ["http://channel.example/"], "group": "workers", "jitter": "0s",
        "root": {"signed": {"_type": "root"}, "signatures": []}
    });
    Settings::from_json(value.to_string().as_bytes()).unwrap()
}

fn group(spec: &str) -> NodeGroup {
    let text = format!(
        r#"{{"apiVersion": "slipway.dev/v1alpha1", "kind": "NodeGroup",
            "metadata": {{"name": "workers"}}, "spec": {spec}}}"#
    );
    let group: NodeGroup = serde_json::from_str(&text).unwrap();
    group.check().unwrap();
    group
}

fn channel(release: &str) -> ChannelDocument {
    ChannelDocument {
        schema: 1,
        channel: "stable".parse().unwrap(),
        release: release.parse().unwrap(),
        since: at("2026-11-27T00:00:00Z"),
        waves: Default::default(),
        paused: None,
        minimum_updater: None,
        requires: Vec::new(),
        floors: Vec::new(),
        blocked: Vec::new(),
    }
}

fn mark(release: &str) -> Mark {
    Mark { release: release.parse().unwrap(), reason: format!("because of {release}") }
}

fn pin(version: &str) -> Pin {
    Pin::Release(version.parse().unwrap())
}

fn offer(version: &str, root: u8) -> OfferFacts {
    OfferFacts {
        version: version.parse().unwrap(),
        root_hash: [root; 32].into(),
        minimum_updater: Version::new(1, 0, 0),
        esp_bytes: 100,
        kubelet: Some(Version::new(1, 37, 2)),
    }
}

#[derive(Debug)]
/// A node with release 1.0.0 (root hash 1) whose channel points at 1.1.0 (root hash 2).
struct World {
    settings: Option<Settings>,
    lack: Option<&'static str>,
    group: Option<NodeGroup>,
    channel: Option<ChannelDocument>,
    marks: Marks,
    offer: Option<OfferFacts>,
    unmet: Vec<UnmetDocument>,
    expires: Timestamp,
    read: bool,
    failure: Option<FailedLook>,
    pin: Pin,
    lapse: Option<Lapse>,
    refusals: Vec<RefusedRoot>,
    other: OtherSlot,
    failed_staging: Option<FailedStaging>,
    drain: DrainState,
    failed_drain: Option<FailedDrain>,
    has_joined: bool,
    esp_room: Option<u64>,
    api_server: Option<ApiServer>,
    boot: BootState,
    order: Order,
    now: Timestamp,
    updater: Version,
}

impl World {
    fn new() -> Self {
        Self {
            settings: Some(settings("{}")),
            lack: None,
            group: Some(group(r#"{"channel": "stable"}"#)),
            channel: Some(channel("1.1.0")),
            marks: Marks::default(),
            offer: Some(offer("1.1.0", 2)),
            unmet: Vec::new(),
            expires: at("2026-12-10T00:00:00Z"),
            read: true,
            failure: None,
            pin: Pin::None,
            lapse: None,
            refusals: Vec::new(),
            other: OtherSlot::Unknown,
            failed_staging: None,
            drain: DrainState::Idle,
            failed_drain: None,
            has_joined: false,
            esp_room: Some(100),
            api_server: None,
            boot: BootState::Blessed,
            order: Order::None,
            now: at("2026-11-27T12:00:00Z"),
            updater: Version::new(1, 0, 0),
        }
    }

    fn documents(&self) -> Documents<'_> {
        Documents {
            group: self.group.as_ref(),
            channel: self.channel.as_ref(),
            marks: &self.marks,
            offer: self.offer.clone(),
            unmet: &self.unmet,
            expires: self.expires,
        }
    }

    fn decide(&self) -> Decision {
        let documents = self.documents();
        decide(&PolicyInput {
            now: self.now,
            node: NODE,
            updater: &self.updater,
            boot: self.boot,
            running: [1; 32].into(),
            running_version: &"1.0.0".parse().unwrap(),
            settings: self.settings.as_ref(),
            lack: self.lack,
            pin: &self.pin,
            documents: self.read.then_some(&documents),
            failure: self.failure.as_ref(),
            refusals: &self.refusals,
            other: self.other,
            lapse: self.lapse.as_ref(),
            failed_staging: self.failed_staging.as_ref(),
            drain: &self.drain,
            failed_drain: self.failed_drain.as_ref(),
            has_joined: self.has_joined,
            esp_room: self.esp_room,
            api_server: self.api_server.as_ref(),
            order: self.order,
        })
    }
}

/// The action, and the start of each hold's name.
fn outcome(world: &World) -> (Action, Vec<String>) {
    let decision = world.decide();
    let name = |hold: &Hold| {
        let text = format!("{hold:?}");
        text.chars().take_while(|c| c.is_alphanumeric()).collect::<String>()
    };
    (decision.action, decision.holds.iter().map(name).collect())
}

fn check(change: impl Fn(&mut World), action: Action, holds: &[&str]) {
    let mut world = World::new();
    change(&mut world);
    let expected: Vec<String> = holds.iter().map(|hold| (*hold).to_owned()).collect();
    assert_eq!(outcome(&world), (action, expected));
}

#[test]
fn a_new_release_is_staged_and_then_applied() {
    check(|_| {}, Action::Stage, &[]);
    check(|world| world.other = OtherSlot::Staged([2; 32].into()), Action::Confirm, &[]);
    check(|world| world.other = OtherSlot::Staged([9; 32].into()), Action::Stage, &[]);
}

#[test]
fn an_older_release_is_taken_when_the_documents_say_so() {
    let older = |world: &mut World| {
        world.offer = Some(offer("0.9.0", 2));
        world.group = Some(group(r#"{"release": "0.9.0"}"#));
    };
    check(older, Action::Stage, &[]);
}

#[test]
fn a_boot_that_has_not_stood_gives_no_fallback_away_by_itself() {
    let unproven = |world: &mut World| world.boot = BootState::Unproven;
    check(unproven, Action::Nothing, &["Unproven"]);
    let ordered = |world: &mut World| {
        unproven(world);
        world.order = Order::Stage;
    };
    check(ordered, Action::Stage, &[]);
    // What is staged has taken it away.
    let staged = |world: &mut World| {
        unproven(world);
        world.other = OtherSlot::Staged([2; 32].into());
    };
    check(staged, Action::Confirm, &[]);
}

#[test]
fn rules_that_an_order_does_not_pass() {
    type Change = fn(&mut World);
    let rules: [(&str, Change); 18] = [
        ("Judging", |world| world.boot = BootState::Pending),
        ("NoJournal", |world| world.boot = BootState::Unknown),
        ("PinUnreadable", |world| world.pin = Pin::Unreadable("EIO".to_owned())),
        ("NoSettings", |world| world.settings = None),
        ("NoChannel", |world| world.settings.as_mut().unwrap().channel = None),
        ("NotChecked", |world| world.read = false),
        ("NotChecked", |world| world.channel = None),
        ("NotChecked", |world| world.offer = Some(offer("1.0.5", 2))),
        ("Expired", |world| world.now = at("2026-12-10T00:00:01Z")),
        ("NoGroup", |world| world.group = None),
        ("NoOffer", |world| world.offer = None),
        ("UpToDate", |world| world.offer = Some(offer("1.1.0", 1))),
        ("Refused", |world| {
            let cause = "kubelet never became healthy".to_owned();
            world.refusals = vec![RefusedRoot { root_hash: [2; 32].into(), cause }];
        }),
        ("MaximumVersion", |world| {
            world.group = Some(group(r#"{"channel": "stable", "maximumVersion": "1.0.9"}"#));
        }),
        ("GroupPaused", |world| {
            world.group = Some(group(r#"{"channel": "stable", "paused": "holidays"}"#));
        }),
        ("MinimumUpdater", |world| world.updater = Version::new(0, 9, 0)),
        ("EspRoom", |world| world.esp_room = Some(99)),
        ("VersionSkew", |world| {
            world.api_server = Some(ApiServer::Answers(Version::new(1, 36, 4)));
        }),
    ];
    for (name, change) in rules {
        for order in [Order::None, Order::Stage, Order::Apply] {
            check(
                |world| {
                    change(world);
                    world.order = order;
                },
                Action::Nothing,
                &[name],
            );
        }
    }
    check(|world| world.esp_room = None, Action::Nothing, &["EspRoom"]);
}

#[test]
fn a_node_without_settings_says_what_it_waits_for() {
    let mut world = World::new();
    world.settings = None;
    let sentence = |world: &World| world.decide().holds[0].to_string();
    assert!(sentence(&world).contains("slipway node settings set"), "{}", sentence(&world));
    world.lack = Some("Azure's metadata service does not answer");
    assert_eq!(
        sentence(&world),
        "The node has no settings: Azure's metadata service does not answer."
    );
}

#[test]
fn a_release_says_which_kubelet_it_has() {
    let components = |name: &str, version: &str| Component {
        name: name.to_owned(),
        version: version.to_owned(),
    };
    let found = |name, version| facts::kubelet(&components(name, version));
    assert_eq!(found("k8s.io/kubernetes", "v1.37.2"), Some(Version::new(1, 37, 2)));
    assert_eq!(found("k8s.io/kubernetes", "1.37.2"), None);
    assert_eq!(found("linux", "v6.12.1"), None);
}

#[test]
fn a_kubelet_goes_with_its_api_server() {
    let answers = |minor| {
        move |world: &mut World| {
            world.api_server = Some(ApiServer::Answers(Version::new(1, minor, 0)));
        }
    };
    check(answers(37), Action::Stage, &[]);
    check(answers(40), Action::Stage, &[]);
    check(answers(41), Action::Nothing, &["VersionSkew"]);
    check(answers(36), Action::Nothing, &["VersionSkew"]);
    let mut world = World::new();
    answers(36)(&mut world);
    let sentence = world.decide().holds[0].to_string();
    assert!(sentence.contains("update the control plane first"), "{sentence}");
    world.api_server = Some(ApiServer::Silent("the API server does not answer".into()));
    assert_eq!(outcome(&world), (Action::Nothing, vec!["ApiServerSilent".to_owned()]));
    // The release may be what makes it heard again.
    world.order = Order::Apply;
    assert_eq!(outcome(&world), (Action::Stage, Vec::new()));
}

#[test]
fn a_paused_channel_holds_those_who_follow_it() {
    let pause = |world: &mut World| world.channel.as_mut().unwrap().paused = Some("bad".into());
    check(pause, Action::Nothing, &["ChannelPaused"]);
    let pinned = |world: &mut World| {
        pause(world);
        world.pin = pin("1.1.0");
    };
    check(pinned, Action::Stage, &["Pinned"]);
}

#[test]
fn a_failed_look_lets_the_earlier_one_count_unless_the_clock_is_why() {
    let failed = |is_clock| {
        move |world: &mut World| {
            let next = Some(at("2026-11-27T12:05:00Z"));
            world.failure = Some(FailedLook { sentence: "No route.".into(), is_clock, next });
        }
    };
    check(failed(false), Action::Stage, &["CheckFailed"]);
    check(failed(true), Action::Nothing, &["Clock"]);
    let never = |world: &mut World| {
        failed(false)(world);
        world.read = false;
    };
    check(never, Action::Nothing, &["CheckFailed"]);
}

#[test]
fn an_operators_pin_goes_before_the_group_and_not_over_its_maximum() {
    let low = |world: &mut World| {
        world.pin = pin("0.8.0");
        world.offer = Some(offer("0.8.0", 2));
        world.group = Some(group(r#"{"release": "1.0.5"}"#));
    };
    check(low, Action::Stage, &["Pinned"]);
    let high = |world: &mut World| {
        world.pin = pin("2.0.0");
        world.offer = Some(offer("2.0.0", 2));
        world.group = Some(group(r#"{"channel": "stable", "maximumVersion": "1.9.0"}"#));
    };
    check(high, Action::Nothing, &["Pinned", "MaximumVersion"]);
}

#[test]
fn the_settings_name_a_channel_for_nodes_without_a_group_document() {
    let follow = |world: &mut World| {
        world.group = None;
        let channel = world.settings.as_mut().unwrap().channel.as_mut().unwrap();
        channel.follow = "stable".parse().ok();
    };
    check(follow, Action::Stage, &[]);
}
