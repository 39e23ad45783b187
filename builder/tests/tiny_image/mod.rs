//! A small image for tests: the node's kernel, systemd and mount tools, without anything
//! that a Go or Rust compiler would have to build.
//!
//! It extends the real manifest and uses the real lock, so that the first run fills the
//! cache from the mirror and later ones need no network.

#![allow(clippy::unwrap_used)]
// Each test program uses its own share of this file.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

/// The program under test.
pub const SLIPWAY: &str = env!("CARGO_BIN_EXE_slipway");

/// Parts that need a compiler, and those whose packages the fixture asks for itself.
const LEFT_OUT: &str =
    r#"["containerd", "cni", "kubelet", "slipwayd", "pause", "certificates", "iptables", "runc"]"#;

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Writes a manifest with the given tables after its own; `rest` is a part that only
/// keeps the lock's packages requested.
pub fn write_manifest(file: &Path, more: &str) {
    let node = repository().join("manifests/images/node.toml");
    let text = format!(
        "extends = \"{}\"\nwithout = {LEFT_OUT}\n[image]\nname = \"tiny\"\n\
         [parts.rest]\nwhy = \"Keeps the lock's packages requested.\"\n\
         packages = [\"ca-certificates\", \"iptables\", \"runc\"]\n{more}",
        node.display()
    );
    fs::write(file, text).unwrap();
}

/// Runs slipway as a user without a terminal would.
pub fn slipway(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

/// The same, not started yet.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(SLIPWAY);
    command.args(arguments).current_dir(folder);
    command
}

/// Demands success; gives standard output.
pub fn succeed(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder with `tiny.toml`, `keys` and the release `out`, built once per test program.
pub fn built() -> &'static Path {
    static BUILT: OnceLock<TempDir> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        write_manifest(&folder.path().join("tiny.toml"), "");
        succeed(&slipway(folder.path(), &["keys", "new", "keys"]));
        let build = ["build", "tiny.toml", "--out", "out", "--keys", "keys"];
        succeed(&slipway(folder.path(), &build));
        folder
    });
    folder.path()
}
