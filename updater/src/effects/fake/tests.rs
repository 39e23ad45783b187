//! The model itself: what a power cut may take, and what not.

use super::*;
use crate::effects::{BootedSlot, Esp, Power, Slots, StateStore, TargetSlot};

fn target() -> TargetSlot {
    BootedSlot::forged_for_a_test(Slot::A).target()
}

fn node(seed: u64) -> FakeNode {
    let node = FakeNode::new(seed, Sizes::default());
    node.install_uki("slipway-000001-a.efi".parse().unwrap(), b"uki");
    node
}

fn written(node: &FakeNode) -> usize {
    node.durable(Slot::B, Area::Root).chunks(BLOCK).filter(|block| block[0] == 7).count()
}

#[test]
fn unsynced_blocks_survive_a_cut_each_by_itself() {
    let mut counts = Vec::new();
    for seed in 0..20 {
        let node = node(seed);
        node.cut_power_after(1);
        node.write_target(target(), Area::Root, 0, &[7; 8 * BLOCK]).unwrap();
        assert!(node.sync_target(target()).is_err(), "the power is off");
        node.boot().unwrap();
        counts.push(written(&node));
    }
    counts.sort_unstable();
    counts.dedup();
    assert!(counts.len() > 3, "{counts:?}");
}

#[test]
fn what_was_synced_survives_every_cut() {
    for seed in 0..20 {
        let node = node(seed);
        node.cut_power_after(2);
        node.write_target(target(), Area::Root, 0, &[7; 8 * BLOCK]).unwrap();
        node.sync_target(target()).unwrap();
        node.boot().unwrap();
        assert_eq!(written(&node), 8);
    }
}

#[test]
fn an_unsynced_rename_may_last_although_the_content_does_not() {
    let name: UkiName = "slipway-000002-b+3.efi".parse().unwrap();
    let mut kinds = [0; 3];
    for seed in 0..60 {
        let node = node(seed);
        node.create_temporary(3).unwrap();
        node.write_temporary(0, b"new").unwrap();
        node.rename_temporary(&name).unwrap();
        node.cut_power_after(0);
        let boot = node.boot().unwrap();
        match (boot.name.generation, boot.uki.as_slice()) {
            (1, b"uki") => kinds[0] += 1,
            (2, b"new") => kinds[1] += 1,
            (2, _) => kinds[2] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
}

#[test]
fn a_read_does_not_see_what_is_only_in_the_cache() {
    let node = node(0);
    node.write_target(target(), Area::Root, 0, &[7; BLOCK]).unwrap();
    let mut buffer = [0; BLOCK];
    node.read_target(target(), Area::Root, 0, &mut buffer).unwrap();
    assert_eq!(buffer, [0; BLOCK]);
    node.sync_target(target()).unwrap();
    node.read_target(target(), Area::Root, 0, &mut buffer).unwrap();
    assert_eq!(buffer, [7; BLOCK]);
}

#[test]
fn faults_come_as_the_system_gives_them() {
    let node = node(0);
    let too_large = node.create_temporary(300 << 10).unwrap_err();
    assert_eq!(too_large.kind(), io::ErrorKind::StorageFull);
    node.disturb(|effect| matches!(effect, Effect::Save(_)).then_some(Fault::Full));
    assert_eq!(node.save("x", b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    node.disturb(|effect| {
        matches!(effect, Effect::WriteTarget { .. }).then_some(Fault::Short(BLOCK))
    });
    assert!(node.write_target(target(), Area::Root, 0, &[7; 2 * BLOCK]).is_err());
    node.boot().unwrap();
    assert_eq!(written(&node), 1);
    assert_eq!(node.log(), [], "what failed is no effect");
}

#[test]
fn a_restart_loses_nothing_and_ends_the_boot() {
    let node = node(3);
    node.write_target(target(), Area::Root, 0, &[7; 8 * BLOCK]).unwrap();
    node.reboot().unwrap();
    assert!(!node.is_powered() && node.save("x", b"x").is_err());
    let before = node.boot_id();
    node.boot().unwrap();
    assert_eq!(written(&node), 8);
    assert_ne!(node.boot_id(), before);
}
