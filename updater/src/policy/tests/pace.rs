//! Waves, windows and modes, and what an order passes of them.

use contract::channel::waves::Wave;

use super::*;

#[test]
fn a_wave_holds_staging_until_it_opens() {
    let waves = |world: &mut World| {
        let hour = |share, hours| Wave { share, after: SignedDuration::from_hours(hours) };
        // One wave for everybody, so that the place of the node does not matter.
        let waves = vec![hour(1.0, 13)];
        world.channel.as_mut().unwrap().waves = waves.try_into().unwrap();
    };
    check(waves, Action::Nothing, &["Wave"]);
    let mut world = World::new();
    waves(&mut world);
    let hold = &world.decide().holds[0];
    assert_eq!(hold.ends(), Some(at("2026-11-27T13:00:00Z")));
    assert!(hold.to_string().contains("2026-11-27 13:00 UTC"), "{hold}");
    for order in [Order::Stage, Order::Apply] {
        world.order = order;
        assert_eq!(world.decide().action, Action::Stage);
    }
    (world.order, world.now) = (Order::None, at("2026-11-27T13:00:00Z"));
    assert_eq!(world.decide().action, Action::Stage);
    world.now = at("2026-11-27T12:00:00Z");
    world.group = Some(group(r#"{"channel": "stable", "waves": [{"share": 1.0, "after": "1h"}]}"#));
    assert_eq!(world.decide().action, Action::Stage, "the group's own waves come first");
}

#[test]
fn nodes_of_one_wave_start_at_different_times() {
    let version: ReleaseVersion = "1.1.0".parse().unwrap();
    let longest = SignedDuration::from_mins(10);
    let delay =
        |node: u32| super::super::pace::start_delay(&format!("node-{node}"), &version, longest);
    let delays: std::collections::BTreeSet<_> = (0..100).map(delay).collect();
    assert!(delays.len() > 90, "{} different delays", delays.len());
    assert!(delays.iter().all(|delay| !delay.is_negative() && *delay < longest));
    assert_eq!(delay(1), delay(1));
}

#[test]
fn a_window_holds_the_restart_and_not_the_staging() {
    let window = |world: &mut World| {
        world.group = Some(group(
            r#"{"channel": "stable", "windows": [
                {"days": ["friday"], "start": "22:00", "length": "4h", "timeZone": "Europe/Berlin"},
                {"days": ["monday"], "start": "02:00", "length": "1h"}]}"#,
        ));
    };
    check(window, Action::Stage, &["Window"]);
    let staged = |world: &mut World| {
        window(world);
        world.other = OtherSlot::Staged([2; 32].into());
    };
    check(staged, Action::Nothing, &["Window", "Staged"]);
    let mut world = World::new();
    staged(&mut world);
    assert_eq!(world.decide().holds[0].ends(), Some(at("2026-11-27T21:00:00Z")));
    world.order = Order::Apply;
    assert_eq!(world.decide().action, Action::Confirm);
    (world.order, world.now) = (Order::None, at("2026-11-27T21:30:00Z"));
    assert_eq!(world.decide().action, Action::Confirm);
}

#[test]
fn modes_leave_the_rest_to_an_operator() {
    let world = |mode: &str, staged: bool, order| {
        let mut world = World::new();
        world.settings = Some(settings(&format!(r#"{{"mode": "{mode}"}}"#)));
        world.other = match staged {
            true => OtherSlot::Staged([2; 32].into()),
            false => OtherSlot::Unknown,
        };
        world.order = order;
        world.decide().action
    };
    assert_eq!(world("staged-only", false, Order::None), Action::Stage);
    assert_eq!(world("staged-only", true, Order::None), Action::Nothing);
    assert_eq!(world("staged-only", true, Order::Stage), Action::Nothing);
    assert_eq!(world("staged-only", true, Order::Apply), Action::Confirm);
    assert_eq!(world("manual", false, Order::None), Action::Nothing);
    assert_eq!(world("manual", false, Order::Stage), Action::Stage);
    assert_eq!(world("manual", true, Order::Stage), Action::Nothing);
    assert_eq!(world("manual", true, Order::Apply), Action::Confirm);
    assert_eq!(world("automatic", true, Order::Stage), Action::Nothing);
}
