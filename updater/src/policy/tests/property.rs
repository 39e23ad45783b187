//! No rule is ever passed by accident, whatever the world is like.

use proptest::prelude::*;

use super::*;

prop_compose! {
    fn any_world()(
        version in 0_u64..4, maximum in proptest::option::of(0_u64..4), root in 1_u8..4,
        refused in proptest::collection::vec(1_u8..4, 0..3), staged in proptest::option::of(1_u8..4),
        pin in proptest::option::of(0_u64..4), follow in 0_u64..4, order in 0_usize..3, mode in 0_usize..3,
        pending in any::<bool>(), read in any::<bool>(), room in proptest::option::of(98_u64..102),
        hours in 0_i64..500, updater in 0_u64..3, paused in any::<bool>(), offered in any::<bool>(),
        floors in proptest::collection::vec(0_u64..4, 0..2),
        blocked in proptest::collection::vec(0_u64..4, 0..2),
    ) -> World {
        let mut world = World::new();
        let maximum = maximum.map_or(String::new(), |it| format!(r#", "maximumVersion": "1.{it}.0""#));
        world.group = Some(group(&format!(r#"{{"channel": "stable"{maximum}}}"#)));
        world.channel = Some(channel(&format!("1.{follow}.0")));
        world.channel.as_mut().unwrap().paused = paused.then(|| "bad".into());
        world.offer = offered.then(|| offer(&format!("1.{version}.0"), root));
        world.pin = pin.map_or(Pin::None, |pin| super::pin(&format!("1.{pin}.0")));
        world.refusals = refused
            .into_iter()
            .map(|root| RefusedRoot { root_hash: [root; 32].into(), cause: "x".into() })
            .collect();
        world.other =
            staged.map_or(OtherSlot::Unknown, |root| OtherSlot::Staged([root; 32].into()));
        world.order = [Order::None, Order::Stage, Order::Apply][order];
        let modes = ["automatic", "staged-only", "manual"];
        world.settings = Some(settings(&format!(r#"{{"mode": "{}"}}"#, modes[mode])));
        world.boot = if pending { BootState::Pending } else { BootState::Blessed };
        (world.read, world.esp_room) = (read, room);
        world.marks.floors = floors.iter().map(|it| mark(&format!("1.{it}.0"))).collect();
        world.marks.blocked = blocked.iter().map(|it| mark(&format!("1.{it}.0"))).collect();
        world.now += SignedDuration::from_hours(hours);
        world.updater = Version::new(updater, 0, 0);
        world
    }
}

proptest! {
    /// Whatever else is the case: an action is for a release that is wanted, allowed, good
    /// here, installable, and not the running one.
    #[test]
    fn no_rule_is_ever_passed_by_accident(world in any_world()) {
        let decision = world.decide();
        if decision.action == Action::Nothing {
            prop_assert!(!decision.holds.is_empty() || world.order == Order::Stage);
            return Ok(());
        }
        let target = decision.target.expect("an action has a target");
        let wanted = world.pin.release().cloned().unwrap_or(world.channel.unwrap().release);
        prop_assert_eq!(decision.way.first(), Some(&target.version));
        prop_assert_eq!(decision.way.last(), Some(&wanted));
        let here: ReleaseVersion = "1.0.0".parse().unwrap();
        let skipped = world.marks.floors_between(&here, &target.version);
        prop_assert!(skipped.is_empty(), "{skipped:?}");
        prop_assert!(world.marks.block_of(&target.version).is_none());
        prop_assert!(world.read && world.now <= world.expires);
        prop_assert!(world.boot == BootState::Blessed);
        prop_assert!(target.root_hash != RootHash::from([1; 32]));
        prop_assert!(world.refusals.iter().all(|refusal| refusal.root_hash != target.root_hash));
        if let Some(maximum) = world.group.and_then(|group| group.spec.maximum_version) {
            prop_assert!(wanted <= maximum);
        }
        prop_assert!(target.minimum_updater <= world.updater);
        prop_assert!(world.esp_room.is_some_and(|room| room >= target.esp_bytes));
        if decision.action == Action::Confirm {
            prop_assert_eq!(world.other, OtherSlot::Staged(target.root_hash));
            prop_assert!(world.order != Order::Stage);
        }
    }
}
