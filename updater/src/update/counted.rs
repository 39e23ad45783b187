//! Every boot is counted, that of a blessed release too: where the node ends.
//!
//! In: two slots with blessed releases, and what happens to their boots. Out: which one runs in the
//! end, under which name, and what is refused.

use contract::release::uki_name::Trust;
use contract::{Slot, UkiName};
use jiff::Timestamp;

use super::power_cuts::{Behaviour, Image, facts};
use super::*;
use crate::effects::fake::{Effect, FakeNode, Fault, Sizes};

fn name(text: &str) -> UkiName {
    format!("slipway-{text}.efi").parse().unwrap()
}

fn image(slot: Slot) -> Image {
    Image::new(if slot == Slot::A { "1.0.0" } else { "2.0.0" }, Behaviour::Good)
}

/// A node with 1.0.0 in slot A and 2.0.0 in slot B, both blessed as the journal has it.
fn node(a: &str, b: &str) -> FakeNode {
    let node = FakeNode::new(0, Sizes::default());
    let mut journal = Journal::new();
    journal.generation = 2;
    for uki in [a, b].map(name) {
        let image = image(uki.slot);
        image.install(&node, uki);
        let record =
            SlotRecord { release: image.id, uki: None, blessed: Some(Timestamp::UNIX_EPOCH) };
        journal.slots.insert(uki.slot, record);
    }
    journal.save(&node).unwrap();
    node
}

/// The next boot, which dies before slipwayd.
fn dies(node: &FakeNode) -> UkiName {
    let booted = node.boot().unwrap().name;
    node.cut_power_after(0);
    booted
}

/// The next boot, as far as slipwayd opens the journal.
fn opens(node: &FakeNode) -> (UkiName, Machine, Standing) {
    let boot = node.boot().unwrap();
    let facts = facts(boot.name.slot, &image(boot.name.slot).id, boot.boot_id);
    let (machine, standing) = Machine::open(node.effects(), facts).unwrap();
    (boot.name, machine, standing)
}

/// The next boot, which stands, and goes back if it may.
fn stands(node: &FakeNode) -> (UkiName, Result<Machine, UpdateError>) {
    let (booted, mut machine, standing) = opens(node);
    let outcome = match standing {
        Standing::Unproven(unproven) => machine.stood(unproven),
        Standing::Steady => Ok(()),
        other => panic!("{other:?}"),
    };
    let outcome = outcome.and_then(|()| match machine.weigh_other()? {
        Other::MayGoBack(lapsed) => {
            let armed = machine.go_back(lapsed)?;
            machine.restart(&armed)
        }
        Other::GivenUp(_) | Other::Rests => Ok(()),
    });
    (booted, outcome.map(|()| machine))
}

fn fallen_back(machine: &Machine) -> Vec<&Cause> {
    let history = machine.journal().history.iter();
    let causes = history.filter_map(|event| match &event.what {
        Happening::FellBack { cause } => Some(cause),
        _ => None,
    });
    causes.collect()
}

const LAPSED: Cause = Cause::Userspace { tries: 3, judging: false, blessed: true };

#[test]
fn a_boot_gets_its_tries_back_once_it_has_stood() {
    let node = node("000001-a+3-100", "000002-b+3-100");
    for _ in 0..10 {
        assert_eq!(dies(&node), name("000002-b+2-101"));
        let (booted, machine) = stands(&node);
        assert_eq!(booted, name("000002-b+1-102"));
        assert_eq!(machine.unwrap().journal().refusals, []);
        assert_eq!(node.ukis(), [name("000001-a+3-100"), name("000002-b+3-100")]);
    }
}

#[test]
fn tries_are_given_back_only_by_what_ran() {
    let node = node("000001-a+3-100", "000002-b+3-100");
    let (_, mut machine, standing) = opens(&node);
    let Standing::Unproven(unproven) = standing else { panic!("{standing:?}") };
    node.effects().esp.rename(&name("000002-b+2-101"), &name("000002-b")).unwrap();
    machine.stood(unproven).unwrap();
    assert_eq!(node.ukis(), [name("000001-a+3-100"), name("000002-b")]);
}

