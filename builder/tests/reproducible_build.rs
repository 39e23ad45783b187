//! The same lock gives the same bytes for another user, home, folder, umask, time zone,
//! locale, clock and number of cores.
//!
//! Everything is done anew the second time: packages are unpacked, the initrd is packed and
//! this workspace's `pause` is compiled, in another folder. Two things are taken over: the
//! packages themselves, and the Go programs, which take minutes; that Go gives the same
//! bytes in two folders is shown by a small module in `golang`'s own tests. slipwayd is
//! left out for the same reason; it is built exactly as `pause` is.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const MANIFEST: &str = "manifests/images/reproducible.toml";

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("cannot run {command:?} ({error}): run setup/install-dependencies")
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}\n{text}{errors}");
    text
}

/// Copies every tracked or new file of the repository, and adds a manifest.
fn copy_repository(to: &Path) {
    let listed = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let files = run(Command::new("git").args(listed).current_dir(repository()));
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let (from, to) = (repository().join(file), to.join(file));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if from.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from).unwrap(), to).unwrap();
        } else if from.exists() {
            fs::copy(from, to).unwrap();
        }
    }
    let text =
        "extends = \"node.toml\"\nwithout = [\"slipwayd\"]\n[image]\nname = \"reproducible\"\n";
    fs::write(to.join(MANIFEST), text).unwrap();
}

fn cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(
            || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"),
            PathBuf::from,
        )
        .join("slipway")
}

/// Files of a release with their digests.
fn digests(release: &Path) -> BTreeMap<String, String> {
    fs::read_dir(release)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let mut file = fs::File::open(entry.path()).unwrap();
            let (digest, _) = builder::tree::digest_reader(&mut file).unwrap();
            (entry.file_name().into_string().unwrap(), digest.to_string())
        })
        .collect()
}

#[test]
fn everything_around_the_build_may_differ() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let first = one.path().join("repository");
    let second = two.path().join("another/place/with a space");
    copy_repository(&first);
    copy_repository(&second);
    let slipway = env!("CARGO_BIN_EXE_slipway");
    let build = ["build", MANIFEST, "--quiet"];
    run(Command::new(slipway).args(build).args(["--out", "out"]).current_dir(&first));

    // The same keys: another key gives another signature, as it should.
    fs::create_dir_all(second.join("keys/dev")).unwrap();
    run(Command::new("cp").args(["-a", "keys/dev"]).arg(second.join("keys")).current_dir(&first));
    let other_cache = two.path().join("cache/slipway");
    fs::create_dir_all(&other_cache).unwrap();
    for kept in ["blobs", "go"] {
        run(Command::new("cp").arg("-a").arg(cache().join(kept)).arg(&other_cache));
    }
    let home = std::env::var("HOME").unwrap();
    let script = "umask 077 && exec \"$@\"";
    run(Command::new("unshare")
        .args(["--user", "--map-user=12345", "--map-group=12345", "--"])
        .args(["faketime", "2031-05-06 07:08:09", "taskset", "--cpu-list", "0"])
        .args(["sh", "-c", script, "sh", slipway])
        .args(build)
        .args(["--out", "out", "--offline", "--jobs", "1"])
        .current_dir(&second)
        .env("CARGO_HOME", std::env::var("CARGO_HOME").unwrap_or(format!("{home}/.cargo")))
        .env("RUSTUP_HOME", std::env::var("RUSTUP_HOME").unwrap_or(format!("{home}/.rustup")))
        .env("HOME", two.path())
        .env("XDG_CACHE_HOME", two.path().join("cache"))
        .env("TZ", "Pacific/Kiritimati")
        .env("LC_ALL", "C.UTF-8")
        .env("LANG", "tr_TR.UTF-8"));
    let (expected, found) = (digests(&first.join("out")), digests(&second.join("out")));
    assert_eq!(expected.len(), 7);
    for (name, digest) in &expected {
        assert_eq!(Some(digest), found.get(name), "{name} differs");
    }
    assert_eq!(expected.len(), found.len());
}
