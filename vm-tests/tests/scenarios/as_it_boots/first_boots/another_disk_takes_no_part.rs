//! A second disk with partitions of our names, as a tenant makes one of a raw volume, takes no part in
//! a boot: neither its `root-a`, which is there many times, nor its state or ESP.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use vm_tests::machine::{Machine, PROBE_PORT};

const BYTES: u64 = 96 << 20;
/// The names, and how many partitions have each.
const NAMES: [(&str, usize); 5] =
    [("root-a", 36), ("verity-a", 1), ("root-b", 1), ("state", 1), ("esp", 1)];

/// Makes the disk.
pub fn make(image: &Path) -> Result<()> {
    File::create(image)?.set_len(BYTES)?;
    let names = NAMES.iter().flat_map(|(name, count)| std::iter::repeat_n(*name, *count));
    let mut command = Command::new("/usr/sbin/sgdisk");
    for (number, name) in (1..).zip(names) {
        command.arg(format!("--new={number}:0:+2M")).arg(format!("--change-name={number}:{name}"));
    }
    let output = command.arg(image).output().context("cannot run sgdisk: apt install gdisk")?;
    ensure!(output.status.success(), "sgdisk: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// In a boot with that disk: that it came so far is half of the proof.
pub fn shows(machine: &mut Machine) -> Result<()> {
    let label = machine.ask("/list?path=/dev/disk/by-partlabel")?;
    ensure!(label.to_string().contains("root-a"), "the guest does not see the disk: {label}");
    let mut link = |path: &str| -> Result<String> {
        let found = machine.get(PROBE_PORT, &format!("/link?path={path}"), 60)?;
        let found = String::from_utf8(found)?;
        Ok(found.rsplit('/').next().unwrap_or_default().to_owned())
    };
    let disk = link("/dev/disk/slipway/disk")?;
    let own = link("/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_slipway")?;
    ensure!(disk == own, "the node's disk is {own}, and udev says {disk}");
    for (name, _) in NAMES {
        let partition = link(&format!("/dev/disk/slipway/{name}"))?;
        ensure!(partition.starts_with(&format!("{own}p")), "{name} is {partition}");
    }
    let facts = machine.ask("/facts")?;
    let mounts = facts["mounts"].as_str().unwrap_or_default();
    for point in ["/var", "/efi"] {
        let line = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some(point));
        let line = line.with_context(|| format!("{point} is not mounted:\n{mounts}"))?;
        ensure!(line.starts_with(&format!("/dev/{own}p")), "{line}");
    }
    Ok(())
}
