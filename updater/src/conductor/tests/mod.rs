//! The conductor over a node in memory: what it answers, and what it does before and after.

use contract::node::api::{SettingsMode, Started};
use contract::{Architecture, Digest, RootHash, Slot};
use jiff::Timestamp;
use testbed::metadata as stand_in;
use tokio::task::LocalSet;

use super::step::{Boot, Idle, Ready};
use super::*;
use crate::channel::tests::repository::Repository;
use crate::effects::fake::{Effect, FakeNode, Sizes};
use crate::effects::{BootedSlot, Disarmed};
use crate::policy;
use crate::secure_boot::SecureBootError;
use crate::settings::{Cloud, MetadataService, NodeSettings, RuntimeFolders};
use crate::staging::{Delivery, KnownWay, Part, StageError, Staged};
use crate::update::{Journal, Plan, ReleaseId, SlotRecord};
use crate::verdict::Verdict;

mod drains;
mod first_boot;
mod footing;
mod orders;
mod transitions;

/// The release that the channel offers in these tests, and its root hash.
const NEWER: (&str, [u8; 32]) = ("3.0.0", [7; 32]);

fn release(version: &str, hash: u8) -> ReleaseId {
    ReleaseId { version: version.parse().unwrap(), root_hash: RootHash::from([hash; 32]) }
}

/// A node that runs release 2.0.0 from slot A; the blessed 1.0.0 is in slot B.
fn node() -> FakeNode {
    let node = FakeNode::new(0, Sizes::default());
    for name in ["slipway-000001-b+3-100.efi", "slipway-000002-a+3-100.efi"] {
        node.install_uki(name.parse().unwrap(), b"uki");
    }
    let mut journal = Journal::new();
    let blessed = Some(Timestamp::UNIX_EPOCH);
    journal.slots.insert(Slot::B, SlotRecord { release: release("1.0.0", 1), uki: None, blessed });
    journal.save(&node).unwrap();
    node
}

/// A node that runs a release on trial, with these UKIs.
fn on_trial(ukis: &[&str]) -> FakeNode {
    let node = FakeNode::new(0, Sizes::default());
    for name in ukis {
        node.install_uki(name.parse().unwrap(), b"uki");
    }
    node.boot().unwrap();
    node
}

/// The first boot of a disk.
fn first_boot() -> FakeNode {
    on_trial(&["slipway-000001-a+3.efi"])
}

/// The first boot of an update: slot B is its way back.
fn updated() -> FakeNode {
    on_trial(&["slipway-000001-b.efi", "slipway-000002-a+3.efi"])
}

/// Folders of this process, which go with the machine that it runs on.
fn folders() -> RuntimeFolders {
    let root = std::env::temp_dir().join(format!("slipway-conductor-{}", std::process::id()));
    let folder = |name: &str| root.join(name);
    RuntimeFolders {
        network: folder("network"),
        dhcp: folder("dhcp"),
        time: folder("time"),
        kubelet: folder("kubelet"),
        cni: folder("cni"),
        registries: folder("registries"),
    }
}

fn conductor(node: &FakeNode) -> Conductor {
    let ReleaseId { version, root_hash } = release("2.0.0", 2);
    let image = RunningImage {
        architecture: Architecture::X86_64,
        is_development: false,
        built: Timestamp::UNIX_EPOCH,
    };
    Conductor::new(Parts {
        effects: node.effects(),
        facts: BootFacts {
            slot: BootedSlot::forged_for_a_test(Slot::A),
            root_hash,
            version,
            boot_id: node.boot_id(),
            disk: "vda".into(),
        },
        places: Places {
            scratch: "/nonexistent/tuf".into(),
            credentials: None,
            metadata: None,
            node: crate::verdict::NodePrograms {
                containerd: "/nonexistent/containerd".into(),
                kubelet: "http://127.0.0.1:1/healthz".parse().unwrap(),
            },
            folders: folders(),
        },
        who: Who { machine_id: "0".repeat(32), updater: "1.0.0".parse().unwrap(), image },
        board: Arc::new(Board::new()),
        metrics: Arc::new(Metrics::new()),
        api: watch::Sender::new(None),
    })
}

