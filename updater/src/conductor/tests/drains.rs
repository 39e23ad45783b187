//! Drains: what a node says meanwhile, when it tries again, and when it goes on all the same.

use contract::channel::group::{Drain as Terms, DrainPolicy};
use contract::node::api::Rule;
use jiff::SignedDuration;

use super::*;
use crate::policy::Action as Next;

/// A conductor with a cluster that nobody answers for, and a staged release to apply.
async fn about_to_apply(node: &FakeNode, group: &str) -> (Conductor, Step) {
    let mut conductor = conductor(node);
    let cluster = serde_json::json!({"kubernetes":
        {"server": "https://127.0.0.1:1", "certificateAuthority": ""}});
    give_settings(&mut conductor, cluster);
    offer_newer(&mut conductor, group);
    node.join(b"a certificate and its key");
    conductor.wishes.order = Order::Apply;
    let boot = idle(opened(&mut conductor).await).boot;
    let staged = forge_staged(node, &boot).await;
    (conductor, Step::Idle(Idle::with(boot, Some(Ready::Staged(staged)))))
}

const WAIT: &str = r#"{"channel": "stable", "drain": {"deadline": "1m", "then": "wait"}}"#;
const RESTART: &str = r#"{"channel": "stable", "drain": {"deadline": "1m", "then": "restart"}}"#;
const NONE: &str = r#"{"channel": "stable"}"#;

/// Begins a drain, and has it end badly.
async fn drain(conductor: &mut Conductor, step: Step) -> Step {
    let (step, decision) = conductor.follow(step).await;
    assert!(matches!(step, Step::Draining { .. }), "{:?}", decision.holds);
    assert!(!step.is_busy() && !step.takes_pods());
    assert_eq!(decision.holds.last().unwrap().rule(), Rule::Drain);
    conductor.advance(step, Event::Drained(Err("default/web".to_owned()))).await
}

#[tokio::test(start_paused = true)]
async fn a_node_that_waits_tries_again_later_or_when_told_to() {
    let node = node();
    let (mut conductor, step) = about_to_apply(&node, WAIT).await;
    let step = drain(&mut conductor, step).await;
    let problem = conductor.parts.board.read().problem.unwrap();
    assert!(problem.message.contains(NEWER.0), "{problem:?}");
    assert!(conductor.wishes.order == Order::None, "an order is one try");

    // Nothing else passes the pause, and an order does.
    let failed = conductor.drainer.failed().unwrap();
    assert_eq!((failed.failures, failed.waiting.as_str()), (1, "default/web"));
    conductor.wishes.order = Order::Apply;
    let step = drain(&mut conductor, step).await;
    assert_eq!(conductor.drainer.failed().unwrap().failures, 2);
    tokio::time::advance(Duration::from_secs(90)).await;
    assert!(conductor.drainer.failed().unwrap().ago >= Duration::from_secs(90));
    assert!(idle(step).ready.is_some());
}

#[tokio::test]
async fn a_node_that_does_not_wait_reads_what_is_staged_after_the_deadline() {
    let node = node();
    let (mut conductor, step) = about_to_apply(&node, RESTART).await;
    let step = drain(&mut conductor, step).await;
    let (step, decision) = conductor.follow(step).await;
    assert_eq!(decision.action, Next::Confirm, "it is drained twice");
    assert!(matches!(step, Step::Confirming { .. }));
}

#[tokio::test]
async fn a_drain_ends_when_it_is_not_asked_for_any_more() {
    let node = node();
    let (mut conductor, step) = about_to_apply(&node, WAIT).await;
    let (step, _) = conductor.follow(step).await;
    assert!(matches!(step, Step::Draining { .. }));
    // It goes on as long as the same is asked for.
    let (step, _) = conductor.follow(step).await;
    assert!(matches!(step, Step::Draining { .. }));
    offer_newer(&mut conductor, r#"{"channel": "stable", "paused": "wait for the new switch"}"#);
    let (step, decision) = conductor.follow(step).await;
    assert_eq!(decision.action, Next::Nothing);
    assert!(step.takes_pods() && idle(step).ready.is_some(), "what was staged is lost");
}

#[tokio::test]
async fn a_group_without_a_drain_goes_on_at_once() {
    let node = node();
    let (mut conductor, step) = about_to_apply(&node, WAIT).await;
    let (step, _) = conductor.follow(step).await;
    offer_newer(&mut conductor, NONE);
    let (step, _) = conductor.follow(step).await;
    assert!(matches!(step, Step::Confirming { .. }));
}

#[tokio::test]
async fn what_a_drain_was_for_counts_for_one_decision() {
    let node = node();
    let (mut conductor, step) = about_to_apply(&node, WAIT).await;
    let (step, _) = conductor.follow(step).await;
    let step = conductor.advance(step, Event::Drained(Ok(()))).await;
    assert!(!step.takes_pods(), "the restart is near");
    offer_newer(&mut conductor, r#"{"channel": "stable", "paused": "wait for the new switch"}"#);
    let (step, _) = conductor.follow(step).await;
    assert!(step.takes_pods() && idle(step).drained.is_none());
}

#[tokio::test]
async fn a_drain_that_nobody_holds_any_more_ends() {
    let node = node();
    let (mut conductor, _step) = about_to_apply(&node, WAIT).await;
    let terms = Terms { deadline: SignedDuration::from_hours(1), then: DrainPolicy::Wait };
    let release = (NEWER.0.parse().unwrap(), RootHash::from(NEWER.1));
    let cluster = conductor.cluster().unwrap();
    let drain = conductor.drainer.begin(cluster, release, terms, Timestamp::UNIX_EPOCH);
    drop(drain);
    // It would wait for an hour.
    conductor.drainer.rest_for_a_test().await;
}
