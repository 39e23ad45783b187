//! Once the keys are enrolled, the firmware refuses a loader and the loader a UKI whose
//! bytes are not the signed ones.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use vm_tests::machine::{self, Machine, OnReset};
use vm_tests::{BOOT_SECONDS, esp, image, isolation};

const NAME: &str = "unsigned_or_tampered_boot_files_do_not_boot";
const LOADER: &str = "EFI/BOOT/BOOTX64.EFI";
const UKI: &str = "EFI/Linux/slipway-000001-a+3.efi";
const STARTED: &str = "Linux version";
/// What firmware and loader say to a file that is not signed as it should be.
const REFUSED: [&str; 4] =
    ["Access Denied", "Security Violation", "Security violation", "access denied"];

#[test]
fn unsigned_or_tampered_boot_files_do_not_boot() {
    isolation::isolated(NAME, scenario);
}

fn scenario() -> Result<()> {
    let release = image::test_image()?;
    let disk = image::disk_copy(&release, NAME)?;
    let original = release.join("slipway-a.efi");
    // The control: enrols the keys, and shows that these very steps boot a good disk.
    let mut machine = Machine::start(NAME, &disk)?;
    machine.wait_for("Custom Secure Boot keys successfully enrolled", BOOT_SECONDS)?;
    machine.wait_for(STARTED, BOOT_SECONDS)?;
    let folder = machine.cut_power()?;

    let scratch = tempfile::tempdir()?;
    let bad = scratch.path().join("bad.efi");
    for (what, change) in [
        ("a UKI with one flipped bit", flipped as fn(&Path, &Path) -> Result<()>),
        ("a UKI without its signature", unsigned),
    ] {
        change(&original, &bad)?;
        esp::write(&disk, UKI, &bad)?;
        refuses(&folder, &disk, what)?;
    }
    esp::write(&disk, UKI, &original)?;
    let loader = scratch.path().join("loader.efi");
    esp::read(&disk, LOADER, &loader)?;
    flipped(&loader, &bad)?;
    esp::write(&disk, LOADER, &bad)?;
    refuses(&folder, &disk, "a loader with one flipped bit")
}

/// Boots the changed disk with the enrolled keys: no kernel may start.
fn refuses(folder: &Path, disk: &Path, what: &str) -> Result<()> {
    // The firmware's variables stay.
    fs::remove_file(folder.join("disk.qcow2"))?;
    machine::overlay(disk, "raw", folder)?;
    let mut machine = Machine::power_on(folder, OnReset::Exit)?;
    let mut all = vec![STARTED];
    all.extend(REFUSED);
    let said = machine.wait_for_any(&all, BOOT_SECONDS)?;
    ensure!(said > 0, "{what} was started\n{}", machine.tail());
    ensure!(!machine.serial().contains(STARTED), "{what} was started\n{}", machine.tail());
    println!("{what}: refused");
    machine.cut_power()?;
    Ok(())
}

fn flipped(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)?;
    esp::flip_bit(to, fs::metadata(to)?.len() / 2)
}

/// The same program without its certificate table.
fn unsigned(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)?;
    let status = std::process::Command::new("sbattach").arg("--remove").arg(to).status().map_err(
        |error| anyhow::anyhow!("cannot run sbattach ({error}): apt install sbsigntool"),
    )?;
    ensure!(status.success(), "sbattach could not remove the signature");
    Ok(())
}
