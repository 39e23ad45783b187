//! The same lock gives the same bytes: for another user, folder, home, cache, umask, time
//! zone, locale, clock, number of jobs and number of cores.
//!
//! The second build starts from packages alone: it unpacks, compiles and compresses all
//! anew. Its image has the node's kernel, systemd and a container image with a program of
//! the workspace. Programs built with Go are left out, because kubelet alone takes
//! minutes to compile; that their bytes do not depend on folders or caches is Go's own
//! `-trimpath`, and `golang::build` has a test for what slipway adds.

#![allow(clippy::unwrap_used)]

mod tiny_image;

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use builder::assemble::read_lock;
use builder::inputs::cache::Cache;
use tempfile::TempDir;

use tiny_image::{SLIPWAY, repository, slipway, succeed};

/// `nobody`, as far as any system has one.
const OTHER_USER: u32 = 65534;

/// Parts that need Go, or more of the workspace than `pause`.
const MANIFEST: &str = r#"extends = "node.toml"
without = ["containerd", "cni", "kubelet", "slipwayd"]
[image]
name = "reproduced"
"#;

fn run(package: &str, program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).current_dir(repository()).output();
    let output = output
        .unwrap_or_else(|error| panic!("cannot run {program} ({error}): apt install {package}"));
    succeed(&output);
    output
}

/// Copies every file that git tracks or would, with the manifest of this test.
fn copy_repository(to: &Path) {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = run("git", "git", &arguments).stdout;
    for name in String::from_utf8(listed).unwrap().split_terminator('\0') {
        let source = repository().join(name);
        // A tracked file may have been removed in the working folder.
        if source.exists() {
            let target = to.join(name);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(source, target).unwrap();
        }
    }
    fs::write(to.join("manifests/images/reproduced.toml"), MANIFEST).unwrap();
}

/// Fills another cache with the packages and nothing else.
fn copy_packages(to: &Path) {
    let lock = read_lock(&repository().join("manifests/images/node.lock")).unwrap();
    let (here, there) = (Cache::open_default().unwrap(), Cache::open(to).unwrap());
    for package in &lock.debian.package {
        let blob = there.blob(&package.sha256);
        fs::copy(here.blob(&package.sha256), &blob).unwrap();
    }
}

/// Makes everything below `path` private to `owner`.
fn give(path: &Path, owner: Option<u32>) {
    chown(path, owner, owner).unwrap();
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), owner);
        }
    }
}

/// Where cargo keeps crates on this host.
fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// Folders of the second build.
struct Elsewhere {
    folder: TempDir,
}

impl Elsewhere {
    fn new(keys: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("some where else ").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        copy_repository(&at("deep/er/repository"));
        copy_packages(&at("cache/slipway"));
        for name in ["home", "rust", "cargo", "keys"] {
            fs::create_dir(at(name)).unwrap();
        }
        for entry in fs::read_dir(keys).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), at("keys").join(entry.file_name())).unwrap();
        }
        fs::copy(SLIPWAY, at("slipway")).unwrap();
        let root = rustix::process::geteuid().is_root();
        give(folder.path(), root.then_some(OTHER_USER));
        fs::set_permissions(at("slipway"), Permissions::from_mode(0o700)).unwrap();
        Self { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Builds as another user when this one is root, who sees compiler and crates at other
    /// paths.
    fn build(&self) -> Output {
        let sysroot = run("rustc", "rustc", &["--print", "sysroot"]).stdout;
        let sysroot = String::from_utf8(sysroot).unwrap().trim().to_owned();
        let root = rustix::process::geteuid().is_root();
        let script = format!(
            "set -e\n\
             mount --bind \"$1\" \"$2/rust\"\n\
             mount --bind \"$3\" \"$2/cargo\"\n\
             umask 077\n\
             cd \"$2/deep/er/repository\"\n\
             exec {} taskset -c 0 faketime -f '+400d' \"$2/slipway\" build \\\n\
               manifests/images/reproduced.toml --out ../out --keys ../../../keys \\\n\
               --offline --jobs 1\n",
            if root {
                format!("setpriv --reuid={OTHER_USER} --regid={OTHER_USER} --clear-groups")
            } else {
                String::new()
            }
        );
        let mut command = Command::new("unshare");
        command.args(if root { ["-m"] } else { ["-rm"] }).args(["sh", "-c", &script, "sh"]);
        command.arg(sysroot).arg(self.folder.path()).arg(cargo_home()).env_clear();
        let path = format!("{}/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.at("rust").display());
        command.env("PATH", path).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.env("HOME", self.at("home")).env("XDG_CACHE_HOME", self.at("cache"));
        command.env("CARGO_HOME", self.at("cargo"));
        command.env("TZ", "Pacific/Kiritimati").env("LC_ALL", "C");
        command.output().unwrap_or_else(|error| panic!("unshare: {error}: apt install util-linux"))
    }
}

/// The manifest of this test within a copy of the repository, for the first build.
fn first_build(folder: &Path) {
    copy_repository(&folder.join("repository"));
    let arguments = [
        "build",
        "repository/manifests/images/reproduced.toml",
        "--out",
        "out",
        "--keys",
        "keys",
        "--jobs",
        "2",
    ];
    let mut command = tiny_image::command(folder, &arguments);
    let output = command.env("LC_ALL", "C.UTF-8").env("TZ", "America/St_Johns").output();
    succeed(&output.unwrap());
}

/// The first byte at which two files differ.
fn first_difference(left: &Path, right: &Path) -> Option<u64> {
    let (mut left, mut right) = (File::open(left).unwrap(), File::open(right).unwrap());
    let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    loop {
        let read = left.read(&mut one).unwrap();
        let same = right.read_exact(&mut other[..read]).is_ok();
        if !same || one[..read] != other[..read] {
            let common = one.iter().zip(&other).take_while(|(left, right)| left == right).count();
            return Some(at + common as u64);
        }
        if read == 0 {
            return (right.read(&mut other).unwrap() > 0).then_some(at);
        }
        at += read as u64;
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn another_user_folder_umask_zone_locale_clock_and_core_count_give_the_same_bytes() {
    for (package, program) in [("faketime", "faketime"), ("util-linux", "taskset")] {
        run(package, program, &["--version"]);
    }
    let here = tempfile::tempdir().unwrap();
    succeed(&slipway(here.path(), &["keys", "new", "keys"]));
    first_build(here.path());
    let elsewhere = Elsewhere::new(&here.path().join("keys"));
    let output = elsewhere.build();
    let text = succeed(&output);
    assert!(text.contains("reproduced 0.1.0"), "{text}");
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(progress.contains("cargo build pause"), "nothing was rebuilt: {progress}");
    let (one, other) = (here.path().join("out"), elsewhere.at("deep/er/out"));
    assert_eq!(names(&one), names(&other));
    let differing: Vec<String> = names(&one)
        .into_iter()
        .filter_map(|name| {
            let at = first_difference(&one.join(&name), &other.join(&name))?;
            Some(format!("{name} from byte {at} on"))
        })
        .collect();
    assert!(differing.is_empty(), "the builds differ: {differing:?}");
}
