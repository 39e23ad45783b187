//! Orders that a rule forbids, and what a node says that cannot read what it was told.

use contract::channel::route::Mark;
use contract::node::api::Rule;

use super::*;
use crate::effects::StateStore;

fn rules(conductor: &Conductor) -> Vec<Rule> {
    conductor.parts.board.read().holds.iter().map(policy::Hold::rule).collect()
}

#[tokio::test]
async fn nobody_goes_back_to_what_the_channel_blocks() {
    let node = node();
    let mut conductor = conductor(&node);
    let mut found = crate::channel::tests::found(NEWER.0, r#"{"channel": "stable"}"#);
    let reason = "it loses volumes".to_owned();
    found.marks.blocked.push(Mark { release: "1.0.0".parse().unwrap(), reason });
    conductor.watch.pretend_for_a_test(found);
    let step = opened(&mut conductor).await;
    let (step, answer) = conductor.act(step, Action::Rollback).await;
    let refusal = answer.unwrap_err();
    assert_eq!(refusal.code, Code::Held);
    assert!(refusal.message.contains("1.0.0") && refusal.message.contains("loses volumes"));
    assert!(refusal.next.contains("slipway channel unblock"), "{}", refusal.next);
    assert!(!step.is_leaving() && !node.log().iter().any(|it| matches!(it, Effect::Rename(..))));
    conductor.watch = Watch::default();
    let (step, answer) = conductor.act(step, Action::Rollback).await;
    assert_eq!(answer.unwrap().started, Started::Yes);
    assert!(step.is_leaving());
}

#[tokio::test]
async fn a_pin_that_cannot_be_read_holds_the_node_until_it_is_given_again() {
    let node = node();
    node.save("pin.json", b"{\"version\": ").unwrap();
    let mut conductor = conductor(&node);
    give_settings(&mut conductor, serde_json::json!({"mode": "manual"}));
    offer_newer(&mut conductor, r#"{"channel": "stable"}"#);
    conductor.read_pin().await;
    let step = opened(&mut conductor).await;
    let step = conductor.round(step).await;
    assert!(idle(step).ready.is_none());
    assert_eq!(rules(&conductor), [Rule::Pinned]);
    let sentence = conductor.parts.board.read().holds[0].to_string();
    assert!(sentence.contains("cannot be read") && sentence.contains("slipway node unpin"));
    // Taken away, it is absent, and what was read counts.
    let step = opened(&mut conductor).await;
    let (step, _) = conductor.act(step, Action::Unpin).await;
    let _step = conductor.round(step).await;
    assert_eq!(rules(&conductor), [Rule::Manual]);
}

#[tokio::test]
async fn a_node_whose_journal_cannot_be_opened_says_so() {
    let node = node();
    node.save("update.json", b"{\"schema\": 99}").unwrap();
    let mut conductor = conductor(&node);
    let step = conductor.round(Step::opening()).await;
    assert!(matches!(step, Step::Opening { .. }));
    assert_eq!(rules(&conductor)[0], Rule::Journal);
    let problem = conductor.parts.board.read().problem.unwrap();
    assert_eq!(problem.kind, ProblemKind::Journal);
    let (step, answer) = conductor.act(step, Action::Clear(None)).await;
    assert_eq!(answer.unwrap().started, Started::Yes);
    let _step = conductor.round(step).await;
    assert!(!rules(&conductor).contains(&Rule::Journal), "{:?}", rules(&conductor));
}
