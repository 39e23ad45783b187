//! The lock of a small manifest, as text: whoever changes the format sees a reviewer's diff.

use builder::assemble::{go_locks, lock_of};
use builder::lock::{LockRequest, lock_packages};
use builder::manifest;
use builder::progress::Progress;

use super::fixture::{Archive, Server, cache};

const MANIFEST: &str = r#"
[image]
name = "small"
version = "0.1.0"
[debian]
suites = ["trixie"]
components = ["main"]
keyring = "/keyring.gpg"
[boot]
kernel = "boot/vmlinuz-*"
stub = "stub.efi"
loader = "loader.efi"
command-line = ["ro"]
loader-conf = []
[parts.modules]
why = "Loads kernel modules."
packages = ["kmod"]
files = ["usr/bin/kmod"]
[parts.program]
why = "A program in Go."
go.module = "program"
go.install.one = "usr/bin/one"
"#;
const GO_MOD: &str = "module program\n\ngo 1.26.0\n\ntoolchain go1.26.8\n\ntool a.example/b/one\n\nrequire a.example/b v1.0.0\n";
const GO_SUM: &str = "a.example/b v1.0.0 h1:abc=\na.example/b v1.0.0/go.mod h1:def=\n";

#[tokio::test]
async fn lock_of_a_small_manifest() {
    let archive = Archive::new();
    let server = Server::start(&archive).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("program")).unwrap();
    for (name, text) in
        [("small.toml", MANIFEST), ("program/go.mod", GO_MOD), ("program/go.sum", GO_SUM)]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let manifest = manifest::read(&folder.path().join("small.toml")).unwrap();
    let request = LockRequest {
        suites: manifest.debian.suites.clone(),
        components: manifest.debian.components.clone(),
        packages: manifest.requested_packages(),
        ..archive.request(folder.path(), &[])
    };
    let (cache, progress) = (cache(folder.path()), Progress::hidden());
    let debian = lock_packages(&request, &server.mirrors(), &cache, &progress).await.unwrap();
    let lock = lock_of(debian, go_locks(&manifest).unwrap());
    // The archive's key is another one in each run.
    let key = archive.key.fingerprint().to_hex();
    let text = lock.to_text().unwrap();
    assert!(text.contains(&key), "{text}");
    insta::assert_snapshot!(text.replace(&key, "FINGERPRINT"));
}
