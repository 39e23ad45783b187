//! An empty cache, a full disk, Ctrl-C, a folder that is something else: nothing is lost.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::manifests::{Bench, assert_nothing_in, refuses};
use crate::tiny_image::{SLIPWAY, built, command, slipway, succeed};

/// Name to content of everything but the disk image, whose time stands for it.
fn contents(folder: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (name, path) = {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), entry.path())
        };
        let bytes = if name == "disk.raw" { Vec::new() } else { fs::read(&path).unwrap() };
        found.insert(name, (bytes, path.metadata().unwrap().modified().unwrap()));
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn keys() -> String {
    built().join("keys").to_str().unwrap().to_owned()
}

/// A bench with a release in `releases/new`.
fn bench_with_release() -> Bench {
    let bench = Bench::new("");
    let keys = keys();
    let arguments = ["build", "tiny.toml", "--out", "releases/new", "--keys", &keys];
    succeed(&slipway(bench.path(), &arguments));
    bench
}

#[test]
fn an_empty_cache_without_a_network_lists_what_is_missing() {
    let bench = Bench::new("");
    let keys = keys();
    let arguments = ["build", "tiny.toml", "--out", "releases/new", "--keys", &keys, "--offline"];
    let mut command = command(bench.path(), &arguments);
    let output = command.env("XDG_CACHE_HOME", bench.path().join("cache")).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for word in ["systemd", "libc6", "linux-image", "--offline", "slipway fetch"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(output.stdout.is_empty());
    assert_nothing_in(&bench.path().join("releases"));
}

#[test]
fn a_folder_that_is_no_release_is_never_replaced() {
    let bench = Bench::new("");
    let target = bench.path().join("releases/new");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("thesis"), "years of work").unwrap();
    let keys = keys();
    let arguments = ["build", "tiny.toml", "--out", "releases/new", "--keys", &keys];
    refuses(bench.path(), &arguments, 3, &["releases/new", "no release folder", "--out"]);
    assert_eq!(fs::read_to_string(target.join("thesis")).unwrap(), "years of work");
    assert_eq!(names(&bench.path().join("releases")), ["new"]);
}

#[test]
fn a_second_build_replaces_the_first_as_a_whole() {
    let bench = bench_with_release();
    let keys = keys();
    let arguments =
        ["build", "tiny.toml", "--out", "releases/new", "--keys", &keys, "--version", "0.3.0"];
    succeed(&slipway(bench.path(), &arguments));
    assert_eq!(names(&bench.path().join("releases")), ["new"]);
    succeed(&slipway(bench.path(), &["verify", "releases/new", "--keys", &keys]));
    let document = fs::read_to_string(bench.path().join("releases/new/release.json")).unwrap();
    assert!(document.contains("\"0.3.0\""), "{document}");
}

#[test]
fn a_full_disk_leaves_the_old_release() {
    let bench = Bench::new("");
    // A file system of 40 MiB in a mount namespace of its own: the root alone is larger.
    let small = bench.path().join("small");
    fs::create_dir(&small).unwrap();
    let script = "set -e\n\
        mount -t tmpfs -o size=40m none \"$1\"\n\
        mkdir \"$1/new\"\n\
        echo '{}' > \"$1/new/release.json\"\n\
        code=0\n\
        \"$2\" build tiny.toml --out \"$1/new\" --keys \"$3\" || code=$?\n\
        ls -A \"$1\" \"$1/new\"\n\
        cat \"$1/new/release.json\"\n\
        exit $code\n";
    let mut unshare = Command::new("unshare");
    // An ordinary user needs a user namespace to mount in; root needs none.
    unshare.args(if rustix::process::geteuid().is_root() { ["-m"] } else { ["-rm"] });
    unshare.args(["sh", "-c", script, "sh"]).arg(&small).arg(SLIPWAY).arg(keys());
    let output = unshare.current_dir(bench.path()).output();
    let output = output.unwrap_or_else(|error| panic!("unshare: {error}: apt install util-linux"));
    let (out, message) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{message}");
    assert!(message.contains("the disk is not full") && message.contains("No space"), "{message}");
    let expected = format!("{0}:\nnew\n\n{0}/new:\nrelease.json\n{{}}\n", small.display());
    assert_eq!(out, expected);
}

/// Starts a build, interrupts it as soon as `when` holds, and demands a clean end.
fn interrupt(bench: &Bench, when: impl Fn() -> bool) {
    let releases = bench.path().join("releases");
    let before = contents(&releases.join("new"));
    let keys = keys();
    let arguments = ["build", "tiny.toml", "--out", "releases/new", "--keys", &keys];
    let mut command = command(bench.path(), &arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while !when() {
        assert!(started.elapsed() < Duration::from_secs(120), "the build never came that far");
        assert!(child.try_wait().unwrap().is_none(), "the build was over before");
        std::thread::sleep(Duration::from_millis(2));
    }
    let child_id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(child_id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(output.stdout.is_empty() && message.contains("interrupted"), "{message}");
    assert_eq!(names(&releases), ["new"]);
    assert!(contents(&releases.join("new")) == before, "the old release was touched");
}

#[test]
fn ctrl_c_leaves_the_old_release_and_nothing_else() {
    let bench = bench_with_release();
    let releases = bench.path().join("releases");
    interrupt(&bench, || names(&releases).len() > 1);
    let root_is_written = || {
        names(&releases).iter().any(|name| {
            releases.join(name).join("slipway-a.efi").exists()
                && name.starts_with(".slipway-release")
        })
    };
    interrupt(&bench, root_is_written);
    let keys = keys();
    succeed(&slipway(bench.path(), &["verify", "releases/new", "--keys", &keys]));
}
