//! One virtual machine: UEFI with Secure Boot, an NVMe disk, a serial console to read, and
//! some ports of the guest on loopback.
//!
//! **Invariant:** a machine kills its own QEMU and nothing else, and leaves its serial log
//! in `target/vm/<name>/`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testbed::console::Console;
use testbed::http;
use testbed::times::{self, Phase};

use crate::boots::Listener;
use crate::lost_timer::Watch;
use crate::serial::{Heard, plain};
use crate::{accelerator, artefacts, qmp};

pub use testbed::addresses::{API_PORT, HOST, KUBELET_PORT, POD_PORT, PROBE_PORT};

pub use crate::hardware::{Access, BadSector, Hardware, OnReset, SharedNetworkCard};

const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Size that the image's disk grows to: room for slot B and state.
const DISK_BYTES: &str = "8G";
/// Lines of the serial log that a failure shows.
const SHOWN_LINES: usize = 60;
/// What resolved says many times over, because a scenario has no name server.
const NOISE: &str = "Using degraded feature set";

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    folder: PathBuf,
    /// Where the guest's ports are.
    address: Ipv4Addr,
    qemu: Child,
    started: Instant,
    /// What earlier waits have left of the console.
    heard: Heard,
    _watch: Watch,
    _listener: Listener,
}

impl Machine {
    /// Starts a machine with fresh firmware variables and a fresh overlay over `disk`.
    ///
    /// # Errors
    /// When QEMU or the firmware is missing, or QEMU does not start.
    pub fn start(name: &str, disk: &Path) -> Result<Self> {
        Self::start_with(name, disk, OnReset::Boot)
    }

