//! The way to the wanted release: floors, blocked releases, and documents for a later slipwayd.

use super::*;

#[test]
fn a_floor_comes_before_what_lies_beyond_it() {
    let floors = |world: &mut World| {
        world.marks.floors = vec![mark("1.0.7"), mark("1.0.3"), mark("1.2.0"), mark("0.9.0")];
        world.offer = Some(offer("1.0.3", 3));
    };
    check(floors, Action::Stage, &["OverFloor"]);
    let mut world = World::new();
    floors(&mut world);
    let decision = world.decide();
    let way: Vec<_> = decision.way.iter().map(ToString::to_string).collect();
    assert_eq!(way, ["1.0.3", "1.0.7", "1.1.0"]);
    assert_eq!(decision.target.unwrap().version, "1.0.3".parse().unwrap());
    let sentence = decision.holds[0].to_string();
    assert!(sentence.contains("in 3 steps") && sentence.contains("because of 1.0.3"), "{sentence}");
    // The offer of the end was read before the floor was there.
    let early = |world: &mut World| world.marks.floors = vec![mark("1.0.3")];
    check(early, Action::Nothing, &["OverFloor", "NotChecked"]);
    let missing = |world: &mut World| {
        floors(world);
        world.offer = None;
    };
    check(missing, Action::Nothing, &["OverFloor", "NoOffer"]);
    let pinned = |world: &mut World| {
        floors(world);
        world.pin = pin("1.1.0");
    };
    check(pinned, Action::Stage, &["Pinned", "OverFloor"]);
    let down = |world: &mut World| {
        floors(world);
        (world.pin, world.offer) = (pin("0.8.0"), Some(offer("0.8.0", 4)));
    };
    check(down, Action::Stage, &["Pinned"]);
    let beyond = |world: &mut World| {
        floors(world);
        world.group = Some(group(r#"{"channel": "stable", "maximumVersion": "1.0.9"}"#));
    };
    check(beyond, Action::Nothing, &["OverFloor", "MaximumVersion"]);
}

#[test]
fn what_is_blocked_is_taken_by_nobody() {
    let blocked = |world: &mut World| world.marks.blocked = vec![mark("1.1.0")];
    for order in [Order::None, Order::Stage, Order::Apply] {
        let change = |world: &mut World| {
            blocked(world);
            world.order = order;
        };
        check(change, Action::Nothing, &["Blocked"]);
        let pinned = |world: &mut World| {
            change(world);
            world.pin = pin("1.1.0");
            world.other = OtherSlot::Staged([2; 32].into());
        };
        check(pinned, Action::Nothing, &["Pinned", "Blocked"]);
        let by_group = |world: &mut World| {
            change(world);
            world.group = Some(group(r#"{"release": "1.1.0"}"#));
        };
        check(by_group, Action::Nothing, &["Blocked"]);
    }
    let floor = |world: &mut World| {
        (world.marks.floors, world.marks.blocked) = (vec![mark("1.0.5")], vec![mark("1.0.5")]);
    };
    check(floor, Action::Nothing, &["FloorBlocked"]);
    let runs = |world: &mut World| world.marks.blocked = vec![mark("1.0.0")];
    check(runs, Action::Stage, &["RunsBlocked"]);
    let stays = |world: &mut World| {
        runs(world);
        world.channel = Some(channel("1.0.0"));
    };
    check(stays, Action::Nothing, &["RunsBlocked", "Blocked"]);
}

#[test]
fn a_document_for_a_later_slipwayd_holds_and_names_the_way_there() {
    let lacks = |document: Lacking| UnmetDocument {
        document,
        needed: Some(Version::new(3, 0, 0)),
        cause: "it requires `cohorts`".to_owned(),
    };
    let stable = || Lacking::Channel("stable".parse().unwrap());
    let unread = |world: &mut World| {
        world.unmet = vec![lacks(stable())];
        (world.channel, world.offer) = (None, None);
        world.marks.floors = vec![mark("1.0.3"), mark("0.9.0")];
    };
    check(unread, Action::Nothing, &["Needs"]);
    let mut world = World::new();
    unread(&mut world);
    let sentence = world.decide().holds[0].to_string();
    for words in ["needs slipwayd 3.0.0 or newer", "`cohorts`", "`slipway node pin 1.0.3`"] {
        assert!(sentence.contains(words), "{sentence}");
    }
    let pinned = |world: &mut World| {
        unread(world);
        (world.pin, world.offer) = (pin("1.0.3"), Some(offer("1.0.3", 3)));
    };
    check(pinned, Action::Stage, &["Pinned"]);

    let group_unread = |world: &mut World| {
        world.unmet = vec![lacks(Lacking::Group("workers".parse().unwrap()))];
        world.group = None;
        let channel = world.settings.as_mut().unwrap().channel.as_mut().unwrap();
        channel.follow = "stable".parse().ok();
    };
    check(group_unread, Action::Nothing, &["Needs"]);
    let later_group = |world: &mut World| {
        world.group = Some(group(r#"{"channel": "stable", "minimumUpdater": "3.0.0"}"#));
    };
    check(later_group, Action::Nothing, &["Needs"]);
    let later_channel = |world: &mut World| {
        world.channel.as_mut().unwrap().minimum_updater = Some(Version::new(3, 0, 0))
    };
    check(later_channel, Action::Nothing, &["Needs"]);
    let later_offer = |world: &mut World| {
        world.unmet = vec![lacks(Lacking::Release("1.1.0".parse().unwrap()))];
        world.offer = None;
    };
    check(later_offer, Action::Nothing, &["Needs"]);
}

#[test]
fn an_operator_does_not_go_back_to_what_is_blocked_either() {
    let mut world = World::new();
    world.marks.blocked = vec![mark("0.9.0")];
    let forbids = |world: &World, version: &str| {
        let documents = world.documents();
        let version: ReleaseVersion = version.parse().unwrap();
        forbids_rollback(Some(&documents), &version, world.now)
    };
    assert_eq!(forbids(&world, "0.9.0"), Some(Hold::Blocked { mark: mark("0.9.0") }));
    assert_eq!(forbids(&world, "0.8.0"), None);
    assert_eq!(forbids_rollback(None, &"0.9.0".parse().unwrap(), world.now), None);
    world.now = at("2026-12-10T00:00:01Z");
    assert_eq!(forbids(&world, "0.9.0"), None, "what has expired counts no more");
}
