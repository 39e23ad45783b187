//! The conductor over a node in memory: what it answers, and what it does before and after.

use contract::node::api::{Action, SettingsMode, Started};
use contract::{Architecture, Digest, RootHash, Slot};
use jiff::Timestamp;
use testbed::metadata as stand_in;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::*;
use crate::channel::RunningImage;
use crate::channel::tests::repository::Repository;
use crate::effects::fake::{Effect, FakeNode, Sizes};
use crate::effects::{BootedSlot, Disarmed};
use crate::secure_boot::SecureBootError;
use crate::settings::{Cloud, MetadataService, NodeSettings};
use crate::staging::Part;
use crate::update::{Journal, ReleaseId, SlotRecord};

fn release(version: &str, hash: u8) -> ReleaseId {
    ReleaseId { version: version.parse().unwrap(), root_hash: RootHash::from([hash; 32]) }
}

/// A node that runs release 2.0.0 from slot A; the blessed 1.0.0 is in slot B.
pub(super) fn node() -> FakeNode {
    let node = FakeNode::new(0, Sizes::default());
    for name in ["slipway-000001-b.efi", "slipway-000002-a.efi"] {
        node.install_uki(name.parse().unwrap(), b"uki");
    }
    let mut journal = Journal::new();
    let blessed = Some(Timestamp::UNIX_EPOCH);
    journal.slots.insert(Slot::B, SlotRecord { release: release("1.0.0", 1), uki: None, blessed });
    journal.save(&node).unwrap();
    node
}

pub(super) fn conductor(node: &FakeNode) -> Conductor {
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
            socket: "/nonexistent/api".into(),
            scratch: "/nonexistent/tuf".into(),
            credentials: None,
            metadata: None,
            node: crate::verdict::Node {
                containerd: "/nonexistent/containerd".into(),
                kubelet: "http://127.0.0.1:1/healthz".parse().unwrap(),
            },
        },
        identity: Arc::new(Identity {
            machine_id: "0".repeat(32),
            image_name: None,
            image,
            updater: "0.1.0".parse().unwrap(),
        }),
        board: Arc::new(Board::new()),
        metrics: Arc::new(Metrics::new()),
        api: watch::Sender::new(None),
    })
}

async fn ask(
    requests: &mpsc::Sender<Request>,
    action: Action,
) -> Result<contract::node::api::Accepted, ApiError> {
    let (answer, waiting) = oneshot::channel();
    assert!(requests.send(Request::Act(action, answer)).await.is_ok(), "the conductor has ended");
    waiting.await.unwrap()
}

