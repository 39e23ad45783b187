//! The commands as their users meet them: what they print, exit codes, and next steps.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture::{Bench, group_yaml, keys, only, other_keys};

fn slipway(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Demands success; gives standard output.
pub fn succeeds(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, errors) = slipway(folder, arguments);
    assert_eq!(code, 0, "{arguments:?}: {errors}");
    out
}

/// Demands an exit code, words on standard error, and a silent standard output.
pub fn refuses(folder: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let (found, out, errors) = slipway(folder, arguments);
    assert_eq!((found, out.as_str()), (code, ""), "{arguments:?}: {errors}");
    for word in words {
        assert!(errors.contains(word), "{arguments:?}: no `{word}` in: {errors}");
    }
}

/// A folder with `keys` and the releases `r1` (1.0.0) and `r2` (1.1.0).
pub async fn folder() -> Bench {
    let bench = Bench::new().await;
    fs::remove_dir_all(bench.channel()).unwrap();
    for (version, name, seed) in [("1.0.0", "r1", 1), ("1.1.0", "r2", 2)] {
        fs::rename(bench.release(version, seed), bench.path().join(name)).unwrap();
    }
    crate::fixture::copy_folder(keys(), &bench.path().join("keys"));
    bench
}

#[tokio::test]
async fn the_operator_guide_from_the_first_command_to_the_last() {
    let bench = folder().await;
    let at = bench.path();
    let run = |arguments: &[&str]| succeeds(at, &[arguments, &["--keys", "keys"]].concat());
    let out = run(&["channel", "init", "channel"]);
    assert!(out.contains("channel/root.json") && out.contains("real keys"), "{out}");
    let out = run(&["publish", "channel", "r1", "r2", "--level", "3"]);
    assert!(out.contains("tiny 1.1.0 (x86_64) is published"), "{out}");
    let waves = "10%@0s,50%@4h,100%@24h";
    let out = run(&["channel", "set", "channel", "stable", "1.0.0", "--waves", waves]);
    assert!(out.contains("waves 10%@0s,50%@4h,100%@24h"), "{out}");
    assert!(out.contains("stable is a new channel"), "{out}");
    fs::write(at.join("workers.yaml"), group_yaml("workers", "channel: stable")).unwrap();
    let out = run(&["group", "set", "channel", "workers", "-f", "workers.yaml"]);
    assert!(out.contains("workers is set: channel stable"), "{out}");
    let out = run(&["channel", "set", "channel", "stable", "--pause", "a bad disk"]);
    assert!(out.contains("open now: 10%), paused: a bad disk"), "{out}");
    assert!(!out.contains("new channel"), "{out}");
    let out = run(&["channel", "set", "channel", "stable", "1.1.0", "--resume"]);
    assert!(!out.contains("paused") && out.contains("all nodes at once"), "{out}");
    assert!(out.contains("stable is 1.1.0 (was 1.0.0) since"), "{out}");
    run(&["channel", "refresh", "channel"]);
    let out = run(&["channel", "prune", "channel", "--keep", "1"]);
    assert!(out.contains("removed 1.0.0 (x86_64)\nkept 1.1.0\n"), "{out}");
    succeeds(at, &["keys", "new", "new-keys"]);
    let rotate = ["--role", "targets", "--role", "timestamp", "--new", "new-keys"];
    let out = run(&[&["keys", "rotate", "channel"], &rotate[..]].concat());
    assert!(out.contains("version 3"), "{out}");
    let out = succeeds(at, &["channel", "verify", "channel"]);
    assert!(out.contains("root version 3") && out.contains("channels (1) and groups (1)"), "{out}");
    let out = succeeds(at, &["channel", "show", "channel"]);
    for word in ["stable", "workers", "1.1.0", "releases", "root       version 3"] {
        assert!(out.contains(word), "no `{word}` in: {out}");
    }
}

