//! Single steps, and what is refused.

use contract::release::uki_name::MAX_GENERATION;
use contract::{Slot, UkiName};

use super::journal::{DAMAGED, DOCUMENT, JournalCondition, JournalError, MAX_EVENTS};
use super::marks::{self, Marks};
use super::power_cuts::{Behaviour, Image, facts};
use super::settle::Evidence;
use super::*;
use crate::effects::Variable;
use crate::effects::boot::BootId;
use crate::effects::fake::{Effect, FakeNode, Fault, Sizes};
use crate::secure_boot::{SecureBootError, testing};

fn name(text: &str) -> UkiName {
    format!("slipway-{text}.efi").parse().unwrap()
}

fn old() -> Image {
    Image::new("1.0.0", Behaviour::Good)
}

fn new() -> Image {
    Image::new("2.0.0", Behaviour::Good)
}

fn plan() -> Plan {
    Plan { release: new().id }
}

/// Boots a node whose slot A holds 1.0.0 under a given name.
fn booted(uki: &str) -> FakeNode {
    let node = FakeNode::new(0, Sizes::default());
    old().install(&node, name(uki));
    node.boot().unwrap();
    node
}

fn open(node: &FakeNode) -> (Machine, Standing) {
    Machine::open(node.effects(), facts(Slot::A, &old().id, node.boot_id())).unwrap()
}

fn steady(node: &FakeNode) -> Machine {
    let (machine, standing) = open(node);
    assert!(matches!(standing, Standing::Steady | Standing::Unproven(_)), "{standing:?}");
    machine
}

fn pending(node: &FakeNode) -> (Machine, Pending) {
    match open(node) {
        (machine, Standing::Pending(pending)) => (machine, pending),
        (_, standing) => panic!("{standing:?}"),
    }
}

fn stage(machine: &mut Machine, node: &FakeNode) -> crate::staging::Staged {
    let disarmed = machine.disarm_target(&plan()).unwrap();
    new().stage(&node.effects(), disarmed).unwrap()
}

fn boot_id(number: u128) -> BootId {
    BootId::from_u128(number)
}

fn installation(text: &str, armed_in: u128) -> Installation {
    let name = name(text);
    Installation {
        release: new().id,
        slot: name.slot,
        generation: name.generation,
        armed_in: boot_id(armed_in),
    }
}

/// The cause that the old slot, in boot 9, finds for generation 2 armed in boot 5.
fn cause(phase: Phase, uki: &str, marks: &[u128]) -> Option<Cause> {
    let mut journal = Journal::new();
    journal.phase = phase;
    let facts = facts(Slot::A, &old().id, boot_id(9));
    let lines: String = marks.iter().map(|boot| format!("{}\n", boot_id(*boot))).collect();
    let marks = Marks::parse(lines.as_bytes());
    let ukis = [name("000001-a"), name(uki)];
    let evidence = Evidence { journal: &journal, ukis: &ukis, facts: &facts, marks: &marks };
    let settled = evidence.settle();
    assert_eq!(settled.remove.is_empty(), ukis[1].tries.is_none());
    settled.fell_back.map(|(_, cause)| cause)
}

#[test]
fn a_partition_that_came_too_late_is_mounted() {
    let node = booted("000001-a");
    node.unmount_esp();
    let _machine = steady(&node);
}

#[test]
fn the_traces_tell_how_far_a_release_got() {
    let armed = || Phase::Armed { installation: installation("000002-b", 5) };
    assert_eq!(cause(armed(), "000002-b+3", &[5, 9]), Some(Cause::Loader));
    assert_eq!(cause(armed(), "000002-b+0-3", &[4, 5, 9]), Some(Cause::Kernel { tries: 3 }));
    let userspace = Cause::Userspace { tries: 3, judging: false, blessed: false };
    assert_eq!(cause(armed(), "000002-b+0-3", &[4, 5, 7, 9]), Some(userspace));
    let judged = Phase::Pending { installation: installation("000002-b", 5), failing: None };
    let judging = Cause::Userspace { tries: 2, judging: true, blessed: false };
    assert_eq!(cause(judged, "000002-b+1-2", &[5, 7, 9]), Some(judging));
    let failure = Failure::new("containerd", "NetworkReady is false");
    let phase =
        Phase::Condemned { installation: installation("000002-b", 5), failure: failure.clone() };
    assert_eq!(cause(phase, "000002-b+0-1", &[5, 7, 9]), Some(Cause::Verdict(failure)));
    assert_eq!(cause(armed(), "000002-b", &[5, 7, 9]), None, "a blessed one did not fail");
}