    /// As [`Machine::start`], with other hardware.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub fn start_with(name: &str, disk: &Path, hardware: impl Into<Hardware>) -> Result<Self> {
        let folder = artefacts().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        fs::copy(VARIABLES, folder.join("variables.fd"))
            .with_context(|| format!("{VARIABLES}: run setup/install-dependencies"))?;
        overlay(disk, "raw", &folder)?;
        Self::power_on(&folder, hardware)
    }

    /// Starts the machine of `folder` with its disk and variables as they are.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn power_on(folder: &Path, hardware: impl Into<Hardware>) -> Result<Self> {
        let hardware: Hardware = hardware.into();
        let accelerator = accelerator::accelerator()?;
        let file = |name: &str| folder.join(name).display().to_string();
        let drive = |rest: String| format!("format=raw,if=pflash,{rest}");
        if folder.join("serial.log").exists() {
            fs::rename(folder.join("serial.log"), folder.join("serial-before.log"))?;
        }
        fs::write(folder.join("serial.log"), "")?;
        let address = hardware.ports_at.unwrap_or(Ipv4Addr::LOCALHOST);
        let forward = |port: u16| format!("hostfwd=tcp:{address}:{port}-:{port}");
        let mut forwards: Vec<String> = [PROBE_PORT, POD_PORT, API_PORT].map(forward).into();
        if let Some(address) = &hardware.kubelet_address {
            forwards.push(format!("hostfwd=tcp:{address}:{KUBELET_PORT}-:{KUBELET_PORT}"));
        }
        // QEMU goes with its test, even when that is killed and cannot clean up.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(["-M", "q35,smm=on", "-accel", &accelerator, "-cpu", "max"])
            .args(["-smp", "2", "-m", "1024", "-display", "none", "-nodefaults"])
            .args(["-global", "driver=cfi.pflash01,property=secure,value=on"])
            .args(["-drive", &drive(format!("unit=0,readonly=on,file={CODE}"))])
            .args(["-drive", &drive(format!("unit=1,file={}", file("variables.fd")))])
            .args(["-netdev".to_owned(), format!("user,id=net,{}", forwards.join(","))])
            .args(hardware.arguments(folder)?)
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-device", "virtio-rng-pci"])
            .args(["-serial", &format!("file:{}", file("serial.log"))])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", file("qmp.sock"))])
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("qemu.log"))?);
        let qemu = command.spawn().context("cannot run setpriv: run setup/install-dependencies")?;
        let (folder, started) = (folder.to_owned(), Instant::now());
        let (watch, listener) = (Watch::over(&folder), Listener::to(&folder));
        let heard = Heard::of(&folder);
        Ok(Self { folder, address, qemu, started, heard, _watch: watch, _listener: listener })
    }

    /// Folder with disk, variables and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The serial log so far, without terminal control sequences.
    pub fn serial(&self) -> String {
        plain(&fs::read(self.folder.join("serial.log")).unwrap_or_default())
    }

    /// Waits until the serial log has `text` behind what earlier waits found, and gives the
    /// seconds since power-on.
    ///
    /// # Errors
    /// After `seconds`, or when QEMU ends, with the log's tail.
    pub fn wait_for(&mut self, text: &str, seconds: u64) -> Result<f64> {
        self.wait_for_any(&[text], seconds).map(|_| self.seconds())
    }

    /// As [`Machine::wait_for`], for the first of several texts; gives its index.
    ///
    /// # Errors
    /// As [`Machine::wait_for`].
    pub fn wait_for_any(&mut self, texts: &[&str], seconds: u64) -> Result<usize> {
        times::during(Phase::Waiting, || {
            let until = Instant::now() + Duration::from_secs(seconds);
            loop {
                let fresh = self.heard.fresh()?;
                let found = texts.iter().enumerate().filter_map(|(index, text)| {
                    fresh.find(text).map(|at| (at + text.len(), index))
                });
                if let Some((end, index)) = found.min() {
                    self.heard.is_used_up_to(end);
                    return Ok(index);
                }
                if let Some(status) = self.qemu.try_wait()? {
                    bail!(
                        "QEMU ended ({status}) before the console said {texts:?}\n{}",
                        self.tail()
                    );
                }
                if Instant::now() > until {
                    bail!("the console did not say {texts:?} in {seconds} s\n{}", self.tail());
                }
                sleep(Duration::from_millis(100));
            }
        })
    }

    /// Waits until QEMU ends by itself.
    ///
    /// # Errors
    /// After `seconds`, with the log's tail.
    pub fn wait_for_exit(&mut self, seconds: u64) -> Result<()> {
        times::during(Phase::Waiting, || {
            let until = Instant::now() + Duration::from_secs(seconds);
            while self.qemu.try_wait()?.is_none() {
                if Instant::now() > until {
                    bail!("the machine still runs after {seconds} s\n{}", self.tail());
                }
                sleep(Duration::from_millis(100));
            }
            Ok(())
        })
    }

    /// GETs from a forwarded port until something answers.
    ///
    /// # Errors
    /// After `seconds`, with the last failure and the log's tail.
    pub fn get(&mut self, port: u16, path: &str, seconds: u64) -> Result<Vec<u8>> {
        times::during(Phase::Waiting, || {
            let until = Instant::now() + Duration::from_secs(seconds);
            loop {
                match http::get_from((self.address, port).into(), path) {
                    Ok(body) => return Ok(body),
                    Err(error) if Instant::now() > until || self.qemu.try_wait()?.is_some() => {
                        bail!("no answer from {port}{path}: {error:#}\n{}", self.tail());
                    }
                    Err(_) => sleep(Duration::from_millis(500)),
                }
            }
        })
    }

    /// Asks the test probe, which answers in JSON.
    ///
    /// # Errors
    /// As [`Machine::get`].
    pub fn ask(&mut self, path: &str) -> Result<Value> {
        let body = self.get(PROBE_PORT, path, crate::BOOT_SECONDS)?;
        serde_json::from_slice(&body).with_context(|| format!("{path} is not JSON"))
    }

    /// Shuts the system down in order, and waits until the machine is off.
    ///
    /// # Errors
    /// When the probe does not answer, or the machine stays on.
    pub fn power_off(mut self, seconds: u64) -> Result<PathBuf> {
        let until = Instant::now() + Duration::from_secs(seconds);
        // The probe may be stopped before it answers; what counts is that the machine goes off.
        let probe = (self.address, PROBE_PORT).into();
        while http::get_from(probe, "/systemctl?verb=poweroff").is_err()
            && self.qemu.try_wait()?.is_none()
        {
            ensure!(Instant::now() < until, "the probe does not answer\n{}", self.tail());
            sleep(Duration::from_millis(500));
        }
        self.wait_for_exit(seconds)?;
        Ok(self.folder.clone())
    }

    /// Cuts the power.
    ///
    /// # Errors
    /// When QEMU cannot be stopped.
    pub fn cut_power(mut self) -> Result<PathBuf> {
        qmp::execute(&self.folder.join("qmp.sock"), "quit")?;
        self.qemu.wait()?;
        Ok(self.folder.clone())
    }

    /// Kills QEMU: what it had not written is lost. The hardware must be
    /// [`Hardware::durable`], or more is lost than any power cut takes.
    ///
    /// # Errors
    /// When QEMU cannot be killed.
    pub fn kill(mut self) -> Result<PathBuf> {
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(self.folder.clone())
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn reset(&self) -> Result<()> {
        qmp::execute(&self.folder.join("qmp.sock"), "system_reset")
    }

    /// Byte offset of a partition on the disk, as the guest's kernel knows it.
    ///
    /// # Errors
    /// When the probe does not answer, or there is no such partition.
    pub fn partition_start(&mut self, label: &str) -> Result<u64> {
        for number in 1..=8 {
            let folder = format!("/read?path=/sys/class/block/nvme0n1p{number}");
            let mut read = |name: &str| -> Result<String> {
                let path = format!("{folder}/{name}");
                Ok(String::from_utf8(self.get(PROBE_PORT, &path, crate::BOOT_SECONDS)?)?)
            };
            if read("uevent")?.contains(&format!("PARTNAME={label}\n")) {
                return Ok(read("start")?.trim().parse::<u64>()? * 512);
            }
        }
        bail!("there is no partition {label}")
    }

    /// Overwrites the 512 bytes at `offset` of the disk, behind the guest's back.
    ///
    /// # Errors
    /// When QEMU does not answer, or refuses.
    pub fn spoil(&self, offset: u64) -> Result<()> {
        let line = format!("qemu-io disk \"write -P 0x55 {offset} 512\"");
        let arguments = json!({ "command-line": line });
        let socket = self.folder.join("qmp.sock");
        let said = qmp::execute_with(&socket, "human-monitor-command", arguments)?;
        // The monitor for people tells its errors as text, and says nothing of what went well.
        let refusal = said.as_str().unwrap_or_default().trim();
        ensure!(refusal.is_empty(), "QEMU refused `{line}`: {refusal}");
        Ok(())
    }

    /// Later waits find only what the console says from now on.
    ///
    /// # Errors
    /// When the console cannot be read.
    pub fn listen_from_now(&mut self) -> Result<()> {
        let end = self.heard.fresh()?.len();
        self.heard.is_used_up_to(end);
        Ok(())
    }

    /// Seconds since power-on.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// The serial log's last lines, and where the rest is.
    pub fn tail(&self) -> String {
        let log = self.serial();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains(NOISE)).collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        format!("--- last lines of {}/serial.log\n{shown}\n---", self.folder.display())
    }
}

impl Console for Machine {
    fn seconds(&self) -> f64 {
        Machine::seconds(self)
    }

    fn tail(&self) -> String {
        Machine::tail(self)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Gone already is as good as stopped.
        if let Err(error) = self.qemu.kill().and_then(|()| self.qemu.wait()) {
            eprintln!("QEMU could not be stopped: {error}");
        }
    }
}

/// Makes `disk.qcow2` in `folder`: an overlay over `disk`, which stays as it is.
///
/// # Errors
/// When qemu-img cannot make it.
pub fn overlay(disk: &Path, format: &str, folder: &Path) -> Result<()> {
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
        .args([&fs::canonicalize(disk)?, &folder.join("disk.qcow2")])
        .arg(DISK_BYTES)
        .status()
        .context("cannot run qemu-img: run setup/install-dependencies")?;
    ensure!(made.success(), "qemu-img could not make the disk's overlay");
    Ok(())
}
