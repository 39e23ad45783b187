//! A boot that has stood, and one that has not.

use super::*;
use crate::policy::{BootState, Hold};

/// Slot A runs, beside a newer slot B that used up its tries.
pub fn beside_a_lapsed_one() -> FakeNode {
    let node = FakeNode::new(0, Sizes::default());
    for name in ["slipway-000002-a+1-102.efi", "slipway-000003-b+0-103.efi"] {
        node.install_uki(name.parse().unwrap(), b"uki");
    }
    node
}

/// Slot A runs in a boot that has not stood, beside an older slot B.
pub fn unproven() -> FakeNode {
    let node = FakeNode::new(0, Sizes::default());
    for name in ["slipway-000001-b.efi", "slipway-000002-a+1-102.efi"] {
        node.install_uki(name.parse().unwrap(), b"uki");
    }
    node
}

fn names(names: [&str; 2]) -> [contract::UkiName; 2] {
    names.map(|name| name.parse().unwrap())
}

/// Waits until the boot has stood, and does what policy decides then.
async fn stand(conductor: &mut Conductor, mut step: Step) -> Step {
    assert_eq!(step.boot_state(), BootState::Unproven);
    let event = step.event().await;
    assert!(matches!(event, Event::Stood), "{event:?}");
    let step = conductor.advance(step, event).await;
    conductor.follow(step).await.0
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_others_costs_no_tries() {
    let node = unproven();
    let mut conductor = conductor(&node);
    let step = opened(&mut conductor).await;
    // No probe is ever well here.
    let step = stand(&mut conductor, step).await;
    assert_eq!(step.boot_state(), BootState::Blessed);
    assert_eq!(node.ukis(), names(["slipway-000001-b+3-100.efi", "slipway-000002-a+3-100.efi"]));
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_channel_goes_back_once_it_has_stood() {
    let node = beside_a_lapsed_one();
    let mut conductor = conductor(&node);
    let step = opened(&mut conductor).await;
    // It had few tries left, so both have some until then.
    assert_eq!(node.ukis(), names(["slipway-000002-a+2-101.efi", "slipway-000003-b+1-103.efi"]));
    let step = stand(&mut conductor, step).await;
    assert_eq!(node.ukis(), names(["slipway-000002-a+3-100.efi", "slipway-000003-b+3-500.efi"]));
    assert!(step.is_leaving());
}

/// The wanted release lapsed in slot B; the group allows a restart at no time of this test.
fn beside_the_wanted_one() -> (FakeNode, Conductor) {
    let node = beside_a_lapsed_one();
    let mut journal = Journal::new();
    let (version, root_hash) = (NEWER.0.parse().unwrap(), RootHash::from(NEWER.1));
    let release = ReleaseId { version, root_hash };
    let record = SlotRecord { release, uki: None, blessed: Some(Timestamp::UNIX_EPOCH) };
    journal.slots.insert(Slot::B, record);
    journal.save(&node).unwrap();
    let mut conductor = conductor(&node);
    give_settings(&mut conductor, serde_json::json!({}));
    offer_newer(&mut conductor, first_boot::CLOSED);
    (node, conductor)
}

#[tokio::test(start_paused = true)]
async fn it_goes_back_in_its_window_and_says_meanwhile_why_it_is_here() {
    let (_, mut conductor) = beside_the_wanted_one();
    let step = opened(&mut conductor).await;
    let is_lapse = |hold: &Hold| matches!(hold, Hold::Lapsed { version: Some(_) });
    let (step, decision) = conductor.follow(step).await;
    assert!(decision.holds.iter().any(is_lapse), "{:?}", decision.holds);
    let step = stand(&mut conductor, step).await;
    let holds = conductor.parts.board.read().holds;
    assert!(holds.iter().any(is_lapse), "{holds:?}");
    assert!(holds.iter().any(|hold| matches!(hold, Hold::Window { .. })), "{holds:?}");
    let idle = idle(step);
    assert!(matches!(idle.ready, Some(Ready::Lapsed(_))), "the way back is lost");
    // What an operator orders passes the window; the slot is read before, and is rotten here.
    conductor.wishes.order = Order::Apply;
    let follow = conductor.follow(Step::Idle(idle));
    let (step, decision) = tokio::task::LocalSet::new().run_until(follow).await;
    assert!(matches!(step, Step::Staging { .. }), "{decision:?}");
    let refusals = step.machine().unwrap().read(|machine| machine.journal().refusals.clone());
    assert_eq!(refusals, [], "the release is not to blame");
}

#[tokio::test(start_paused = true)]
async fn a_pinned_node_stays_where_it_is() {
    let node = beside_a_lapsed_one();
    let mut conductor = conductor(&node);
    conductor.wishes.pin = Pin::Release(conductor.parts.facts.version.clone());
    let step = opened(&mut conductor).await;
    let step = stand(&mut conductor, step).await;
    assert_eq!(node.ukis(), names(["slipway-000002-a+3-100.efi", "slipway-000003-b+1-103.efi"]));
    assert_eq!(step.boot_state(), BootState::Blessed);
    assert!(!step.is_leaving());
}

#[tokio::test(start_paused = true)]
async fn a_rotten_slot_is_not_gone_back_to() {
    // The slot is empty, and so not what was installed.
    let node = beside_a_lapsed_one();
    let mut journal = Journal::new();
    let blessed = Some(Timestamp::UNIX_EPOCH);
    journal.slots.insert(Slot::B, SlotRecord { release: release("3.0.0", 3), uki: None, blessed });
    journal.save(&node).unwrap();
    let mut conductor = conductor(&node);
    let step = opened(&mut conductor).await;
    let step = stand(&mut conductor, step).await;
    assert_eq!(node.ukis(), ["slipway-000002-a+3-100.efi".parse().unwrap()]);
    let machine = &idle(step).boot.machine;
    let refusals = machine.read(|machine| machine.journal().refusals.clone());
    assert_eq!(refusals, [], "the release is not to blame");
}

#[tokio::test(start_paused = true)]
async fn a_first_boot_that_was_never_blessed_goes_back_too() {
    let node = FakeNode::new(0, Sizes::default());
    for name in ["slipway-000001-a+2-1.efi", "slipway-000002-b+0-103.efi"] {
        node.install_uki(name.parse().unwrap(), b"uki");
    }
    let mut conductor = conductor(&node);
    let step = opened(&mut conductor).await;
    let step = stand(&mut conductor, step).await;
    assert_eq!(node.ukis(), names(["slipway-000001-a+2-1.efi", "slipway-000002-b+3-500.efi"]));
    assert!(step.is_leaving());
}
