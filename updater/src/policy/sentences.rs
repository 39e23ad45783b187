//! Every sentence of `slipway node why`, as operators read it.
//!
//! `INSTA_UPDATE=always cargo test -p updater policy::sentences` writes the file anew.

use contract::ReleaseVersion;
use contract::channel::route::Mark;
use contract::node::api;
use jiff::{SignedDuration, Timestamp};
use semver::Version;

use super::*;

/// The number of a variant. It names all of them, so that a new one is not forgotten below.
fn variant(hold: &Hold) -> usize {
    match hold {
        Hold::Judging => 0,
        Hold::NoSettings { .. } => 1,
        Hold::NoChannel => 2,
        Hold::NotChecked => 3,
        Hold::CheckFailed { .. } => 4,
        Hold::Clock { .. } => 5,
        Hold::Expired { .. } => 6,
        Hold::NoGroup { .. } => 7,
        Hold::NoOffer { .. } => 8,
        Hold::UpToDate { .. } => 9,
        Hold::Pinned { .. } => 10,
        Hold::Refused { .. } => 11,
        Hold::MaximumVersion { .. } => 12,
        Hold::GroupPaused { .. } => 13,
        Hold::ChannelPaused { .. } => 14,
        Hold::MinimumUpdater { .. } => 15,
        Hold::Needs { .. } => 16,
        Hold::RunsBlocked { .. } => 17,
        Hold::Blocked { .. } => 18,
        Hold::FloorBlocked { .. } => 19,
        Hold::OverFloor { .. } => 20,
        Hold::EspRoom { .. } => 21,
        Hold::VersionSkew { .. } => 22,
        Hold::ApiServerSilent { .. } => 23,
        Hold::Wave { .. } => 24,
        Hold::Window { .. } => 25,
        Hold::Drain { .. } => 26,
        Hold::RestartsByHand { .. } => 27,
        Hold::Manual { .. } => 28,
        Hold::StageFailed { .. } => 29,
        Hold::Staged { .. } => 30,
        Hold::Unproven => 31,
        Hold::NoJournal => 32,
        Hold::Lapsed { .. } => 33,
        Hold::PinUnreadable { .. } => 34,
    }
}

const VARIANTS: usize = 35;

fn version(text: &str) -> ReleaseVersion {
    text.parse().unwrap()
}

fn later(hours: i64) -> Timestamp {
    "2026-11-27T12:00:30Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
}

fn mark(release: &str, reason: &str) -> Mark {
    Mark { release: version(release), reason: reason.to_owned() }
}

fn needs(document: Lacking, needed: Option<Version>, floor: Option<Mark>) -> Hold {
    let (have, cause) = (Version::new(0, 1, 0), "it requires `cohorts`".to_owned());
    Hold::Needs { document, needed, have, cause, floor }
}

fn of_documents() -> Vec<Hold> {
    let newer = || Some(Version::new(0, 3, 0));
    vec![
        Hold::Judging,
        Hold::Unproven,
        Hold::NoJournal,
        Hold::Lapsed { version: Some(version("1.4.2")) },
        Hold::Lapsed { version: None },
        Hold::PinUnreadable { cause: "Input/output error (os error 5)".into() },
        Hold::NoSettings { cause: None },
        Hold::NoSettings { cause: Some("Azure's metadata service does not answer".into()) },
        Hold::NoChannel,
        Hold::NotChecked,
        Hold::CheckFailed {
            sentence: "The channel cannot be reached.".into(),
            next: Some(later(1)),
        },
        Hold::Clock { sentence: "The clock reads 1970.".into(), next: None },
        Hold::Expired { since: later(0) },
        Hold::NoGroup { group: "workers".parse().ok() },
        Hold::NoGroup { group: None },
        Hold::NoOffer { version: version("1.4.2") },
        needs(Lacking::Channel("stable".parse().unwrap()), newer(), Some(mark("1.5.0", "has it"))),
        needs(Lacking::Group("workers".parse().unwrap()), None, None),
        needs(Lacking::Release(version("2.0.0")), newer(), None),
    ]
}

fn of_releases() -> Vec<Hold> {
    let wanted = || version("1.4.2");
    let skew = |kubelet, server| Hold::VersionSkew {
        version: wanted(),
        kubelet: Version::new(1, kubelet, 2),
        server: Version::new(1, server, 0),
    };
    vec![
        Hold::UpToDate { version: wanted() },
        Hold::Pinned { version: wanted() },
        Hold::Refused { version: wanted(), cause: "probe kubelet: HTTP status 500".into() },
        Hold::MaximumVersion {
            version: wanted(),
            maximum: version("1.3.9"),
            group: "workers".parse().unwrap(),
        },
        Hold::GroupPaused { name: "workers".parse().unwrap(), reason: "a bad disk".into() },
        Hold::ChannelPaused { name: "stable".parse().unwrap(), reason: "a bad disk".into() },
        Hold::MinimumUpdater {
            version: wanted(),
            needed: Version::new(0, 3, 0),
            have: Version::new(0, 1, 0),
        },
        Hold::RunsBlocked { mark: mark("1.4.1", "loses volumes") },
        Hold::Blocked { mark: mark("1.4.2", "loses volumes") },
        Hold::FloorBlocked {
            version: version("2.0.0"),
            floor: mark("1.5.0", "moves the state"),
            reason: "loses volumes".into(),
        },
        Hold::OverFloor {
            version: version("2.0.0"),
            floor: mark("1.5.0", "moves the state"),
            steps: 2,
        },
        Hold::EspRoom { needed: 62_000_000, room: Some(1_000) },
        Hold::EspRoom { needed: 62_000_000, room: None },
        skew(38, 37),
        skew(33, 37),
        Hold::ApiServerSilent { sentence: "the API server does not answer".into() },
    ]
}

fn of_time() -> Vec<Hold> {
    let wanted = || version("1.4.2");
    vec![
        Hold::Wave { version: wanted(), position: 0.427, opens: later(4) },
        Hold::Window { opens: Some(later(10)) },
        Hold::Window { opens: None },
        Hold::Drain { sentence: "The node drains.".into(), ends: Some(later(1)) },
        Hold::RestartsByHand { version: wanted() },
        Hold::Manual { version: wanted() },
        Hold::StageFailed { sentence: "no route to host".into(), next: Some(later(1)) },
        Hold::Staged { version: wanted() },
    ]
}

#[test]
fn every_rule_has_a_sentence() {
    let all: Vec<Hold> = [of_documents(), of_releases(), of_time()].into_iter().flatten().collect();
    let shown: std::collections::BTreeSet<usize> = all.iter().map(variant).collect();
    assert!(shown.into_iter().eq(0..VARIANTS), "a rule is not shown");
    let lines = all.iter().map(|hold| {
        let hold = api::Hold::from(hold);
        let rule = serde_json::to_value(hold.rule).unwrap();
        format!("[{}] {}\n", rule.as_str().unwrap(), api::hold_line(&hold))
    });
    insta::assert_snapshot!(lines.collect::<String>());
}