#[test]
fn three_power_cuts_lead_to_the_other_slot_and_back() {
    let node = node("000001-a+3-100", "000002-b+3-100");
    for counter in ["+2-101", "+1-102", "+0-103"] {
        assert_eq!(dies(&node), name(&format!("000002-b{counter}")));
    }
    let (booted, machine) = stands(&node);
    let machine = machine.unwrap();
    assert_eq!(booted, name("000001-a+2-101"));
    assert_eq!((fallen_back(&machine), &machine.journal().refusals), (vec![&LAPSED], &vec![]));
    assert!(!node.is_powered(), "it restarts");
    assert_eq!(node.ukis(), [name("000001-a+3-100"), name("000002-b+3-500")]);
    let (booted, machine) = stands(&node);
    assert_eq!(booted, name("000002-b+2-501"));
    assert!(node.is_powered());
    assert_eq!(machine.unwrap().journal().refusals, []);
    assert_eq!(node.ukis(), [name("000001-a+3-100"), name("000002-b+3-100")]);
}

#[test]
fn a_boot_that_has_not_stood_says_where_it_is_and_goes_nowhere() {
    let node = node("000001-a+3-100", "000002-b+0-103");
    let (_, machine, standing) = opens(&node);
    assert!(matches!(standing, Standing::Unproven(_)), "{standing:?}");
    assert_eq!(fallen_back(&machine), [&LAPSED]);
    assert_eq!(node.ukis(), [name("000001-a+2-101"), name("000002-b+0-103")]);
    // Nor does it say so twice.
    let (_, machine, _) = opens(&node);
    assert_eq!(fallen_back(&machine), [&LAPSED]);
}

#[test]
fn a_release_that_does_not_stand_after_it_got_its_tries_back_is_refused() {
    let node = node("000001-a+3-100", "000002-b+3-100");
    for _ in 0..3 {
        dies(&node);
    }
    stands(&node).1.unwrap();
    for counter in ["+2-501", "+1-502", "+0-503"] {
        assert_eq!(dies(&node), name(&format!("000002-b{counter}")));
    }
    let (booted, machine) = stands(&node);
    let mut machine = machine.unwrap();
    assert_eq!(booted, name("000001-a+2-101"));
    assert!(node.is_powered());
    assert_eq!(node.ukis(), [name("000001-a+3-100")]);
    assert_eq!(machine.journal().refusal(&image(Slot::B).id).unwrap().cause, LAPSED);
    assert_eq!(fallen_back(&machine), [&LAPSED, &LAPSED]);
    assert!(!machine.journal().slots.contains_key(&Slot::B));
    let plan = Plan { release: image(Slot::B).id };
    assert!(matches!(machine.disarm_target(&plan), Err(UpdateError::Refused(_))));
    machine.forget(Some(&plan.release.root_hash)).unwrap();
    assert!(machine.disarm_target(&plan).is_ok());
}

#[test]
fn a_release_that_stood_in_between_is_gone_back_to_again() {
    let node = node("000001-a+3-100", "000002-b+3-100");
    for _ in 0..4 {
        (0..3).for_each(|_| assert_eq!(dies(&node).slot, Slot::B));
        assert_eq!(stands(&node).0.slot, Slot::A);
        let (booted, machine) = stands(&node);
        assert_eq!(booted, name("000002-b+2-501"));
        assert_eq!(machine.unwrap().journal().refusals, []);
    }
}

#[test]
fn wherever_the_power_is_cut_on_the_way_back_it_ends_there_and_refuses_nothing() {
    let way = |cut: Option<usize>| {
        let node = node("000001-a+3-100", "000002-b+0-103");
        let start = node.log().len();
        for boot in 0..20 {
            if let (0, Some(cut)) = (boot, cut) {
                node.cut_power_after(cut);
            }
            let (booted, machine) = stands(&node);
            if node.is_powered() && booted.slot == Slot::B {
                assert_eq!(machine.unwrap().journal().refusals, [], "cut {cut:?}");
                return node.log().len() - start;
            }
        }
        panic!("cut {cut:?}: no end: {:?}", node.ukis());
    };
    let effects = way(None);
    assert!(effects > 6, "{effects}");
    for cut in 1..=effects {
        way(Some(cut));
    }
}