/// Settings in force, with a channel nobody serves, and beside it these fields.
fn give_settings(conductor: &mut Conductor, fields: serde_json::Value) {
    let mut settings = serde_json::json!({"schema": 2, "channel": {
        "mirrors": ["http://127.0.0.1:1"], "root": Repository::new().initial_root(),
        "follow": "stable", "jitter": "0s"}});
    settings.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    // Not checked: what names a cluster here is reached by nobody.
    let settings: contract::node::settings::Settings = serde_json::from_value(settings).unwrap();
    let client = conductor.parts.effects.network.mirrors(&settings.network);
    conductor.http = Some(client.unwrap());
    conductor.keeper.put(settings);
}

/// The channel offers [`NEWER`]; the group says that.
fn offer_newer(conductor: &mut Conductor, group: &str) {
    let found = crate::channel::tests::found(NEWER.0, group);
    conductor.watch.pretend_for_a_test(found);
}

async fn opened(conductor: &mut Conductor) -> Step {
    conductor.open(Step::opening()).await
}

/// The proof that [`NEWER`] is whole in the other slot, which it is not.
async fn forge_staged(node: &FakeNode, boot: &Boot) -> Staged {
    let root_hash = RootHash::from(NEWER.1);
    let plan = Plan { release: ReleaseId { version: NEWER.0.parse().unwrap(), root_hash } };
    let disarmed: Disarmed = boot.machine.step(move |it| it.disarm_target(&plan)).await.unwrap();
    let effects = node.effects();
    effects.esp.create_temporary(3).unwrap();
    effects.esp.write_temporary(0, b"uki").unwrap();
    effects.esp.sync().unwrap();
    let staged = Staged::forged_for_a_test(&disarmed, root_hash, Digest::of(b"uki"));
    boot.machine
        .step(move |machine| {
            machine.record_staged(&staged)?;
            Ok(staged)
        })
        .await
        .unwrap()
}

fn delivery(staged: Staged) -> Delivery {
    let way = KnownWay::Full;
    Delivery { staged, root_way: way, uki_way: way, bytes_moved: 3, journal_trouble: None }
}

fn idle(step: Step) -> Idle {
    match step {
        Step::Idle(idle) => idle,
        step => panic!("the step is {}", transitions::name(&step)),
    }
}