#[tokio::test]
async fn who_asks_for_a_restart_is_answered_before_it_comes() {
    let node = node();
    let (requests, waiting) = mpsc::channel(4);
    let conductor = conductor(&node);
    let asking = async {
        let accepted = ask(&requests, Action::Rollback).await.unwrap();
        let answered = Instant::now();
        assert_eq!(accepted.started, Started::Yes);
        let armed = "slipway-000003-b+3.efi".parse().unwrap();
        assert!(node.ukis().contains(&armed), "it is armed: {:?}", node.ukis());
        // Others who ask meanwhile get an answer too.
        let refused = ask(&requests, Action::Check).await.unwrap_err();
        assert_eq!(refused.code, Code::Conflict);
        assert!(!node.log().contains(&Effect::Reboot), "the answer may be lost");
        while node.is_powered() {
            assert!(answered.elapsed() < 3 * ANSWER_TIME, "it does not restart");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(answered.elapsed() > ANSWER_TIME / 2, "{:?}", answered.elapsed());
        drop(requests);
    };
    LocalSet::new().run_until(async { tokio::join!(conductor.run(waiting), asking) }).await;
    assert_eq!(node.log().last(), Some(&Effect::Reboot));
}

#[tokio::test]
async fn a_uki_that_the_firmware_would_refuse_is_a_problem_for_an_operator() {
    let node = node();
    let mut conductor = conductor(&node);
    conductor.open_machine().await;
    conductor.order = Order::Apply;
    let (ukis, log) = (node.ukis(), node.log());
    conductor.finish_staging(Err(StageError::Firmware(SecureBootError::Unsigned))).await;
    let problem = conductor.parts.board.read().problem.unwrap().message;
    let words = "the release cannot be staged: the firmware would refuse its UKI";
    assert!(problem.starts_with(words), "{problem}");
    assert!(conductor.stage_again.is_some() && conductor.order == Order::None);
    assert_eq!((node.ukis(), node.log()), (ukis, log));
}

#[tokio::test]
async fn what_changed_before_arming_is_staged_again_at_once_and_later_with_pauses() {
    let node = node();
    let mut conductor = conductor(&node);
    conductor.open_machine().await;
    conductor.order = Order::Apply;
    conductor.finish_confirming(Err(StageError::Changed(Part::Root))).await;
    assert!(conductor.stage_again.is_none() && conductor.order == Order::Apply);
    assert!(conductor.parts.board.read().problem.is_none(), "it heals by itself");
    let mut pauses = Vec::new();
    for _ in 0..4 {
        // Each time it could be staged again.
        (conductor.stage_failures, conductor.stage_again) = (0, None);
        conductor.finish_confirming(Err(StageError::Changed(Part::Uki))).await;
        pauses.push(conductor.stage_again.unwrap().duration_since(Instant::now()));
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
    conductor.parts.places.metadata = Some(MetadataService::at(Cloud::AmazonEc2, nobody));
    conductor.open_machine().await;
    conductor.round().await;
    let board = conductor.parts.board.read();
    let sentence = board.holds[0].to_string();
    assert!(sentence.contains("Amazon EC2's metadata service does not answer"), "{sentence}");
    assert!(board.problem.is_none(), "it may end by itself");
    assert!(conductor.next_look < Instant::now() + ROUND, "it is asked again soon");

    // It answers, and has user data for somebody else.
    let listener = std::net::TcpListener::bind(nobody).unwrap();
    let service = stand_in::MetadataService::start(listener, stand_in::Cloud::AmazonEc2);
    conductor.round().await;
    let sentence = conductor.parts.board.read().holds[0].to_string();
    assert!(sentence.contains("Amazon EC2 has no user data"), "{sentence}");
    service.give(stand_in::USER_DATA, b"#cloud-config");
    conductor.round().await;
    let board = conductor.parts.board.read();
    assert!(board.holds[0].to_string().contains("#slipway-settings"), "{:?}", board.holds);
    assert!(board.problem.unwrap().message.contains("#slipway-settings"));
}

#[tokio::test]
async fn what_is_not_wanted_any_more_stays_staged() {
    let node = node();
    let mut conductor = conductor(&node);
    conductor.open_machine().await;
    let disarmed = Disarmed::disarm(&node, conductor.parts.facts.slot.target()).unwrap();
    let staged = Staged::forged_for_a_test(&disarmed, RootHash::from([3; 32]), Digest::of(b"uki"));
    // Without settings nothing is wanted.
    conductor.finish_confirming(Ok(staged.confirmed_for_a_test())).await;
    assert!(conductor.staged.is_some() && !conductor.is_busy());
    assert!(!node.log().iter().any(|effect| matches!(effect, Effect::RenameTemporary(_))));
}

#[tokio::test]
async fn a_look_that_is_due_waits_for_what_is_under_way() {
    let mut conductor = conductor(&node());
    conductor.open_machine().await;
    conductor.next_look = Instant::now() - Duration::from_secs(60);
    assert!(conductor.next_round() <= Instant::now());
    let staging = tokio::spawn(std::future::pending());
    conductor.work = Work::Staging(staging, "3.0.0".parse().unwrap());
    assert!(conductor.next_round() > Instant::now() + ROUND / 2, "the conductor would spin");
    // Nor is the channel asked while a boot is judged, or what runs is not known.
    conductor.work = Work::Judging(tokio::spawn(std::future::pending()), None);
    assert!(conductor.next_round() > Instant::now() + ROUND / 2, "the conductor would spin");
    (conductor.work, conductor.machine) = (Work::None, None);
    assert!(conductor.next_round() > Instant::now() + ROUND / 2, "the conductor would spin");
}

/// A channel's server that never answers, and keeps what the node had done before it was asked.
fn silent_server(node: &FakeNode) -> (u16, Arc<Mutex<Vec<Vec<Effect>>>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (node, seen) = (node.clone(), Arc::new(Mutex::new(Vec::new())));
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
    let node = FakeNode::new(0, Sizes::default());
    for name in ["slipway-000001-b.efi", "slipway-000002-a+3.efi"] {
        node.install_uki(name.parse().unwrap(), b"uki");
    }
    node.boot().unwrap();
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
    conductor.load_settings().await;
    conductor.open_machine().await;
    let Work::Judging(task, pending) = std::mem::replace(&mut conductor.work, Work::None) else {
        panic!("this boot is not judged")
    };
    task.abort();
    assert!(seen.lock().unwrap().is_empty(), "the channel was asked before the verdict");
    conductor.finish(Finished::Verdict(pending.unwrap(), Verdict::Healthy)).await;
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
    conductor.open_machine().await;
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
            let error = conductor.replace_settings(&document, mode).await.unwrap_err();
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
    assert!(conductor.replace_settings(&good, SettingsMode::DryRun).await.is_ok());
}