#[test]
fn names_of_before_are_those_of_blessed_releases_and_get_a_counter() {
    let node = node("000001-a", "000002-b");
    let (booted, mut machine, standing) = opens(&node);
    assert_eq!(booted, name("000002-b"));
    let Standing::Unproven(unproven) = standing else { panic!("{standing:?}") };
    machine.stood(unproven).unwrap();
    assert_eq!(node.ukis(), [name("000001-a+3-100"), name("000002-b+3-100")]);
    assert!(matches!(machine.standing().unwrap(), Standing::Steady));
}

/// A release of before takes a blessed name with a counter for one on trial, and removes it.
#[test]
fn what_arms_another_release_is_no_longer_counted() {
    let node = node("000001-a+3-100", "000002-b+3-100");
    let (_, mut machine, standing) = opens(&node);
    let Standing::Unproven(unproven) = standing else { panic!("{standing:?}") };
    machine.stood(unproven).unwrap();
    let armed = machine.roll_back().unwrap();
    assert_eq!(armed.name(), name("000003-a+3"));
    assert_eq!(node.ukis(), [name("000002-b"), name("000003-a+3")]);
}

#[test]
fn a_release_that_was_rolled_back_stays_refused_while_it_stands_in() {
    let node = node("000003-a+0-103", "000002-b+3-100");
    let mut journal = Journal::load(&node).unwrap().0;
    let release = image(Slot::B).id;
    let cause = Cause::RolledBack;
    journal.refuse(Refusal { release: release.clone(), cause, at: Timestamp::UNIX_EPOCH });
    journal.save(&node).unwrap();
    let (booted, machine) = stands(&node);
    assert_eq!(booted, name("000002-b+2-101"));
    assert!(machine.unwrap().journal().refusal(&release).is_some());
    let (booted, machine) = stands(&node);
    assert_eq!(booted, name("000003-a+2-501"));
    assert!(machine.unwrap().journal().refusal(&release).is_some());
}

#[test]
fn two_slots_without_tries_do_not_leave_the_node_with_one_that_dies() {
    // Whichever of them is dead for good, and the other one only had power cuts.
    for dead in [Slot::A, Slot::B] {
        for cuts in 0..12 {
            let node = node("000001-a+1-102", "000002-b+0-103");
            let mut cuts_left = cuts;
            let end = (0..60).find_map(|_| {
                let boot = node.boot().unwrap();
                if boot.name.slot == dead {
                    node.cut_power_after(0);
                    return None;
                }
                let facts = facts(boot.name.slot, &image(boot.name.slot).id, boot.boot_id);
                let (mut machine, standing) = Machine::open(node.effects(), facts).unwrap();
                if cuts_left > 0 {
                    cuts_left -= 1;
                    node.cut_power_after(0);
                    return None;
                }
                if let Standing::Unproven(unproven) = standing {
                    machine.stood(unproven).unwrap();
                }
                match machine.weigh_other().unwrap() {
                    Other::MayGoBack(lapsed) => {
                        let armed = machine.go_back(lapsed).unwrap();
                        machine.restart(&armed).unwrap();
                        None
                    }
                    Other::GivenUp(_) | Other::Rests => Some(boot.name),
                }
            });
            let end = end.unwrap_or_else(|| panic!("dead {dead}, {cuts} cuts: {:?}", node.ukis()));
            assert_ne!(end.slot, dead);
        }
    }
}

#[test]
fn a_release_that_was_rolled_back_stays_refused_when_the_restart_fails() {
    let node = node("000001-a+3-100", "000002-b+3-100");
    let mut machine = stands(&node).1.unwrap();
    let _armed = machine.roll_back().unwrap();
    let facts = facts(Slot::B, &image(Slot::B).id, node.boot_id());
    let (machine, standing) = Machine::open(node.effects(), facts).unwrap();
    assert!(matches!(standing, Standing::Armed(_)), "{standing:?}");
    assert!(machine.journal().refusal(&image(Slot::B).id).is_some());
}

