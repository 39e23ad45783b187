//! The disk that most scenarios start from: the test image after its first boot, with keys
//! enrolled, partitions made, the boot judged good, and shut down in order.
//!
//! It is made once for each release, in `target/vm/ready/<digest>/`. Each scenario gets an
//! overlay, and a copy of the firmware's variables. **Invariant:** a ready folder that exists
//! is complete.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use contract::Digest;

use crate::machine::{self, Hardware, Machine};
use crate::{BLESSED, BOOT_SECONDS, artefacts};

/// Starts a machine `name` from the ready disk of `release`.
///
/// # Errors
/// When the disk cannot be made, or QEMU does not start.
pub fn start(name: &str, release: &Path, hardware: impl Into<Hardware>) -> Result<Machine> {
    let ready = folder(release)?;
    let own = artefacts().join(name);
    if own.exists() {
        fs::remove_dir_all(&own)?;
    }
    fs::create_dir_all(&own)?;
    fs::copy(ready.join("variables.fd"), own.join("variables.fd"))?;
    machine::overlay(&ready.join("disk.qcow2"), "qcow2", &own)?;
    Machine::power_on(&own, hardware)
}

/// The ready folder of a release, made when it is missing.
///
/// # Errors
/// When the image does not boot to a good end.
pub fn folder(release: &Path) -> Result<PathBuf> {
    let document = fs::read(release.join("release.json"))
        .with_context(|| format!("{} is no release folder", release.display()))?;
    let all = artefacts().join("ready");
    let ready = all.join(Digest::of(&document).to_string());
    if ready.join("disk.qcow2").exists() {
        return Ok(ready);
    }
    // Those of other releases are of no use any more.
    if all.exists() {
        fs::remove_dir_all(&all)?;
    }
    fs::create_dir_all(&all)?;
    let mut machine = Machine::start("ready-disk", &release.join("disk.raw"))?;
    machine.wait_for(BLESSED, BOOT_SECONDS)?;
    let made = machine.power_off(BOOT_SECONDS)?;
    fs::rename(made, &ready)?;
    Ok(ready)
}