async fn ask(
    requests: &mpsc::Sender<OperatorRequest>,
    action: Action,
) -> Result<contract::node::api::Accepted, ApiError> {
    let (answer, waiting) = oneshot::channel();
    assert!(
        requests.send(OperatorRequest::Act(action, answer)).await.is_ok(),
        "the conductor has ended"
    );
    waiting.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_a_restart_is_answered_before_it_comes() {
    let node = node();
    let (requests, waiting) = mpsc::channel(4);
    let conductor = conductor(&node);
    let asking = async {
        let accepted = ask(&requests, Action::Rollback).await.unwrap();
        assert_eq!(accepted.started, Started::Yes);
        let armed = "slipway-000003-b+3.efi".parse().unwrap();
        assert!(node.ukis().contains(&armed), "it is armed: {:?}", node.ukis());
        // Others who ask meanwhile get an answer too.
        let refused = ask(&requests, Action::Check).await.unwrap_err();
        assert_eq!(refused.code, Code::Conflict);
        assert!(!node.log().contains(&Effect::Reboot), "the answer may be lost");
        tokio::time::sleep(restart::ANSWER_TIME * 2).await;
        assert!(!node.is_powered(), "it does not restart");
        drop(requests);
    };
    LocalSet::new().run_until(async { tokio::join!(conductor.run(waiting), asking) }).await;
    assert_eq!(node.log().last(), Some(&Effect::Reboot));
}

#[tokio::test]
async fn a_uki_that_the_firmware_would_refuse_is_a_problem_for_an_operator() {
    let node = node();
    let mut conductor = conductor(&node);
    let boot = idle(opened(&mut conductor).await).boot;
    conductor.wishes.order = Order::Apply;
    let (ukis, log) = (node.ukis(), node.log());
    let failed = Err(StageError::Firmware(SecureBootError::Unsigned));
    let step = conductor.finish_staging(boot, failed).await;
    assert!(idle(step).ready.is_none());
    let problem = conductor.parts.board.read().problem.unwrap().message;
    let words = "the release cannot be staged: the firmware would refuse its UKI";
    assert!(problem.starts_with(words), "{problem}");
    assert_eq!(conductor.failures.facts().unwrap().failures, 1);
    assert!(conductor.wishes.order == Order::None);
    assert_eq!((node.ukis(), node.log()), (ukis, log));
}

#[tokio::test]
async fn what_changed_before_arming_is_staged_again_at_once_and_later_with_pauses() {
    let node = node();
    let mut conductor = conductor(&node);
    let mut boot = idle(opened(&mut conductor).await).boot;
    conductor.wishes.order = Order::Apply;
    let changed = |part| Err(StageError::Changed(part));
    boot = idle(conductor.finish_confirming(boot, changed(Part::Root)).await).boot;
    assert!(conductor.failures.facts().is_none() && conductor.wishes.order == Order::Apply);
    assert!(conductor.parts.board.read().problem.is_none(), "it heals by itself");
    let mut pauses = Vec::new();
    for _ in 0..4 {
        // Each time it could be staged again.
        conductor.failures.end();
        boot = idle(conductor.finish_confirming(boot, changed(Part::Uki)).await).boot;
        pauses.push(policy::staging_pause(conductor.failures.facts().unwrap().failures));
    }
    let problem = conductor.parts.board.read().problem.unwrap().message;
    assert!(problem.contains("has changed since it was staged"), "{problem}");
    assert!(pauses.is_sorted() && pauses[3] > 2 * pauses[0], "{pauses:?}");
    assert!(!node.log().contains(&Effect::Reboot));
}

#[tokio::test]
async fn a_node_in_a_cloud_says_that_it_waits_for_its_settings() {
    let node = node();
    let mut conductor = conductor(&node);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let service = MetadataService::at(Cloud::AmazonEc2, nobody);
    conductor.keeper = Keeper::new(node.effects(), conductor.parts.facts.slot, None, Some(service));
    let step = conductor.round(Step::opening()).await;
    let board = conductor.parts.board.read();
    let sentence = board.holds[0].to_string();
    assert!(sentence.contains("Amazon EC2's metadata service does not answer"), "{sentence}");
    assert!(board.problem.is_none(), "it may end by itself");
    assert!(conductor.next_round(&step) < Instant::now() + ROUND, "it is asked again soon");

    // It answers, and has user data for somebody else.
    let listener = std::net::TcpListener::bind(nobody).unwrap();
    let service = stand_in::MetadataService::start(listener, stand_in::Cloud::AmazonEc2);
    let step = conductor.round(step).await;
    let sentence = conductor.parts.board.read().holds[0].to_string();
    assert!(sentence.contains("Amazon EC2 has no user data"), "{sentence}");
    service.give(stand_in::USER_DATA, b"#cloud-config");
    let _step = conductor.round(step).await;
    let board = conductor.parts.board.read();
    assert!(board.holds[0].to_string().contains("#slipway-settings"), "{:?}", board.holds);
    assert!(board.problem.unwrap().message.contains("#slipway-settings"));
}

#[tokio::test]
async fn what_is_not_wanted_any_more_stays_staged() {
    let node = node();
    let mut conductor = conductor(&node);
    let boot = idle(opened(&mut conductor).await).boot;
    let staged = forge_staged(&node, &boot).await;
    // Without settings nothing is wanted.
    let confirmed = Ok(staged.confirmed_for_a_test());
    let step = conductor.finish_confirming(boot, confirmed).await;
    assert!(idle(step).ready.is_some());
    assert!(!node.log().iter().any(|effect| matches!(effect, Effect::RenameTemporary(_))));
}

#[tokio::test(start_paused = true)]
async fn a_look_that_is_due_waits_for_what_is_under_way() {
    let mut conductor = conductor(&node());
    give_settings(&mut conductor, serde_json::json!({}));
    let settings = conductor.keeper.settings().unwrap().clone();
    conductor.follow_channel(&settings);
    let boot = idle(opened(&mut conductor).await).boot;
    tokio::time::advance(Duration::from_secs(60)).await;
    let step = Step::Idle(Idle::new(boot));
    assert!(conductor.next_round(&step) <= Instant::now());
    let Step::Idle(Idle { boot, .. }) = step else { unreachable!() };
    let task = tokio::spawn(std::future::pending()).into();
    let staging = Step::Staging { boot, task, version: "3.0.0".parse().unwrap() };
    assert!(conductor.next_round(&staging) > Instant::now() + ROUND / 2, "it would spin");
    // Nor is the channel asked while a boot is judged, or what runs is not known.
    let opening = conductor.next_round(&Step::opening());
    assert!(opening > Instant::now() + ROUND / 2, "it would spin");
    let mut judging = self::conductor(&updated());
    judging.follow_channel(&settings);
    let step = opened(&mut judging).await;
    assert!(matches!(step, Step::Judging { .. }));
    assert!(judging.next_round(&step) > Instant::now() + ROUND / 2, "it would spin");
}

/// A channel's server that never answers, and keeps what the node had done before it was asked.
fn silent_server(node: &FakeNode) -> (u16, Arc<std::sync::Mutex<Vec<Vec<Effect>>>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (node, seen) = (node.clone(), Arc::new(std::sync::Mutex::new(Vec::new())));
    let log = Arc::clone(&seen);
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for connection in listener.incoming() {
            log.lock().unwrap().push(node.log());
            open.push(connection);
        }
    });
    (port, seen)
}

