//! One flipped byte anywhere in a release, or another signer: `slipway verify` says so.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use builder::formats::disk::Disk;
use builder::formats::tree::digest_reader;
use builder::signing::keys::KeyFolder;
use contract::ReleaseDocument;
use tempfile::TempDir;

use crate::manifests::refuses;
use crate::tiny_image::{built, slipway, succeed};

/// A copy of the shared release; holes of the disk image stay holes.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = built().join("out");
    let done = Command::new("cp")
        .args(["-r", "--sparse=always", "--reflink=auto"])
        .args([source.as_path(), folder.path()])
        .status();
    assert!(done.unwrap().success());
    folder
}

fn flip(file: &Path, at: u64) {
    let open = File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    open.read_exact_at(&mut byte, at).unwrap();
    open.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Flips a byte, demands that `verify` names the file, and flips it back.
fn is_noticed(folder: &Path, name: &str, at: u64) {
    let file = folder.join("out").join(name);
    flip(&file, at);
    let keys = built().join("keys");
    let arguments = ["verify", "out", "--keys", keys.to_str().unwrap()];
    refuses(folder, &arguments, 3, &[name, "do not use this release"]);
    flip(&file, at);
}

#[test]
fn one_flipped_byte_in_any_file_is_noticed() {
    let folder = copy();
    for name in ["root.erofs", "slipway-a.efi", "slipway-b.efi", "report.json", "release.json"] {
        let bytes = folder.path().join("out").join(name).metadata().unwrap().len();
        is_noticed(folder.path(), name, bytes / 2);
    }
    let keys = built().join("keys");
    succeed(&slipway(folder.path(), &["verify", "out", "--keys", keys.to_str().unwrap()]));
}

#[test]
fn one_flipped_byte_in_any_partition_is_noticed() {
    let folder = copy();
    let image = folder.path().join("out/disk.raw");
    let disk = Disk::open(&image).unwrap();
    let starts: Vec<(String, u64)> = disk
        .partitions()
        .iter()
        .map(|partition| (partition.label.clone(), partition.start))
        .collect();
    drop(disk);
    assert_eq!(starts.len(), 3, "{starts:?}");
    for (_, start) in starts {
        is_noticed(folder.path(), "disk.raw", start + 5000);
    }
    // The partition table itself.
    is_noticed(folder.path(), "disk.raw", 512 + 56);
}

/// Signs a release document that describes the files as they are.
fn sign_again(folder: &Path) {
    let file = folder.join("out/release.json");
    let mut document = ReleaseDocument::from_json(&fs::read(&file).unwrap()).unwrap();
    for described in &mut document.files {
        let mut open = File::open(folder.join("out").join(&described.name)).unwrap();
        (described.sha256, described.bytes) = digest_reader(&mut open).unwrap();
    }
    let text = document.to_json().unwrap();
    let keys = KeyFolder::open(&built().join("keys")).unwrap();
    let signature = keys.release_signer().sign(text.as_bytes()).unwrap();
    let digits: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(&file, text).unwrap();
    fs::write(folder.join("out/release.json.sig"), digits).unwrap();
}

#[test]
fn a_disk_that_does_not_hold_the_root_is_noticed_though_its_digest_is_signed() {
    let folder = copy();
    let image = folder.path().join("out/disk.raw");
    let root = Disk::open(&image).unwrap().partition("root-a").unwrap();
    let keys = built().join("keys");
    let arguments = ["verify", "out", "--keys", keys.to_str().unwrap()];
    flip(&image, root.start + 5000);
    sign_again(folder.path());
    refuses(folder.path(), &arguments, 3, &["hash tree", "do not use this image"]);
    flip(&image, root.start + 5000);
    sign_again(folder.path());
    succeed(&slipway(folder.path(), &arguments));
}

#[test]
fn a_release_document_that_was_made_to_fit_is_noticed() {
    let folder = copy();
    let file = folder.path().join("out/release.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"0.1.0\"", "\"9.1.0\"")).unwrap();
    let keys = built().join("keys");
    let arguments = ["verify", "out", "--keys", keys.to_str().unwrap()];
    refuses(folder.path(), &arguments, 3, &["release.json", "not signed by this release key"]);
}

#[test]
fn the_keys_of_another_signer_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    succeed(&slipway(folder.path(), &["keys", "new", "other"]));
    let release = built().join("out");
    let arguments = ["verify", release.to_str().unwrap(), "--keys", "other"];
    refuses(folder.path(), &arguments, 3, &["not signed by this release key"]);
    // With the right release key, the certificate of the boot files is still checked.
    let pair = built().join("keys/release.pub");
    fs::copy(pair, folder.path().join("other/release.pub")).unwrap();
    refuses(folder.path(), &arguments, 3, &["slipway-a.efi"]);
}

#[test]
fn a_missing_file_of_a_release_is_named() {
    let folder = copy();
    fs::remove_file(folder.path().join("out/slipway-b.efi")).unwrap();
    let keys = built().join("keys");
    let arguments = ["verify", "out", "--keys", keys.to_str().unwrap()];
    refuses(folder.path(), &arguments, 3, &["slipway-b.efi"]);
}