#[test]
fn an_armed_slot_in_the_same_boot_only_needs_the_restart() {
    let node = booted("000001-a");
    let mut machine = steady(&node);
    let staged = stage(&mut machine, &node);
    let armed = machine.arm(staged.confirmed_for_a_test(), &|_, _| Ok(())).unwrap();
    assert_eq!(armed.name(), name("000002-b+3"));
    let (_, standing) = open(&node);
    assert!(matches!(standing, Standing::Armed(armed) if armed.name() == name("000002-b+3")));
}

#[test]
fn settings_go_to_the_target_before_it_is_armed() {
    let node = booted("000001-a");
    let mut machine = steady(&node);
    let staged = stage(&mut machine, &node);
    let failed = |_, _| Err(std::io::Error::other("full"));
    let error = machine.arm(staged.confirmed_for_a_test(), &failed).unwrap_err();
    assert!(matches!(error, UpdateError::Settings { slot: Slot::B, .. }), "{error}");
    assert_eq!(node.ukis(), [name("000001-a+2-101")]);
    let staged = stage(&mut machine, &node);
    let store = node.effects().state;
    let carry = |_: crate::effects::BootedSlot, _: crate::effects::TargetSlot| {
        store.save("settings-b.json", b"{}")
    };
    let _armed = machine.arm(staged.confirmed_for_a_test(), &carry).unwrap();
    let log = node.log();
    let at = |effect: &Effect| log.iter().rposition(|one| one == effect).unwrap();
    let saved = at(&Effect::Save("settings-b.json".into()));
    assert!(saved < at(&Effect::RenameTemporary(name("000002-b+3"))));
}

#[test]
fn a_step_returns_only_when_its_name_is_on_the_device() {
    let node = booted("000001-a");
    let mut machine = steady(&node);
    let staged = stage(&mut machine, &node);
    let _armed = machine.arm(staged.confirmed_for_a_test(), &|_, _| Ok(())).unwrap();
    assert_eq!(node.log().last(), Some(&Effect::SyncEsp));
    let node = booted("000001-a+3");
    let (mut machine, on_trial) = pending(&node);
    machine.bless(on_trial).unwrap();
    let log = node.log();
    let renamed = Effect::Rename(name("000001-a+2-1"), name("000001-a+3-100"));
    let at = log.iter().position(|effect| *effect == renamed).unwrap();
    assert_eq!(log[at + 1..], [Effect::SyncEsp, Effect::Save(DOCUMENT.into())]);
}

#[test]
fn a_blessing_whose_sync_failed_lasts_before_the_other_slot_is_taken() {
    let node = booted("000001-a+3");
    let (mut machine, on_trial) = pending(&node);
    node.disturb(|effect| (*effect == Effect::SyncEsp).then_some(Fault::Device));
    assert!(matches!(machine.bless(on_trial), Err(UpdateError::Esp { .. })));
    let mut machine = steady(&node);
    let removed = Effect::Remove(name("000002-b+3"));
    node.install_uki(name("000002-b+3"), b"another");
    assert!(matches!(machine.disarm_target(&plan()), Err(UpdateError::Esp { .. })));
    assert!(!node.log().contains(&removed), "nothing goes before that lasts");
    node.stop_disturbing();
    let _disarmed = machine.disarm_target(&plan()).unwrap();
    let log = node.log();
    let at = log.iter().position(|effect| *effect == removed).unwrap();
    assert_eq!(log[at - 1], Effect::SyncEsp);
}

#[test]
fn a_refused_release_is_not_staged_until_it_is_cleared() {
    let node = booted("000001-a");
    let mut machine = steady(&node);
    let at = node.effects().clock.now();
    machine.journal.refuse(Refusal { release: new().id, cause: Cause::Loader, at });
    let error = machine.disarm_target(&plan()).unwrap_err().to_string();
    assert!(error.contains("2.0.0") && error.contains("slipway node clear"), "{error}");
    assert_eq!(machine.forget(Some(&new().id.root_hash)).unwrap().len(), 1);
    assert!(machine.disarm_target(&plan()).is_ok());
    assert_eq!(steady(&node).journal().refusals, []);
}

#[test]
fn a_fallback_is_not_overwritten_before_the_verdict() {
    let node = booted("000003-a+3");
    Image::new("0.9.0", Behaviour::Good).install(&node, name("000002-b"));
    let (mut machine, on_trial) = pending(&node);
    assert!(on_trial.can_fall_back());
    let error = machine.disarm_target(&plan()).unwrap_err();
    assert!(matches!(error, UpdateError::NotYetJudged), "{error}");
    let blessed = machine.bless(on_trial).unwrap();
    assert_eq!(blessed.name(), name("000003-a+3-100"));
    assert_eq!(node.ukis(), [name("000002-b+3-100"), name("000003-a+3-100")]);
    assert!(machine.disarm_target(&plan()).is_ok());
}

