//! What goes to standard output, in both formats, and that it is free of escape sequences.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::manifests::{Bench, refuses};
use crate::tiny_image::{SLIPWAY, built, slipway, succeed};

fn json(arguments: &[&str]) -> Value {
    let mut all = vec!["--format", "json"];
    all.extend(arguments);
    let text = succeed(&slipway(built(), &all));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

#[test]
fn every_reporting_command_answers_in_json() {
    let release: Value =
        serde_json::from_slice(&fs::read(built().join("out/release.json")).unwrap()).unwrap();
    let hash = &release["root"]["root_hash"];
    assert!(hash.is_string(), "{release}");
    assert_eq!(json(&["verify", "out", "--keys", "keys"])["rootHash"], *hash);
    let inspected = json(&["inspect", "out"]);
    assert_eq!(inspected["release"], release);
    assert_eq!(inspected["ukis"][1]["rootHash"], *hash);
    assert_eq!(json(&["inspect", "out/slipway-a.efi"])["rootHash"], *hash);
    let disk = json(&["inspect", "out/disk.raw"]);
    assert_eq!(disk["ukis"][0]["rootHash"], *hash);
    assert!(disk["root"]["entries"].as_u64() > Some(500));
    let diff = json(&["diff", "out", "out"]);
    assert_eq!((&diff["sameRoot"], &diff["bytes"]), (&true.into(), &0.into()));
    let root = json(&["report", "out"])["root"].clone();
    assert!(root.as_array().unwrap().iter().all(|entry| !entry["reason"].is_null()));
    assert_eq!(json(&["lock", "--check", "tiny.toml"])["matches"], true);
}

#[test]
fn a_build_answers_in_json_and_a_diff_shows_what_it_changed() {
    let bench = Bench::new("[parts.more]\nwhy = \"Test.\"\nfiles = [\"usr/sbin/tune2fs\"]\n");
    let keys = built().join("keys");
    let mut arguments = Bench::build_arguments(&keys);
    arguments.extend(["--format", "json", "--version", "0.2.0"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let built_now: Value =
        serde_json::from_str(&succeed(&slipway(bench.path(), &arguments))).unwrap();
    assert_eq!(built_now["release"]["version"], "0.2.0");
    let old = built().join("out");
    let text = succeed(&slipway(bench.path(), &["diff", old.to_str().unwrap(), "releases/new"]));
    assert!(text.contains("tiny 0.1.0 -> tiny 0.2.0"), "{text}");
    assert!(text.contains("added    /usr/sbin/tune2fs"), "{text}");
}

#[test]
fn a_folder_that_is_no_release_is_refused_by_every_reader() {
    let bench = Bench::new("");
    for command in ["inspect", "verify", "report"] {
        refuses(bench.path(), &[command, "releases"], 3, &["releases", "release folder"]);
    }
    let old = built().join("out");
    refuses(bench.path(), &["diff", old.to_str().unwrap(), "releases"], 3, &["releases"]);
    refuses(bench.path(), &["inspect", "tiny.toml"], 3, &["tiny.toml"]);
    refuses(bench.path(), &["inspect", "nothing"], 3, &["nothing", "give a release folder"]);
}

#[test]
fn no_escape_sequence_reaches_a_pipe_or_a_user_without_colour() {
    let bench = Bench::new("[parts.more]\nwhy = \"Test.\"\nfils = []\n");
    let manifest = ["build", "tiny.toml", "--out", "x", "--keys", "keys"];
    for arguments in [&["--help"][..], &["build"][..], &manifest, &["inspect", "nothing"]] {
        for name in ["NO_COLOR", "UNUSED"] {
            let mut command = Command::new(SLIPWAY);
            let output = command.args(arguments).env(name, "1").current_dir(bench.path()).output();
            let output = output.unwrap();
            let escaped = |bytes: &[u8]| bytes.contains(&0x1b);
            assert!(!escaped(&output.stdout) && !escaped(&output.stderr), "{arguments:?}");
        }
    }
}

#[test]
fn quiet_says_nothing_but_errors() {
    let output = slipway(built(), &["lock", "--check", "-q", "tiny.toml"]);
    assert!(output.stderr.is_empty());
    let errors = slipway(built(), &["-q", "inspect", "nothing"]).stderr;
    assert!(!errors.is_empty());
}

#[test]
fn completions_and_man_pages_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = succeed(&slipway(folder.path(), &["completions", shell]));
        for command in ["lock", "fetch", "build", "report", "inspect", "verify", "diff", "keys"] {
            assert!(text.contains(command), "{shell}: {command}");
        }
    }
    succeed(&slipway(folder.path(), &["man", "pages"]));
    let page = fs::read_to_string(folder.path().join("pages/slipway-build.1")).unwrap();
    for word in ["offline", "keys", "mirror"] {
        assert!(page.contains(word), "{page}");
    }
}
