//! The policy in `manifests/selinux`, compiled by the locked compiler.
//!
//! The compiler's packages come from the cache, where `make inputs` has put them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use builder::assemble::read_lock;
use builder::image::compose::Packages;
use builder::image::selinux::{Policy, SelinuxError, compile};
use builder::inputs::cache::Cache;
use builder::inputs::debian::unpack_all;
use builder::manifest::{self, Manifest};
use builder::progress::Progress;

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/images")
}

/// The node's manifest, with a copy of its policy that a test may change.
fn node(folder: &Path) -> Manifest {
    let mut manifest = manifest::read(&images().join("node.toml")).unwrap();
    let selinux = manifest.selinux.as_mut().unwrap();
    for file in fs::read_dir(selinux.resolve()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    selinux.policy = folder.canonicalize().unwrap();
    manifest
}

async fn compiled(manifest: &Manifest) -> Result<Policy, SelinuxError> {
    let progress = Progress::hidden();
    let cache = Cache::open_default().unwrap();
    let mut packages = read_lock(&images().join("node.lock")).unwrap().debian.package;
    packages.retain(|package| ["libc6", "libsepol2", "secilc"].contains(&package.name.as_str()));
    let unpacked = unpack_all(&packages, 1, &cache, &progress).unwrap();
    let packages: Packages = unpacked.into_iter().map(|package| package.tree).collect();
    Ok(compile(manifest, &packages, &cache, &progress).await?.unwrap())
}

#[tokio::test]
async fn two_folders_give_the_same_policy() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = compiled(&node(one.path())).await.unwrap();
    let second = compiled(&node(other.path())).await.unwrap();
    // The magic number of a kernel policy.
    assert!(first.binary.starts_with(&0xf97c_ff8c_u32.to_le_bytes()));
    assert_eq!(first.binary, second.binary);
    assert_eq!(first.file_contexts, second.file_contexts);
}

#[tokio::test]
async fn an_allow_that_must_never_be_stops_the_build() {
    let planted = [
        "(allow container_t slipway_state_t (file (read)))",
        "(allow spc_t system_disk_t (blk_file (write)))",
        "(allow runtime_t slipwayd_t (process (transition)))",
        "(allow host_t security_t (security (setenforce)))",
        "(allow container_t host_t (process (ptrace)))",
        "(allow kubelet_t esp_t (file (open)))",
    ];
    for rule in planted {
        let folder = tempfile::tempdir().unwrap();
        let manifest = node(folder.path());
        fs::write(folder.path().join("90-planted.cil"), rule).unwrap();
        let error = compiled(&manifest).await.unwrap_err().to_string();
        assert!(error.contains("neverallow check failed"), "{rule}: {error}");
        assert!(error.contains(rule), "{rule}: {error}");
    }
}

#[tokio::test]
async fn a_label_of_an_unknown_type_stops_the_build() {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = node(folder.path());
    let labels = &mut manifest.selinux.as_mut().unwrap().labels;
    labels.insert("/usr/bin/kubelet".parse().unwrap(), "kublet_exec_t".into());
    let error = compiled(&manifest).await.unwrap_err().to_string();
    assert!(error.contains("kublet_exec_t"), "{error}");
}

#[tokio::test]
async fn a_lock_without_the_compiler_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = node(folder.path());
    let cache = Cache::open_default().unwrap();
    let none = compile(&manifest, &Packages::default(), &cache, &Progress::hidden()).await;
    assert!(none.unwrap_err().to_string().contains("add `secilc`"));
}