#[tokio::test]
async fn the_channel_is_asked_before_a_good_boot_loses_its_way_back() {
    let node = updated();
    let (port, seen) = silent_server(&node);
    let scratch = tempfile::tempdir().unwrap();
    let mut conductor = conductor(&node);
    conductor.parts.places.scratch = scratch.path().join("tuf");
    conductor.first_look = Duration::from_millis(500);
    let mirror = format!("http://127.0.0.1:{port}");
    let settings = serde_json::json!({"schema": 2, "channel": {
        "mirrors": [mirror], "root": Repository::new().initial_root(), "follow": "stable"}});
    let settings = NodeSettings::from_bytes(settings.to_string().into_bytes()).unwrap();
    crate::settings::save(&node, conductor.parts.facts.slot, &settings).unwrap();
    let step = conductor.take_settings(Step::opening()).await;
    let step = conductor.open(step).await;
    assert!(matches!(step, Step::Judging { .. }), "this boot is not judged");
    assert!(seen.lock().unwrap().is_empty(), "the channel was asked before the verdict");
    let step = conductor.advance(step, Event::Judged(Verdict::Healthy)).await;
    assert!(idle(step).boot.trial.is_none());
    let blessed = |effect: &Effect| matches!(effect, Effect::Rename(..));
    let first = seen.lock().unwrap().first().cloned().expect("the channel was not asked");
    assert!(!first.iter().any(blessed), "{first:?}");
    assert!(
        node.log().iter().any(blessed),
        "a channel that is silent keeps no boot from its verdict"
    );
}

#[tokio::test]
async fn settings_of_the_port_and_the_network_that_cannot_be_used_are_refused() {
    let node = node();
    let mut conductor = conductor(&node);
    let mut step = opened(&mut conductor).await;
    let authority = crate::api::testing::Authority::new();
    let (good, other) = (authority.access(), authority.access());
    let api = |key: &contract::node::settings::Secret| {
        serde_json::json!({"schema": 2, "api": {"certificate": good.certificate,
            "clientAuthority": good.client_authority, "key": key.expose()}})
    };
    let frame = "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n";
    let certificates = serde_json::json!({"schema": 2, "network": {"certificates": [frame]}});
    for (document, words) in [
        (api(&other.key), "api: the node's key does not fit its certificate"),
        (certificates, "network: "),
    ] {
        let document = document.to_string().into();
        for mode in [SettingsMode::DryRun, SettingsMode::Apply] {
            let outcome;
            (step, outcome) = conductor.replace_settings(step, &document, mode).await;
            let error = outcome.unwrap_err();
            assert_eq!(error.code, Code::Invalid);
            assert!(error.message.contains(words), "{}", error.message);
        }
    }
    assert!(
        !node
            .log()
            .iter()
            .any(|effect| matches!(effect, Effect::Save(name) if name.contains("settings")))
    );
    let good = api(&good.key).to_string().into();
    assert!(conductor.replace_settings(step, &good, SettingsMode::DryRun).await.1.is_ok());
}
