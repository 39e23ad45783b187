//! A network that holds nothing but loopback.
//!
//! **Invariant:** an address is given to loopback only where there is no other interface.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail, ensure};

/// `unshare` with a network namespace, in which loopback is up.
pub fn namespace() -> Command {
    let root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = Command::new("unshare");
    command
        .args(if root {
            ["--net", "--"].as_slice()
        } else {
            &["--user", "--map-root-user", "--net", "--"]
        })
        .args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Gives the scenario's loopback an address more. What connects to it comes from 127.0.0.1: with
/// its own address as the source a guest would refuse it.
///
/// # Errors
/// When there is another interface than loopback: the address would be taken from somebody.
pub fn own_address(address: &str) -> Result<()> {
    only_loopback()?;
    let route = ["local", address, "dev", "lo", "src", "127.0.0.1"];
    let status = Command::new("ip").args(["route", "replace"]).args(route).status()?;
    ensure!(status.success(), "cannot give loopback the address {address}");
    Ok(())
}

/// Fails unless loopback is the only interface.
///
/// # Errors
/// When there is another, with its name.
pub fn only_loopback() -> Result<()> {
    let text = fs::read_to_string("/proc/net/dev")?;
    let interfaces = text.lines().skip(2).filter_map(|line| line.split(':').next());
    for interface in interfaces.map(str::trim) {
        if interface != "lo" {
            bail!("the scenario would reach the network through {interface}");
        }
    }
    Ok(())
}
