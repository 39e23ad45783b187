//! Which accelerator QEMU uses: KVM only where a stock guest really runs under it.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::artefacts;

/// What works everywhere. The size is that of the buffer for translated code, in MiB: one that a
/// joined node with pods does not fill, because a full one is thrown away as a whole.
const EMULATION: &str = "tcg,thread=multi,tb-size=1024";

/// Seconds in which firmware under real KVM says its first word.
const PROBE_SECONDS: u64 = 20;

/// QEMU's `-accel`; probed once, and kept beside the other artefacts.
///
/// # Errors
/// When QEMU is missing.
pub fn accelerator() -> Result<String> {
    let kept = artefacts().join("accelerator");
    if let Ok(text) = fs::read_to_string(&kept) {
        return Ok(text);
    }
    let found = if runs_under_kvm()? { "kvm" } else { EMULATION };
    fs::create_dir_all(artefacts())?;
    fs::write(&kept, found)?;
    Ok(found.to_owned())
}

/// Starts the firmware without a disk and waits for its first output.
fn runs_under_kvm() -> Result<bool> {
    if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(false);
    }
    let folder = tempfile::tempdir()?;
    let serial = folder.path().join("serial");
    let mut probe = Command::new("qemu-system-x86_64")
        .args(["-M", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256"])
        .args(["-display", "none", "-nodefaults", "-no-reboot", "-net", "none"])
        .args(["-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"])
        .arg("-serial")
        .arg(format!("file:{}", serial.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run qemu-system-x86_64: run setup/install-dependencies")?;
    let started = Instant::now();
    let mut spoke = false;
    while !spoke && started.elapsed() < Duration::from_secs(PROBE_SECONDS) {
        sleep(Duration::from_millis(200));
        spoke = fs::metadata(&serial).is_ok_and(|metadata| metadata.len() > 0);
        if probe.try_wait()?.is_some() {
            break;
        }
    }
    probe.kill().context("cannot stop the probe")?;
    probe.wait()?;
    Ok(spoke)
}
