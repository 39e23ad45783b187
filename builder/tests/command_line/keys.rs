//! Keys that are missing, do not belong together, or may be read by others.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::manifests::{Bench, assert_nothing_in, refuses};
use crate::tiny_image::{built, slipway, succeed};

/// A bench with a copy of the shared keys.
fn bench() -> Bench {
    let bench = Bench::new("");
    let keys = bench.path().join("keys");
    fs::create_dir(&keys).unwrap();
    for entry in fs::read_dir(built().join("keys")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), keys.join(entry.file_name())).unwrap();
    }
    bench
}

/// Builds with the bench's own keys and demands a refusal.
fn refuses_keys(bench: &Bench, words: &[&str]) {
    let arguments = Bench::build_arguments(Path::new("keys"));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let message = refuses(bench.path(), &arguments, 3, words);
    assert!(!message.contains("PRIVATE KEY"), "{message}");
    assert_nothing_in(&bench.path().join("releases"));
}

#[test]
fn a_missing_key_folder_names_the_command_that_makes_one() {
    let bench = Bench::new("");
    refuses_keys(&bench, &["db.key", "release.pub", "PK.auth", "slipway keys new"]);
    assert!(!bench.path().join("keys").exists());
}

#[test]
fn a_single_missing_key_is_named() {
    let bench = bench();
    fs::remove_file(bench.path().join("keys/db.key")).unwrap();
    refuses_keys(&bench, &["lacks db.key", "backup"]);
}

#[test]
fn a_key_that_does_not_match_its_certificate_is_refused() {
    let bench = bench();
    let keys = bench.path().join("keys");
    fs::copy(keys.join("KEK.key"), keys.join("db.key")).unwrap();
    refuses_keys(&bench, &["db.key", "db.pem"]);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let bench = bench();
    let key = bench.path().join("keys/release.key");
    fs::set_permissions(key, Permissions::from_mode(0o640)).unwrap();
    refuses_keys(&bench, &["release.key", "chmod 600"]);
}

#[test]
fn a_damaged_key_is_refused_without_being_shown() {
    let bench = bench();
    let key = bench.path().join("keys/db.key");
    let text = fs::read_to_string(&key).unwrap();
    fs::write(&key, &text[..text.len() / 2]).unwrap();
    refuses_keys(&bench, &["db.key", "PKCS#8"]);
}

#[test]
fn keys_are_private_and_never_overwritten() {
    let bench = bench();
    let key = bench.path().join("keys/db.key");
    let before = fs::read(&key).unwrap();
    refuses(bench.path(), &["keys", "new", "keys"], 3, &["never overwritten"]);
    assert_eq!(fs::read(&key).unwrap(), before);
    succeed(&slipway(bench.path(), &["keys", "new", "more"]));
    for entry in fs::read_dir(bench.path().join("more")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "key") {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
