//! Pauses after what came to nothing, and the steps from a staged release to the restart.

use std::time::Duration;

use contract::channel::group::{self as terms, DrainPolicy};

use super::*;

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[test]
fn a_staging_that_failed_is_tried_again_after_a_pause_or_an_order() {
    let failed = |ago| FailedStaging { sentence: "the disk fails".to_owned(), failures: 9, ago };
    check(|it| it.failed_staging = Some(failed(minutes(9))), Action::Nothing, &["StageFailed"]);
    check(|it| it.failed_staging = Some(failed(minutes(10))), Action::Stage, &[]);
    let ordered = |world: &mut World| {
        (world.failed_staging, world.order) = (Some(failed(minutes(0))), Order::Stage);
    };
    check(ordered, Action::Stage, &[]);
    let mut world = World::new();
    world.failed_staging = Some(failed(minutes(9)));
    let hold = world.decide().holds.remove(0);
    assert_eq!(hold.rule(), contract::node::api::Rule::StageFailed);
    assert_eq!(hold.ends(), Some(world.now + minutes(1)));
    assert!(hold.to_string().contains("the disk fails"), "{hold}");
}

pub const TERMS: terms::Drain =
    terms::Drain { deadline: SignedDuration::from_mins(10), then: DrainPolicy::Wait };

/// A node with pods whose group drains, and a release that is staged.
pub fn to_be_drained(world: &mut World) {
    let mut with_cluster = serde_json::to_value(world.settings.as_ref().unwrap()).unwrap();
    with_cluster["kubernetes"] =
        serde_json::json!({"server": "https://api.example:6443", "certificateAuthority": ""});
    world.settings = Some(serde_json::from_value(with_cluster).unwrap());
    world.api_server = Some(ApiServer::Answers(Version::new(1, 37, 2)));
    world.group =
        Some(group(r#"{"channel": "stable", "drain": {"deadline": "10m", "then": "wait"}}"#));
    (world.has_joined, world.other) = (true, OtherSlot::Staged([2; 32].into()));
}

fn drained(change: impl Fn(&mut World)) -> (Action, Vec<String>) {
    let mut world = World::new();
    to_be_drained(&mut world);
    change(&mut world);
    outcome(&world)
}

#[test]
fn a_node_with_pods_is_drained_before_what_is_staged_is_read_and_armed() {
    let hold = || vec!["Drain".to_owned()];
    assert_eq!(drained(|_| {}), (Action::Drain(TERMS), hold()));
    let under_way = |root: u8, terms| DrainState::UnderWay {
        root_hash: [root; 32].into(),
        terms,
        waiting: "default/web".to_owned(),
        ends: None,
    };
    assert_eq!(drained(|it| it.drain = under_way(2, TERMS)), (Action::Drain(TERMS), hold()));
    let done = |root: u8| DrainState::Done { root_hash: [root; 32].into() };
    assert_eq!(drained(|it| it.drain = done(2)), (Action::Confirm, vec![]));
    assert_eq!(drained(|it| it.drain = done(3)), (Action::Drain(TERMS), hold()));
    assert_eq!(drained(|it| it.other = OtherSlot::Confirmed([2; 32].into())).0, Action::Arm);
    // No pods, no cluster, or nothing to go back to.
    assert_eq!(drained(|it| it.has_joined = false).0, Action::Confirm);
    assert_eq!(drained(|it| it.settings = Some(settings("{}"))).0, Action::Confirm);
    let first = |it: &mut World| it.boot = BootState::PendingWithoutFallback;
    assert_eq!(drained(first).0, Action::Confirm);
}

#[test]
fn a_drain_that_came_to_nothing_is_tried_again_after_a_pause_or_an_order() {
    let failed = |version: &str, ago| {
        let (version, waiting) = (version.parse().unwrap(), "default/web".to_owned());
        Some(FailedDrain { version, waiting, failures: 1, ago })
    };
    let (action, holds) = drained(|it| it.failed_drain = failed("1.1.0", minutes(4)));
    assert_eq!((action, holds), (Action::Nothing, vec!["Drain".to_owned()]));
    for (version, ago, order) in [
        ("1.1.0", minutes(5), Order::None),
        ("1.0.9", minutes(4), Order::None),
        ("1.1.0", minutes(4), Order::Apply),
    ] {
        let tried = drained(|it| {
            (it.failed_drain, it.order) = (failed(version, ago), order);
        });
        assert_eq!(tried.0, Action::Drain(TERMS));
    }
}