#[test]
fn a_boot_without_a_fallback_goes_on_and_can_be_updated() {
    let node = booted("000001-a+1-2");
    let (mut machine, on_trial) = pending(&node);
    assert_eq!(on_trial.name(), name("000001-a+0-3"));
    assert!(!on_trial.can_fall_back());
    let failure = Failure::new("kubelet", "no answer");
    let condemnation = machine.condemn(on_trial, failure.clone()).unwrap();
    assert!(matches!(condemnation, Condemnation::NoFallback(_)));
    assert!(node.is_powered() && node.ukis() == [name("000001-a+0-3")]);
    let Phase::Pending { failing, .. } = &machine.journal().phase else { panic!() };
    assert_eq!(failing.as_ref(), Some(&failure));
    let staged = stage(&mut machine, &node);
    let _armed = machine.arm(staged.confirmed_for_a_test(), &|_, _| Ok(())).unwrap();
    // With its tries renewed the old one is a fallback, although it was never found good.
    assert_eq!(node.ukis(), [name("000001-a+3"), name("000002-b+3")]);
}

#[test]
fn a_boot_that_was_never_found_good_outlives_a_bad_update_and_many_restarts() {
    let node = booted("000001-a+2-1");
    let (mut machine, _) = pending(&node);
    let staged = stage(&mut machine, &node);
    let _armed = machine.arm(staged.confirmed_for_a_test(), &|_, _| Ok(())).unwrap();
    for tries in ["+2-1", "+1-2", "+0-3"] {
        assert_eq!(node.boot().unwrap().name, name(&format!("000002-b{tries}")));
        node.cut_power_after(0);
    }
    for boot in 0..5 {
        assert_eq!(node.boot().unwrap().name.slot, Slot::A);
        if boot == 0 {
            // Nor does a partition that refuses the removal keep it from being judged.
            node.disturb(|effect| matches!(effect, Effect::Remove(_)).then_some(Fault::Device));
        }
        let (machine, _) = pending(&node);
        assert!(machine.journal().refusal(&new().id).is_some());
    }
    assert_eq!(node.ukis(), [name("000001-a+0-5")]);
}

#[test]
fn marks_that_cannot_be_read_or_cut_do_not_end_updates() {
    let node = booted("000001-a");
    (0..300).for_each(|number| node.append(marks::DOCUMENT, &format!("{}\n", boot_id(number))));
    let full =
        |effect: &Effect| (*effect == Effect::Save(marks::DOCUMENT.into())).then_some(Fault::Full);
    node.disturb(full);
    let _machine = steady(&node);
    node.make_unreadable(marks::DOCUMENT);
    let _machine = steady(&node);
}

#[test]
fn a_journal_that_the_device_cannot_read_can_be_given_up() {
    let node = booted("000001-a");
    drop(steady(&node));
    node.make_unreadable(DOCUMENT);
    let opened = Machine::open(node.effects(), facts(Slot::A, &old().id, node.boot_id()));
    assert!(matches!(opened, Err(UpdateError::Journal(JournalError::Load(_)))));
    Journal::give_up(&node).unwrap();
    let _machine = steady(&node);
}

#[test]
fn a_full_state_partition_keeps_no_boot_from_its_verdict() {
    let full = |effect: &Effect| matches!(effect, Effect::Save(_)).then_some(Fault::Full);
    let node = booted("000003-a+3");
    Image::new("0.9.0", Behaviour::Good).install(&node, name("000002-b"));
    node.disturb(full);
    let (mut machine, on_trial) = pending(&node);
    assert!(machine.is_unsaved());
    let condemnation = machine.condemn(on_trial, Failure::new("kubelet", "no answer")).unwrap();
    let Condemnation::Restarting { unrecorded: Some(error) } = condemnation else {
        panic!("{condemnation:?}")
    };
    assert!(matches!(error, UpdateError::Journal(JournalError::Save(_))));
    assert!(!node.is_powered());
    assert_eq!(node.boot().unwrap().name, name("000002-b"));
}

