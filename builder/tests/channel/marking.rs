//! Floors and blocked releases as operators set them.

#![allow(clippy::unwrap_used)]

use std::fs;

use serde_json::Value;

use crate::commands::{folder, refuses, succeeds};
use crate::fixture::{Bench, group_yaml};

/// A channel with 1.0.0 and 1.1.0, of which `stable` is the second.
async fn channel() -> Bench {
    let bench = folder().await;
    let at = bench.path();
    for arguments in [
        &["channel", "init", "channel"][..],
        &["publish", "channel", "r1", "r2", "--level", "1"],
        &["channel", "set", "channel", "stable", "1.1.0"],
    ] {
        succeeds(at, &[arguments, &["--keys", "keys"]].concat());
    }
    bench
}

const KEYS: [&str; 2] = ["--keys", "keys"];

#[tokio::test]
async fn floors_and_blocks_are_shown_and_required_and_stay_until_they_are_taken_away() {
    let bench = channel().await;
    let at = bench.path();
    let run = |arguments: &[&str]| succeeds(at, &[arguments, &KEYS].concat());
    let stable = || {
        let shown = succeeds(at, &["--format", "json", "channel", "show", "channel"]);
        serde_json::from_str::<Value>(&shown).unwrap()["channels"][0].clone()
    };
    assert!(stable().get("requires").is_none(), "an older slipwayd reads it as ever");
    let reason = "moves the state partition";
    let out = run(&["channel", "floor", "add", "channel", "stable", "1.0.0", "--reason", reason]);
    assert!(out.contains("not without 1.0.0 (moves the state partition)"), "{out}");
    assert_eq!(stable()["requires"], serde_json::json!(["floors"]));
    run(&["channel", "floor", "remove", "channel", "stable", "1.0.0"]);

    let block = ["channel", "block", "channel", "stable", "1.0.0", "--reason", "loses volumes"];
    let out = run(&block);
    assert!(out.contains("never 1.0.0 (loses volumes)"), "{out}");
    run(&["channel", "set", "channel", "stable", "--pause", "a bad disk"]);
    let shown = succeeds(at, &["channel", "show", "channel"]);
    assert!(shown.contains("never 1.0.0 (loses volumes)"), "{shown}");
    assert_eq!(stable()["requires"], serde_json::json!(["blocked"]));
    succeeds(at, &["channel", "verify", "channel"]);
    run(&["channel", "unblock", "channel", "stable", "1.0.0"]);
    assert!(stable().get("requires").is_none() && stable().get("blocked").is_none());
}

#[tokio::test]
async fn a_bad_release_is_blocked_and_left_in_one_change() {
    let bench = channel().await;
    let at = bench.path();
    let block = ["channel", "block", "channel", "stable", "1.1.0", "--reason", "loses volumes"];
    refuses(at, &[&block[..], &KEYS].concat(), 3, &["would point at release 1.1.0", "--instead"]);
    let out = succeeds(at, &[&block[..], &["--instead", "1.0.0"], &KEYS].concat());
    assert!(out.contains("stable is 1.0.0 (was 1.1.0)"), "{out}");
    let back = ["channel", "set", "channel", "stable", "1.1.0"];
    refuses(at, &[&back[..], &KEYS].concat(), 3, &["blocks (loses volumes)", "channel unblock"]);
    fs::write(at.join("lab.yaml"), group_yaml("lab", "release: 1.1.0")).unwrap();
    let pin = ["group", "set", "channel", "lab", "-f", "lab.yaml"];
    refuses(at, &[&pin[..], &KEYS].concat(), 3, &["`stable` blocks release 1.1.0", "pin"]);
}

#[tokio::test]
async fn what_would_leave_no_way_is_refused_with_the_next_step() {
    let bench = channel().await;
    let at = bench.path();
    let refuses = |arguments: &[&str], words: &[&str]| {
        refuses(at, &[&["channel"], arguments, &KEYS[..]].concat(), 3, words);
    };
    let because = ["--reason", "because"];
    let floor = |release| [&["floor", "add", "channel", "stable", release], &because[..]].concat();
    refuses(&floor("1.0.5"), &["no release 1.0.5", "slipway publish", "1.0.0, 1.1.0"]);
    refuses(&["block", "channel", "stable", "1.0.5", "--reason", "x"], &["no release 1.0.5"]);
    refuses(&["floor", "remove", "channel", "stable", "1.0.0"], &["no floor", "there is none"]);
    refuses(&["unblock", "channel", "stable", "1.0.0"], &["not a blocked release", "none"]);
    succeeds(at, &[&["channel"], &floor("1.0.0")[..], &KEYS].concat());
    let block = ["block", "channel", "stable", "1.0.0", "--reason", "x"];
    refuses(&block, &["a floor of the channel `stable` (because)", "floor remove"]);
    let new = [&["floor", "add", "channel", "stabel", "1.0.0"], &because[..]].concat();
    refuses(&new, &["no channel `stabel`"]);
}

#[tokio::test]
async fn a_floor_is_not_pruned() {
    let bench = channel().await;
    let at = bench.path();
    let run = |arguments: &[&str]| succeeds(at, &[arguments, &KEYS].concat());
    run(&["channel", "floor", "add", "channel", "stable", "1.0.0", "--reason", "because"]);
    let out = run(&["channel", "prune", "channel", "--keep", "1"]);
    assert!(out.contains("kept 1.0.0\n") && !out.contains("removed"), "{out}");
    succeeds(at, &["channel", "verify", "channel"]);
}
