//! The disk that most scenarios start from: the test image after its first boot, with keys
//! enrolled, partitions made, the boot judged good, and shut down in order.
//!
//! It is made once for each release, by the scenario that looks at first boots or by the first that
//! needs it, in `target/vm/ready/<digest>/`. Each scenario gets an
//! overlay, and a copy of the firmware's variables. **Invariant:** a ready folder that exists
//! is complete.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use contract::Digest;

use crate::esp::Esp;
use crate::machine::{self, Hardware, Machine};
use crate::{BLESSED, BOOT_SECONDS, artefacts};

/// Starts a machine `name` from the ready disk of `release`.
///
/// # Errors
/// When the disk cannot be made, or QEMU does not start.
pub fn start(name: &str, release: &Path, hardware: impl Into<Hardware>) -> Result<Machine> {
    let ready = folder(release)?;
    let own = own_folder(name, &ready)?;
    machine::overlay(&ready.join("disk.qcow2"), "qcow2", &own)?;
    Machine::power_on(&own, hardware)
}

/// As [`start`], after `change` has changed the ESP of the machine's own disk.
///
/// # Errors
/// As [`start`], and those of `change`.
pub fn start_with_esp(
    name: &str,
    release: &Path,
    hardware: impl Into<Hardware>,
    change: impl FnOnce(&Esp) -> Result<()>,
) -> Result<Machine> {
    let ready = folder(release)?;
    let own = own_folder(name, &ready)?;
    machine::overlay(&ready.join("disk.qcow2"), "qcow2", &own)?;
    let esp = Esp::of_overlay(&own.join("disk.qcow2"), &own.join("esp.raw"))?;
    change(&esp)?;
    esp.put_back()?;
    Machine::power_on(&own, hardware)
}

/// Starts a machine `name` whose firmware has the keys of `release` enrolled, from another disk.
///
/// # Errors
/// As [`start`].
pub fn start_disk(
    name: &str,
    release: &Path,
    disk: &Path,
    hardware: impl Into<Hardware>,
) -> Result<Machine> {
    let own = own_folder(name, &folder(release)?)?;
    machine::overlay(disk, "raw", &own)?;
    Machine::power_on(&own, hardware)
}

/// An empty folder with the enrolled firmware variables.
fn own_folder(name: &str, ready: &Path) -> Result<PathBuf> {
    let own = artefacts().join(name);
    if own.exists() {
        fs::remove_dir_all(&own)?;
    }
    fs::create_dir_all(&own)?;
    fs::copy(ready.join("variables.fd"), own.join("variables.fd"))?;
    Ok(own)
}

/// Makes the machine of `folder` the ready one of its release: after its first boot, found good,
/// and shut down in order. The folder stays, for its logs.
///
/// # Errors
/// When its files cannot be copied.
pub fn keep(machine: &Path, release: &Path) -> Result<()> {
    let ready = place(release)?;
    let new = ready.with_extension("new");
    fs::create_dir_all(&new)?;
    for file in ["disk.qcow2", "variables.fd"] {
        fs::copy(machine.join(file), new.join(file))?;
    }
    if ready.exists() {
        fs::remove_dir_all(&ready)?;
    }
    Ok(fs::rename(new, ready)?)
}

/// Where the ready folder of a release is, or will be; those of other releases go.
fn place(release: &Path) -> Result<PathBuf> {
    let document = fs::read(release.join("release.json"))
        .with_context(|| format!("{} is no release folder", release.display()))?;
    let all = artefacts().join("ready");
    let ready = all.join(Digest::of(&document).to_string());
    if !ready.exists() && all.exists() {
        fs::remove_dir_all(&all)?;
    }
    fs::create_dir_all(&all)?;
    Ok(ready)
}

/// The ready folder of a release, made when it is missing.
///
/// # Errors
/// When the image does not boot to a good end.
pub fn folder(release: &Path) -> Result<PathBuf> {
    let ready = place(release)?;
    if !ready.exists() {
        let mut machine = Machine::start("ready-disk", &release.join("disk.raw"))?;
        machine.wait_for(BLESSED, BOOT_SECONDS)?;
        keep(&machine.power_off(BOOT_SECONDS)?, release)?;
    }
    Ok(ready)
}
