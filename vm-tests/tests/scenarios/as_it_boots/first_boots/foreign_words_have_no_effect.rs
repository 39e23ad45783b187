//! Whatever somebody writes beside the signed files of the EFI system partition has no effect on what
//! runs: credentials with a null key, of all images and of this one; extension images; add-ons; a
//! driver of the loader. The same credentials from the firmware, SMBIOS and fw_cfg, have none either.
//!
//! Without `systemd.import_credentials=no` on the command line the first check fails.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vm_tests::esp::Esp;
use vm_tests::machine::{Machine, PROBE_PORT};

/// What the image sets nowhere; the kernel's own value is 60.
const SYSCTL: &str = "/proc/sys/vm/swappiness";
const PLANTED_SYSCTL: &str = "vm.swappiness=7\n";
/// A word for each thing that is planted, so that what took effect is named.
const WORD: &str = "planted";

/// Credentials and what they would do.
fn credentials() -> [(&'static str, String); 5] {
    [
        ("sysctl.extra", PLANTED_SYSCTL.to_owned()),
        ("tmpfiles.extra", format!("f /run/{WORD}-by-tmpfiles 0644 root root -\n")),
        ("fstab.extra", format!("tmpfs /run/{WORD}-by-fstab tmpfs nosuid 0 0\n")),
        ("network.hosts", format!("127.0.0.9 {WORD}.example.com\n")),
        (
            "systemd.extra-unit.planted.service",
            format!("[Service]\nExecStart=/usr/bin/systemctl start {WORD}.target\n"),
        ),
    ]
}

/// What a virtual machine's host gives beside the settings.
pub fn smbios() -> Vec<String> {
    vec![format!("io.systemd.credential:tmpfiles.extra=f /run/{WORD}-by-smbios 0644 root root -")]
}

/// As [`smbios`]: name and value of an item of fw_cfg.
pub fn fw_cfg() -> Vec<(String, String)> {
    let name = "opt/io.systemd.credentials/tmpfiles.extra".to_owned();
    vec![(name, format!("f /run/{WORD}-by-fw-cfg 0644 root root -"))]
}

/// Writes everything onto the ESP.
pub fn plant(esp: &Esp, release: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("file");
    let ukis = esp.list("EFI/Linux")?;
    let uki = ukis.iter().find(|name| name.ends_with(".efi")).context("no UKI on the ESP")?;
    // The stub looks beside the name of its file, and beside that name without its tries.
    let (bare, _) = uki.split_once('+').unwrap_or((uki.trim_end_matches(".efi"), ""));
    let beside = [format!("EFI/Linux/{uki}.extra.d"), format!("EFI/Linux/{bare}.efi.extra.d")];
    let folders = ["loader/credentials", "loader/addons", "EFI/systemd/drivers"];
    for folder in folders.into_iter().chain(beside.iter().map(String::as_str)) {
        esp.make_folder(folder)?;
    }
    for (name, text) in credentials() {
        encrypt(name, &text, &file)?;
        esp.write(&format!("loader/credentials/{name}.cred"), &file)?;
        for folder in &beside {
            esp.write(&format!("{folder}/{name}.cred"), &file)?;
        }
    }
    addon(release, scratch.path(), &file)?;
    esp.write("loader/addons/planted.addon.efi", &file)?;
    esp.write("EFI/systemd/drivers/plantedx64.efi", &file)?;
    for folder in &beside {
        esp.write(&format!("{folder}/planted.addon.efi"), &file)?;
    }
    fs::write(&file, "no image, and nobody looks")?;
    for folder in &beside {
        esp.write(&format!("{folder}/planted.sysext.raw"), &file)?;
        esp.write(&format!("{folder}/planted.confext.raw"), &file)?;
    }
    Ok(())
}

/// In a boot of such an ESP.
pub fn shows(machine: &mut Machine) -> Result<()> {
    let swappiness = machine.get(PROBE_PORT, &format!("/read?path={SYSCTL}"), 60)?;
    ensure!(swappiness.trim_ascii() == b"60", "a credential of the ESP set {SYSCTL}");
    let run = machine.ask("/list?path=/run")?;
    let planted = names(&run).filter(|name| name.contains(WORD)).collect::<Vec<_>>();
    ensure!(planted.is_empty(), "a credential made {planted:?} in /run");
    let facts = machine.ask("/facts")?;
    let text = |key: &str| facts[key].as_str().unwrap_or_default().to_owned();
    ensure!(!text("mounts").contains(WORD), "a planted mount:\n{}", text("mounts"));
    ensure!(!text("cmdline").contains(WORD), "a planted word: {}", text("cmdline"));
    // systemd keeps what it imported here, for whoever asks.
    if names(&run).any(|name| name == "credentials") {
        let system = machine.ask("/list?path=/run/credentials")?;
        let imported = names(&system).filter(|name| name.starts_with('@')).collect::<Vec<_>>();
        ensure!(imported.is_empty(), "systemd imported credentials: {imported:?}");
    }
    let console = machine.serial();
    ensure!(
        console.contains("skipping importing of credentials"),
        "systemd does not say that it skips them"
    );
    Ok(())
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A credential that everybody can make, and that systemd takes where there is no TPM.
fn encrypt(name: &str, text: &str, to: &Path) -> Result<()> {
    let plain = to.with_extension("plain");
    fs::write(&plain, text)?;
    let made = Command::new("systemd-creds")
        .args(["encrypt", "--with-key=tpm2-absent", &format!("--name={name}")])
        .args([&plain, to])
        .stderr(Stdio::null())
        .status()
        .context("cannot run systemd-creds: apt install systemd")?;
    ensure!(made.success(), "systemd-creds cannot make {name}");
    Ok(())
}

/// An add-on that nobody signed: it would add a word to the command line.
fn addon(release: &Path, scratch: &Path, to: &Path) -> Result<()> {
    let words = scratch.join("words");
    fs::write(&words, format!("{WORD}_by_addon=1"))?;
    let made = Command::new("objcopy")
        .args(["--remove-section=.linux", "--remove-section=.initrd", "--remove-section=.uname"])
        .arg(format!("--update-section=.cmdline={}", words.display()))
        .args([&release.join("slipway-a.efi"), to])
        .stderr(Stdio::null())
        .status()
        .context("cannot run objcopy: apt install binutils")?;
    ensure!(made.success(), "objcopy cannot make an add-on");
    Ok(())
}