#[test]
fn a_cut_before_another_release_is_armed_leaves_starts_that_are_counted() {
    let node = node("000001-a+3-100", "000002-b");
    for counter in ["+2-101", "+1-102", "+0-103"] {
        let (booted, ..) = opens(&node);
        assert_eq!(booted.slot, Slot::B);
        assert!(node.ukis().contains(&name(&format!("000002-b{counter}"))), "{:?}", node.ukis());
        node.cut_power_after(0);
    }
    assert_eq!(stands(&node).0.slot, Slot::A);
}

#[test]
fn the_newer_of_two_slots_without_tries_lets_the_older_try() {
    let node = node("000001-a+0-103", "000002-b+0-103");
    let (booted, ..) = opens(&node);
    assert_eq!(booted, name("000002-b+0-104"));
    assert_eq!(node.ukis(), [name("000001-a+1-103"), name("000002-b+0-104")]);
    // It dies while it settles, and the older stands.
    node.cut_power_after(0);
    assert_eq!(stands(&node).0.slot, Slot::A);
    assert_eq!(node.ukis(), [name("000001-a+3-100"), name("000002-b+3-500")]);
}

#[test]
fn a_first_slot_that_was_never_found_good_goes_back_too() {
    let node = node("000001-a+3", "000002-b+0-103");
    let (booted, mut machine, standing) = opens(&node);
    assert_eq!(booted, name("000001-a+2-1"));
    let Standing::Pending(pending) = standing else { panic!("{standing:?}") };
    assert!(pending.other_lapsed() && !pending.can_fall_back());
    let Other::MayGoBack(lapsed) = machine.weigh_other().unwrap() else { panic!("it may") };
    assert_eq!(lapsed.record().unwrap().release, image(Slot::B).id);
    assert_eq!(machine.go_back(lapsed).unwrap().name(), name("000002-b+3-500"));
    assert_eq!(node.boot().unwrap().name, name("000002-b+2-501"));
}

#[test]
fn a_rotten_slot_is_discarded_and_its_release_not_refused() {
    let node = node("000001-a+3-100", "000002-b+0-103");
    let (_, mut machine, standing) = opens(&node);
    let Standing::Unproven(unproven) = standing else { panic!("{standing:?}") };
    machine.stood(unproven).unwrap();
    let Other::MayGoBack(lapsed) = machine.weigh_other().unwrap() else { panic!("it may") };
    machine.discard(lapsed).unwrap();
    assert_eq!(node.ukis(), [name("000001-a+3-100")]);
    assert_eq!(machine.journal().refusals, []);
    assert!(machine.disarm_target(&Plan { release: image(Slot::B).id }).is_ok());
}

/// Without a journal nothing can be refused: what used up both goes, and is staged on trial.
#[test]
fn without_a_journal_the_names_alone_lead_back() {
    let node = node("000001-a+3-100", "000002-b+0-103");
    Journal::give_up(&node).unwrap();
    stands(&node).1.unwrap();
    assert_eq!(node.ukis(), [name("000001-a+3-100"), name("000002-b+3-500")]);
    (0..3).for_each(|_| assert_eq!(dies(&node).trust(), Trust::GivenBack));
    let machine = stands(&node).1.unwrap();
    assert_eq!(node.ukis(), [name("000001-a+3-100")]);
    assert_eq!(machine.journal().refusals, []);
}

#[test]
fn a_partition_that_takes_no_rename_only_keeps_the_tries() {
    let node = node("000001-a+3-100", "000002-b+3-100");
    let (_, mut machine, standing) = opens(&node);
    let Standing::Unproven(unproven) = standing else { panic!("{standing:?}") };
    node.disturb(|effect| matches!(effect, Effect::Rename(..)).then_some(Fault::Device));
    assert!(matches!(machine.stood(unproven), Err(UpdateError::Esp { .. })));
    assert!(matches!(machine.standing().unwrap(), Standing::Unproven(_)));
}