#[tokio::test]
async fn every_command_answers_in_json() {
    let bench = folder().await;
    let at = bench.path();
    let run = |arguments: &[&str]| -> Value {
        let text = succeeds(at, &[&["--format", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let keys = ["--keys", "keys"];
    let run_keys = |arguments: &[&str]| run(&[arguments, &keys[..]].concat());
    assert_eq!(run_keys(&["channel", "init", "channel"])["root"], "channel/root.json");
    let published = run_keys(&["publish", "channel", "r1", "--level", "1"]);
    assert_eq!(published["published"][0]["version"], "1.0.0");
    let set = run_keys(&["channel", "set", "channel", "stable", "1.0.0"]);
    assert_eq!((&set["channel"], &set["release"]), (&"stable".into(), &"1.0.0".into()));
    assert_eq!((&set["new"], &set["before"]), (&true.into(), &Value::Null));
    let set = run_keys(&["channel", "set", "channel", "stable", "--pause", "a bad disk"]);
    assert_eq!((&set["new"], &set["before"]["release"]), (&false.into(), &"1.0.0".into()));
    fs::write(at.join("lab.yaml"), group_yaml("lab", "release: 1.0.0")).unwrap();
    let group = run_keys(&["group", "set", "channel", "lab", "-f", "lab.yaml"]);
    assert_eq!(group["spec"]["release"], "1.0.0");
    assert_eq!(run_keys(&["channel", "refresh", "channel"])["renewed"], Value::Array(vec![]));
    assert_eq!(
        run_keys(&["channel", "prune", "channel", "--keep", "1"])["releases"][0],
        Value::Null
    );
    run_keys(&["channel", "set", "channel", "beta", "1.0.0"]);
    let removed = run_keys(&["channel", "remove", "channel", "beta"]);
    assert_eq!(
        (&removed["removed"], &removed["before"]["release"]),
        (&"beta".into(), &"1.0.0".into())
    );
    fs::write(at.join("old.yaml"), group_yaml("old", "release: 1.0.0")).unwrap();
    run_keys(&["group", "set", "channel", "old", "-f", "old.yaml"]);
    let removed = run_keys(&["group", "remove", "channel", "old"]);
    assert_eq!(removed["removed"], "old");
    assert_eq!(removed["before"]["spec"]["release"], "1.0.0");
    assert_eq!(run_keys(&["keys", "rotate", "channel"])["rootVersion"], 2);
    assert_eq!(run(&["channel", "verify", "channel"])["valid"], true);
    let shown = run(&["channel", "show", "channel"]);
    assert_eq!(shown["development"], false);
    assert_eq!(shown["groups"][0]["metadata"]["name"], "lab");
    assert_eq!(shown["roles"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn what_operators_get_wrong_is_told_with_the_next_step() {
    let bench = folder().await;
    let at = bench.path();
    succeeds(at, &["channel", "init", "channel", "--keys", "keys"]);
    succeeds(at, &["publish", "channel", "r1", "--level", "1", "--keys", "keys"]);
    let init = ["channel", "init", "channel", "--keys", "keys"];
    refuses(at, &init, 3, &["is a channel folder already"]);
    let set = |version| ["channel", "set", "channel", "stable", version, "--keys", "keys"];
    refuses(at, &set("9.9.9"), 3, &["no release 9.9.9", "slipway publish", "it has 1.0.0"]);
    refuses(at, &set("new"), 2, &["`new` is not a release version"]);
    let waves = [&set("1.0.0")[..], &["--waves", "10%@0s"]].concat();
    refuses(at, &waves, 2, &["some nodes would never update"]);
    let pause = [&set("1.0.0")[..], &["--pause", ""]].concat();
    refuses(at, &pause, 2, &["say why"]);
    let since = [&set("1.0.0")[..], &["--since", "tomorrow"]].concat();
    refuses(at, &since, 2, &["give a time such as 2026-12-01T08:00:00Z, or now"]);
    let set_only = |words: &[&'static str]| [&["channel", "set", "channel"], words].concat();
    let pause = ["beta", "--pause", "a bad disk", "--keys", "keys"];
    refuses(at, &set_only(&pause), 3, &["no channel `beta`", "give the release"]);
    refuses(at, &set_only(&["stable", "--keys", "keys"]), 2, &["<RELEASE>"]);
    let forgotten = ["channel", "set", "channel", "stable", "1.0.0"];
    refuses(at, &forgotten, 3, &["there is no folder keys/dev", "give yours with --keys"]);
    let typo = ["--role", "targets", "--keys", "keys", "--new", "typo"];
    let typo = [&["keys", "rotate", "channel"], &typo[..]].concat();
    refuses(at, &typo, 3, &["there is no folder typo", "give yours with --new"]);
    refuses(at, &["channel", "show", "keys"], 3, &["no channel folder", "slipway channel init"]);
    let into_keys = ["channel", "init", "keys", "--keys", "keys"];
    refuses(at, &into_keys, 3, &["which is no part of a channel", "new or empty folder"]);
    let stranger = Bench::with_keys(other_keys()).await;
    let root = stranger.channel().join("root.json");
    let verify = ["channel", "verify", "channel", "--root", root.to_str().unwrap()];
    refuses(at, &verify, 3, &["the root.json of another channel?"]);
    let rotate = ["keys", "rotate", "channel", "--keys", "keys", "--role", "targets"];
    refuses(at, &rotate, 2, &["--new"]);
}

#[tokio::test]
async fn waves_are_told_as_they_are_now() {
    let bench = folder().await;
    let at = bench.path();
    let run = |arguments: &[&str]| succeeds(at, &[arguments, &["--keys", "keys"]].concat());
    run(&["channel", "init", "channel"]);
    run(&["publish", "channel", "r1", "--level", "1"]);
    let set = |rest: &[&str]| run(&[&["channel", "set", "channel", "stable"], rest].concat());
    let out = set(&["1.0.0", "--since", "2099-12-01T08:00:00Z"]);
    assert!(out.contains("all nodes at once (none before 2099-12-01T08:00:00Z)"), "{out}");
    let out = set(&["--waves", "7%@0s,100%@4h", "--since", "2020-01-01T00:00:00Z"]);
    assert!(out.contains("7%@0s,100%@4h (open now: 100%)"), "{out}");
    // What a pause had held back does not start all at once, with a new start.
    let out = set(&["--resume", "--since", "now"]);
    assert!(out.contains("(open now: 7%)"), "{out}");
    let out = succeeds(at, &["channel", "show", "channel"]);
    assert!(out.contains("(open now: 7%)"), "{out}");
    // Beside another one, a name that is not there yet may be a typing error.
    let out = run(&["channel", "set", "channel", "satble", "1.0.0"]);
    assert!(out.contains("satble is a new channel, beside stable."), "{out}");
}

#[tokio::test]
async fn channels_and_groups_are_removed_when_nothing_needs_them() {
    let bench = folder().await;
    let at = bench.path();
    let with_keys = |words: &[&'static str]| [words, &["--keys", "keys"]].concat();
    let run = |words: &[&'static str]| succeeds(at, &with_keys(words));
    run(&["channel", "init", "channel"]);
    run(&["publish", "channel", "r1", "r2", "--level", "1"]);
    run(&["channel", "set", "channel", "stable", "1.0.0"]);
    run(&["channel", "set", "channel", "beta", "1.1.0"]);
    fs::write(at.join("lab.yaml"), group_yaml("lab", "channel: stable")).unwrap();
    run(&["group", "set", "channel", "lab", "-f", "lab.yaml"]);

    let remove_stable = with_keys(&["channel", "remove", "channel", "stable"]);
    refuses(at, &remove_stable, 3, &["`stable` is followed by lab", "slipway group set"]);
    let typo = with_keys(&["channel", "remove", "channel", "betta"]);
    refuses(at, &typo, 3, &["no channel `betta`", "there is beta, stable"]);
    let typo = with_keys(&["group", "remove", "channel", "lap"]);
    refuses(at, &typo, 3, &["no group `lap`", "there is lab"]);

    let out = run(&["channel", "remove", "channel", "beta"]);
    assert!(out.contains("channel beta is gone") && out.contains("slipway channel prune"), "{out}");
    let out = run(&["group", "remove", "channel", "lab"]);
    assert!(out.contains("group lab is gone, with all that it said: channel stable"), "{out}");
    succeeds(at, &remove_stable);
    let out = succeeds(at, &["channel", "verify", "channel"]);
    assert!(out.contains("channels (0) and groups (0)"), "{out}");
    let out = run(&["channel", "prune", "channel", "--keep", "0"]);
    assert!(out.contains("removed 1.0.0") && out.contains("removed 1.1.0"), "{out}");
}

#[tokio::test]
async fn a_wrong_group_points_at_its_line() {
    let bench = folder().await;
    let at = bench.path();
    succeeds(at, &["channel", "init", "channel", "--keys", "keys"]);
    let set = ["group", "set", "channel", "lab", "-f", "lab.yaml", "--keys", "keys"];
    refuses(at, &set, 3, &["cannot read lab.yaml"]);
    for (spec, words) in [
        ("chanel: stable", &["lab.yaml:6:", "did you mean `channel`"][..]),
        ("release: 1.0.0", &["no release 1.0.0", "slipway publish"]),
        ("channel: stable", &["`stable` does not exist", "slipway channel set"]),
        ("release: 1.0.0\n  settle: 1h", &["lab.yaml:7:", "spec.settle"]),
    ] {
        fs::write(at.join("lab.yaml"), group_yaml("lab", spec)).unwrap();
        refuses(at, &set, 3, words);
    }
    fs::write(at.join("lab.yaml"), group_yaml("other", "channel: stable")).unwrap();
    refuses(at, &set, 3, &["is the group `other`"]);
}

#[tokio::test]
async fn a_key_folder_from_before_channels_is_told_what_to_do() {
    let bench = folder().await;
    let at = bench.path();
    let old = only(keys(), &["db.key", "db.pem", "release.key", "release.pub"]);
    let old = old.path().to_str().unwrap();
    let init = ["channel", "init", "channel", "--keys", old];
    refuses(at, &init, 3, &["lacks root-1.key", "slipway keys new", "--add-channel-keys"]);
    succeeds(at, &["keys", "new", old, "--add-channel-keys"]);
    succeeds(at, &init);
    succeeds(at, &["publish", "channel", "r1", "--level", "1", "--keys", old]);
}
