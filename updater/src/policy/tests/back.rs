//! The way back to a release that lapsed: a restart like any other, and when it is not.

use super::*;

/// Release 1.1.0 lapsed, is wanted, and this boot has stood.
fn lapsed(world: &mut World) {
    let root_hash = Some([2; 32].into());
    world.lapse = Some(Lapse { version: "1.1.0".parse().ok(), root_hash });
    world.other = OtherSlot::Lapsed;
}

fn check_lapsed(change: impl Fn(&mut World), action: Action, holds: &[&str]) {
    let both = |world: &mut World| {
        lapsed(world);
        change(world);
    };
    check(both, action, holds);
}

fn outside_of_its_window(world: &mut World) {
    world.group = Some(group(
        r#"{"channel": "stable", "windows": [
            {"days": ["monday"], "start": "02:00", "length": "1h"}]}"#,
    ));
}

#[test]
fn the_node_goes_back_when_no_rule_holds_a_restart() {
    check_lapsed(|_| {}, Action::GoBack, &["Lapsed"]);
    check_lapsed(outside_of_its_window, Action::Nothing, &["Lapsed", "Window", "Staged"]);
    let ordered = |world: &mut World| {
        outside_of_its_window(world);
        world.order = Order::Apply;
    };
    check_lapsed(ordered, Action::GoBack, &["Lapsed"]);
    check_lapsed(|world| world.read = false, Action::Nothing, &["Lapsed", "NotChecked"]);
    let manual = |world: &mut World| world.settings = Some(settings(r#"{"mode": "manual"}"#));
    check_lapsed(manual, Action::GoBack, &["Lapsed"]);
    // It needs no more room than it has.
    check_lapsed(|world| world.esp_room = Some(0), Action::GoBack, &["Lapsed"]);
}

#[test]
fn a_node_with_pods_is_drained_before_it_goes_back() {
    let pods = |world: &mut World| {
        restart::to_be_drained(world);
        lapsed(world);
    };
    check(pods, Action::Drain(restart::TERMS), &["Lapsed", "Drain"]);
    let drained = |world: &mut World| {
        pods(world);
        world.drain = DrainState::Done { root_hash: [2; 32].into() };
    };
    check(drained, Action::GoBack, &["Lapsed"]);
}

#[test]
fn before_this_boot_has_stood_nothing_is_begun() {
    let unproven = |world: &mut World| {
        (world.other, world.boot) = (OtherSlot::Unknown, BootState::Unproven);
    };
    check_lapsed(unproven, Action::Nothing, &["Lapsed", "Unproven"]);
}

#[test]
fn a_release_that_is_not_wanted_any_more_is_not_gone_back_to() {
    let back = |world: &mut World| {
        (world.channel, world.offer) = (Some(channel("1.0.0")), Some(offer("1.0.0", 1)));
    };
    check_lapsed(back, Action::Nothing, &["Lapsed", "UpToDate"]);
    let newer = |world: &mut World| {
        (world.channel, world.offer) = (Some(channel("1.2.0")), Some(offer("1.2.0", 3)));
    };
    check_lapsed(newer, Action::Stage, &["Lapsed"]);
    check_lapsed(
        |world| world.marks.blocked = vec![mark("1.1.0")],
        Action::Nothing,
        &["Lapsed", "Blocked"],
    );
    let unreadable = |world: &mut World| world.pin = Pin::Unreadable("EIO".to_owned());
    check_lapsed(unreadable, Action::Nothing, &["Lapsed", "PinUnreadable"]);
}

#[test]
fn what_is_refused_here_or_has_no_channel_is_left_at_once() {
    let refused = |world: &mut World| {
        outside_of_its_window(world);
        world.refusals = vec![RefusedRoot { root_hash: [1; 32].into(), cause: "x".to_owned() }];
    };
    check_lapsed(refused, Action::GoBack, &["Lapsed"]);
    check_lapsed(|world| world.settings = None, Action::GoBack, &["Lapsed"]);
    let without = |world: &mut World| world.settings.as_mut().unwrap().channel = None;
    check_lapsed(without, Action::GoBack, &["Lapsed"]);
    // But not where an operator wants it, or to what is blocked.
    let pinned = |world: &mut World| {
        refused(world);
        world.pin = pin("1.0.0");
        world.offer = Some(offer("1.0.0", 1));
    };
    check_lapsed(pinned, Action::Nothing, &["Lapsed", "Pinned", "UpToDate"]);
    let blocked = |world: &mut World| {
        refused(world);
        world.marks.blocked = vec![mark("1.1.0")];
    };
    check_lapsed(blocked, Action::Nothing, &["Lapsed", "Blocked"]);
}
