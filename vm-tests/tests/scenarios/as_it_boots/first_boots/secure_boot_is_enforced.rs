//! With our keys enrolled the image boots under Secure Boot, and loader, UKI and kernel
//! lockdown are in force.

use std::path::Path;

use anyhow::{Result, ensure};
use vm_tests::BOOT_SECONDS;
use vm_tests::machine::Machine;

/// From the machine's first power-on.
pub fn shows(machine: &mut Machine, release: &Path) -> Result<()> {
    machine.wait_for("Custom Secure Boot keys successfully enrolled", BOOT_SECONDS)?;
    machine.wait_for("UEFI Secure Boot is enabled", BOOT_SECONDS)?;
    machine.wait_for("Kernel is locked down from command line", BOOT_SECONDS)?;
    let facts = machine.ask("/facts")?;
    ensure!(facts["secure_boot"] == true, "the firmware's variable says: {}", facts["secure_boot"]);
    let lockdown = facts["lockdown"].as_str().unwrap_or_default();
    ensure!(lockdown.contains("[integrity]"), "lockdown is {lockdown}");
    let cmdline = facts["cmdline"].as_str().unwrap_or_default();
    let document = std::fs::read(release.join("release.json"))?;
    let document = contract::ReleaseDocument::from_json(&document)?;
    let expected = format!("roothash={}", document.root.root_hash);
    ensure!(cmdline.contains(&expected), "the kernel runs with {cmdline}");
    let os_release = facts["os_release"].as_str().unwrap_or_default();
    ensure!(os_release.contains("development build"), "os-release hides the keys: {os_release}");
    Ok(())
}