#[test]
fn a_partition_that_takes_no_rename_does_not_keep_a_bad_boot_up() {
    let node = booted("000003-a+3");
    Image::new("0.9.0", Behaviour::Good).install(&node, name("000002-b"));
    let (mut machine, on_trial) = pending(&node);
    node.disturb(|effect| matches!(effect, Effect::Rename(..)).then_some(Fault::Device));
    let condemnation = machine.condemn(on_trial, Failure::new("kubelet", "no answer")).unwrap();
    assert!(matches!(condemnation, Condemnation::Restarting { unrecorded: Some(_) }));
    assert!(!node.is_powered());
}

#[test]
fn a_full_esp_leaves_the_running_slot_as_it_was() {
    let sizes = Sizes { esp: 12 << 10, ..Sizes::default() };
    let node = FakeNode::new(0, sizes);
    old().install(&node, name("000001-a"));
    node.boot().unwrap();
    let mut machine = steady(&node);
    let disarmed = machine.disarm_target(&plan()).unwrap();
    let error = new().stage(&node.effects(), disarmed).unwrap_err();
    assert!(matches!(error, UpdateError::Esp { .. }), "{error}");
    let boot = node.boot().unwrap();
    assert_eq!((boot.name, boot.uki), (name("000001-a+1-102"), old().uki(Slot::A)));
    assert_eq!(steady(&node).journal().phase, Phase::Steady);
}

#[test]
fn rolling_back_needs_a_slot_that_was_good() {
    let node = booted("000001-a");
    let error = steady(&node).roll_back().unwrap_err();
    assert!(matches!(error, UpdateError::NothingToRollBackTo), "{error}");
    // A UKI of which nothing is known is not enough.
    new().install(&node, name("000002-b"));
    let error = steady(&node).roll_back().unwrap_err();
    assert!(matches!(error, UpdateError::NothingToRollBackTo), "{error}");
}

#[test]
fn a_release_that_the_firmware_would_refuse_is_not_rolled_back_to() {
    let node = booted("000002-a");
    new().install(&node, name("000001-b"));
    let mut machine = steady(&node);
    let record =
        SlotRecord { release: new().id, uki: None, blessed: Some(node.effects().clock.now()) };
    machine.journal.slots.insert(Slot::B, record);
    let before = node.log();
    node.set_variable(Variable::SecureBoot, &[1]);
    let (ours, other) = (testing::certificate("ours"), testing::certificate("other"));
    node.install_uki(name("000001-b"), &testing::program(b"uki", &[&ours]));
    node.set_variable(Variable::Db, &testing::db(&[&other]));
    let error = machine.roll_back().unwrap_err();
    let UpdateError::Firmware { source, .. } = error else { panic!("{error}") };
    assert!(matches!(source, SecureBootError::Stranger { .. }), "{source}");
    assert_eq!(node.log(), before);
    node.set_variable(Variable::Db, &testing::db(&[&other, &ours]));
    assert_eq!(machine.roll_back().unwrap().name(), name("000003-b+3"));
}

#[test]
fn a_uki_that_is_neither_proven_nor_armed_does_not_stay() {
    let node = booted("000003-a");
    new().install(&node, name("000002-b+3"));
    steady(&node);
    assert_eq!(node.ukis(), [name("000003-a+2-101")]);
}

#[test]
fn after_the_last_generation_nothing_is_armed() {
    let node = booted(&format!("{MAX_GENERATION}-a"));
    let mut machine = steady(&node);
    let staged = stage(&mut machine, &node);
    let error = machine.arm(staged.confirmed_for_a_test(), &|_, _| Ok(())).unwrap_err();
    assert!(matches!(error, UpdateError::GenerationsExhausted), "{error}");
    assert_eq!(node.ukis(), [name(&format!("{MAX_GENERATION}-a+2-101"))]);
}

#[test]
fn a_generation_is_never_given_twice() {
    let node = booted("000001-a");
    let mut machine = steady(&node);
    let staged = stage(&mut machine, &node);
    let _armed = machine.arm(staged.confirmed_for_a_test(), &|_, _| Ok(())).unwrap();
    let staged = stage(&mut machine, &node);
    let armed = machine.arm(staged.confirmed_for_a_test(), &|_, _| Ok(())).unwrap();
    assert_eq!(armed.name(), name("000003-b+3"));
    assert_eq!(node.ukis(), [name("000001-a"), name("000003-b+3")]);
}

#[test]
fn what_was_not_staged_is_not_armed() {
    let node = booted("000001-a");
    let mut machine = steady(&node);
    let disarmed = machine.disarm_target(&plan()).unwrap();
    let other = Image::new("3.0.0", Behaviour::Good).stage(&node.effects(), disarmed).unwrap();
    let error = machine.arm(other.confirmed_for_a_test(), &|_, _| Ok(())).unwrap_err();
    assert!(matches!(error, UpdateError::NotStaged { .. }), "{error}");
    assert_eq!(node.ukis(), [name("000001-a+2-101")]);
}

