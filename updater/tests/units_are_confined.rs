//! How far systemd's own judge finds slipwayd's units confined.

#![allow(clippy::unwrap_used)]

use std::io::{Write, stderr};
use std::path::Path;
use std::process::Command;

/// Tenths of systemd's points, of which 100 are no confinement at all.
const MOST_EXPOSURE: &str = "25";

#[test]
fn the_units_are_confined() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../manifests/files/slipwayd/usr/lib/systemd/system");
    for unit in ["slipwayd.service", "slipway-hostname.service", "slipway-kubelet.service"] {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold", MOST_EXPOSURE])
            .arg(units.join(unit))
            .output()
            .expect("cannot run systemd-analyze: run setup/install-dependencies");
        // Shown for tests that pass, too.
        stderr().write_all(&output.stdout).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{unit} has more than {MOST_EXPOSURE}: {said}");
    }
}
