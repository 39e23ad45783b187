//! Wrong arguments, manifests and locks; what the audit finds.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::tiny_image::{built, repository, slipway, succeed, write_manifest};

/// A folder with a manifest, the shared keys, and an empty folder for releases.
pub struct Bench {
    folder: TempDir,
}

impl Bench {
    /// The tiny manifest with more tables.
    pub fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("releases")).unwrap();
        write_manifest(&folder.path().join("tiny.toml"), more);
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let file = self.path().join("tiny.toml");
        fs::write(&file, change(fs::read_to_string(&file).unwrap())).unwrap();
    }

    /// The arguments of a build into `releases/new`.
    pub fn build_arguments(keys: &Path) -> Vec<String> {
        let keys = keys.to_str().unwrap();
        let all = ["build", "tiny.toml", "--out", "releases/new", "--keys", keys];
        all.into_iter().map(str::to_owned).collect()
    }

    /// Builds, and demands this exit code, these words, a silent standard output, and
    /// nothing left behind.
    pub fn refuses(&self, code: i32, words: &[&str]) -> String {
        let arguments = Self::build_arguments(&built().join("keys"));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let message = refuses(self.path(), &arguments, code, words);
        assert_nothing_in(&self.path().join("releases"));
        message
    }
}

pub fn assert_nothing_in(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Demands an exit code, words on standard error, and a silent standard output.
pub fn refuses(folder: &Path, arguments: &[&str], code: i32, words: &[&str]) -> String {
    let output = slipway(folder, arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {:?}", output.stdout);
    for word in words {
        assert!(message.contains(word), "{arguments:?}: no `{word}` in: {message}");
    }
    message
}

#[test]
fn a_wrong_flag_is_answered_with_the_right_one() {
    let bench = Bench::new("");
    refuses(bench.path(), &["build", "tiny.toml", "--ouk", "x"], 2, &["--ouk", "--out"]);
}

#[test]
fn a_missing_manifest_is_named() {
    let keys = built().join("keys");
    let arguments = ["build", "none.toml", "--out", "new", "--keys", keys.to_str().unwrap()];
    let bench = Bench::new("");
    refuses(bench.path(), &arguments, 3, &["none.toml", "check the path"]);
    assert!(!bench.path().join("new").exists());
}

#[test]
fn an_unknown_key_has_line_column_and_the_nearest_name() {
    let bench = Bench::new("[parts.more]\nwhy = \"Test.\"\nfils = []\n");
    bench.refuses(3, &["tiny.toml:10:1:", "`fils`", "did you mean `files`?"]);
}

#[test]
fn an_unknown_part_has_line_column_and_the_nearest_name() {
    let bench = Bench::new("");
    bench.edit(|text| text.replace("\"kubelet\"", "\"kublet\""));
    bench.refuses(3, &["tiny.toml:2:", "unknown part `kublet`", "did you mean `kubelet`?"]);
}

#[test]
fn a_missing_lock_names_the_next_step() {
    let bench = Bench::new("");
    let manifests = bench.path().join("manifests/images");
    fs::create_dir_all(&manifests).unwrap();
    let node = repository().join("manifests/images/node.toml");
    fs::copy(node, manifests.join("node.toml")).unwrap();
    let local = manifests.join("node.toml");
    bench.edit(|text| {
        let first = format!("extends = \"{}\"\n", local.display());
        first + text.split_once('\n').unwrap().1
    });
    bench.refuses(3, &["tiny.lock", "slipway lock"]);
    refuses(bench.path(), &["lock", "--check", "tiny.toml"], 3, &["tiny.lock", "slipway lock"]);
}

#[test]
fn a_lock_of_another_state_lists_the_differences() {
    let bench = Bench::new("");
    bench.edit(|text| {
        text.replace("[\"ca-certificates\", \"iptables\"", "[\"ca-certificates\", \"nano\"")
    });
    let words = ["not locked yet: nano", "no longer in the manifest: iptables", "slipway lock"];
    bench.refuses(3, &words);
    refuses(bench.path(), &["lock", "--check", "tiny.toml"], 3, &words);
}

#[test]
fn a_matching_lock_is_said_to_match() {
    let bench = Bench::new("");
    let text = succeed(&slipway(bench.path(), &["lock", "--check", "tiny.toml"]));
    assert!(text.contains("node.lock matches its manifest"), "{text}");
}

#[test]
fn a_damaged_lock_is_placed() {
    let bench = Bench::new("");
    fs::write(bench.path().join("tiny.lock"), "format = 1\n[debian\n").unwrap();
    bench.refuses(3, &["tiny.lock", "slipway lock"]);
}

#[test]
fn a_glob_without_a_match_names_its_part() {
    let bench = Bench::new("[parts.more]\nwhy = \"Test.\"\nfiles = [\"usr/bin/modprob\"]\n");
    bench.refuses(3, &["part `more`", "usr/bin/modprob", "correct `files`"]);
}

#[test]
fn two_parts_that_give_the_same_path_are_both_named() {
    let bench = Bench::new("[parts.more]\nwhy = \"Test.\"\nfiles = [\"usr/bin/kmod\"]\n");
    bench.refuses(3, &["`more`", "`udev`", "/usr/bin/kmod"]);
}

#[test]
fn a_shell_is_found_by_the_audit() {
    let bench = Bench::new("[parts.more]\nwhy = \"Test.\"\nfiles = [\"usr/lib/klibc/bin/sh\"]\n");
    bench.refuses(3, &["shell: /usr/lib/klibc/bin/sh", "[[audit.exceptions]]"]);
}

#[test]
fn a_shell_that_a_glob_brings_along_is_found_by_the_audit() {
    let bench =
        Bench::new("[parts.more]\nwhy = \"Test.\"\nfiles = [\"usr/lib/klibc/bin/[r-t]*\"]\n");
    bench.refuses(3, &["shell: /usr/lib/klibc/bin/sh", "unlisted-executable: "]);
}

#[test]
fn an_interpreter_is_found_by_the_audit() {
    let bench = Bench::new("[parts.more]\nwhy = \"Test.\"\nfiles = [\"usr/bin/mawk\"]\n");
    bench.refuses(3, &["interpreter: /usr/bin/mawk"]);
}

#[test]
fn a_setuid_program_is_found_by_the_audit() {
    let bench = Bench::new(
        "[parts.more]\nwhy = \"Test.\"\nfiles = [\"usr/bin/mount\", \"usr/bin/umount\"]\n",
    );
    bench.edit(|text| {
        text.replace("without = [", "without = [\"mount\", ")
            .replace("packages = [", "packages = [\"mount\", ")
    });
    bench.refuses(3, &["setuid: /usr/bin/mount has mode 4755", "setuid: /usr/bin/umount"]);
}

#[test]
fn an_executable_that_only_a_glob_gives_is_found_by_the_audit() {
    let bench = Bench::new("[parts.more]\nwhy = \"Test.\"\nfiles = [\"usr/sbin/tune2f*\"]\n");
    bench.refuses(3, &["unlisted-executable: /usr/sbin/tune2fs", "part `more`"]);
}

#[test]
fn a_link_to_nowhere_is_found_by_the_audit() {
    let bench =
        Bench::new("[parts.more]\nwhy = \"Test.\"\n[parts.more.links]\n\"/etc/x\" = \"y\"\n");
    bench.refuses(3, &["unresolved-link: /etc/x", "/etc/y"]);
}

#[test]
fn an_exception_that_lets_nothing_pass_is_refused() {
    let exception =
        "[[audit.exceptions]]\nrule = \"setuid\"\npath = \"/usr/bin/mount\"\nreason = \"no\"\n";
    Bench::new(exception).refuses(3, &["/usr/bin/mount", "`setuid`", "lets nothing pass"]);
}

#[test]
fn an_exception_with_a_reason_passes_and_is_reported() {
    let bench = Bench::new(
        "[parts.more]\nwhy = \"Test.\"\nfiles = [\"usr/lib/klibc/bin/sh\"]\n\
         [[audit.exceptions]]\nrule = \"shell\"\npath = \"/usr/lib/klibc/bin/sh\"\n\
         reason = \"a test of exceptions\"\n",
    );
    let arguments = Bench::build_arguments(&built().join("keys"));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    succeed(&slipway(bench.path(), &arguments));
    let report = fs::read(bench.path().join("releases/new/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let exceptions = report["exceptions"].to_string();
    assert!(exceptions.contains("/usr/lib/klibc/bin/sh"), "{exceptions}");
    assert!(exceptions.contains("a test of exceptions"), "{exceptions}");
    let text = succeed(&slipway(bench.path(), &["report", "releases/new"]));
    assert!(text.contains("shell: /usr/lib/klibc/bin/sh"), "{text}");
}
