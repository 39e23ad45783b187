//! How far systemd's own judge finds slipwayd's units confined.

#![allow(clippy::unwrap_used)]

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tenths of systemd's points, of which 100 are no confinement at all.
const MOST_EXPOSURE: &str = "25";

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/files/slipwayd/usr/lib/systemd/system")
}

#[test]
fn the_updater_yields_to_what_the_node_is_for_and_is_watched() {
    let unit = std::fs::read_to_string(units().join("slipwayd.service")).unwrap();
    for line in [
        "Type=notify",
        "WatchdogSec=180",
        "Restart=always",
        "CPUWeight=idle",
        "IOWeight=1",
        "MemoryMax=64M",
        "CapabilityBoundingSet=",
    ] {
        assert!(unit.lines().any(|found| found == line), "slipwayd.service has no line {line}");
    }
}

#[test]
fn the_units_are_confined() {
    let units = units();
    for unit in [
        "slipwayd.service",
        "slipway-credential.service",
        "slipway-hostname.service",
        "slipway-kubelet.service",
    ] {
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