#[test]
fn a_journal_of_a_later_schema_is_refused_and_stays() {
    let node = booted("000001-a");
    let later = br#"{"schema": 2, "phase": {"phase": "teleporting"}}"#;
    node.append(DOCUMENT, std::str::from_utf8(later).unwrap());
    let facts = facts(Slot::A, &old().id, node.boot_id());
    let Err(error) = Machine::open(node.effects(), facts) else { panic!("it was read") };
    assert!(matches!(error, UpdateError::Journal(JournalError::Schema { found: 2 })), "{error}");
    assert_eq!(node.document(DOCUMENT).unwrap(), later);
    Journal::give_up(node.effects().state.as_ref()).unwrap();
    steady(&node);
    assert_eq!(node.document(journal::GIVEN_UP).unwrap(), later);
}

/// A bad release that knew more must not be tried again for what it wrote.
#[test]
fn fields_of_a_later_release_are_passed_over() {
    fn add_fields(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(object) => {
                object.values_mut().for_each(add_fields);
                // The keys of this one are slots.
                if !object.contains_key("b") {
                    object.insert("later".to_owned(), "2.0.0".into());
                }
            }
            serde_json::Value::Array(array) => array.iter_mut().for_each(add_fields),
            _ => {}
        }
    }
    let node = booted("000001-a");
    let mut machine = steady(&node);
    let staged = stage(&mut machine, &node);
    let _armed = machine.arm(staged.confirmed_for_a_test(), &|_, _| Ok(())).unwrap();
    let mut journal = machine.journal().clone();
    let failure = Failure::new("kubelet", "no answer");
    let Phase::Armed { installation } = journal.phase.clone() else { panic!() };
    let (release, at) = (installation.release.clone(), node.effects().clock.now());
    journal.record(at, &release, Happening::Condemned { failure: failure.clone() });
    let cause = Cause::Userspace { tries: 3, judging: true, blessed: false };
    journal.refuse(Refusal { release, cause, at });
    journal.phase = Phase::Condemned { installation, failure };
    let mut document = serde_json::to_value(&journal).unwrap();
    add_fields(&mut document);
    node.effects().state.save(DOCUMENT, document.to_string().as_bytes()).unwrap();
    let (found, condition) = Journal::load(&node).unwrap();
    assert_eq!((found, condition), (journal, JournalCondition::Good));
}

#[test]
fn a_damaged_journal_is_set_aside_and_said() {
    for damage in ["", "{", "[]", r#"{"schema": 1, "unknown": 1}"#, "\0\0\0"] {
        let node = booted("000001-a");
        node.append(DOCUMENT, damage);
        let machine = steady(&node);
        let events: Vec<_> = machine.journal().history.iter().map(|event| &event.what).collect();
        assert!(events.contains(&&Happening::JournalDamaged), "{damage}: {events:?}");
        assert_eq!(node.document(DAMAGED).unwrap(), damage.as_bytes());
        let store = node.effects().state;
        assert_eq!(Journal::load(store.as_ref()).unwrap().1, JournalCondition::Good);
    }
}

#[test]
fn history_and_refusals_are_bounded() {
    let node = booted("000001-a");
    let mut journal = Journal::new();
    let at = node.effects().clock.now();
    for number in 0..300 {
        let release = Image::new(&format!("1.0.{number}"), Behaviour::Good).id;
        journal.record(at, &release, Happening::Staged);
        journal.refuse(Refusal { release, cause: Cause::Loader, at });
    }
    assert_eq!(journal.history.len(), MAX_EVENTS);
    assert_eq!(journal.refusals.len(), journal::MAX_REFUSALS);
    assert_eq!(journal.refusals.last().unwrap().release.version.to_string(), "1.0.299");
    journal.save(node.effects().state.as_ref()).unwrap();
}

#[test]
fn a_boot_counts_as_judged_once_blessed_or_without_alternative() {
    let judged = |node: &FakeNode| {
        Machine::is_judged(&node.effects(), crate::effects::BootedSlot::forged_for_a_test(Slot::A))
            .unwrap()
    };
    let node = booted("000003-a+3");
    assert!(judged(&node), "there is nothing to fall back to");
    Image::new("0.9.0", Behaviour::Good).install(&node, name("000002-b"));
    assert!(!judged(&node));
    let (mut machine, on_trial) = pending(&node);
    machine.bless(on_trial).unwrap();
    assert!(judged(&node));
}
