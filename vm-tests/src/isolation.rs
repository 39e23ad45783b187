//! A scenario's own network: nothing but loopback, so nothing reaches the outside.
//!
//! The test process starts itself again under `unshare`; the second one runs the scenario
//! after it has seen that loopback is the only interface.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{artefacts, image};

const MARK: &str = "SLIPWAY_TEST_ISOLATED";
/// What scenarios share: it stays for the next one.
const SHARED: [&str; 3] = ["cluster", "ready", "release-"];
/// Larger files are disks and channels, smaller ones are logs.
const LOG_BYTES: u64 = 4 << 20;

/// Runs `scenario` alone on this machine and without a network. `test` is the name of the
/// test function.
///
/// # Panics
/// When the scenario fails; that is how a test fails.
pub fn isolated(test: &str, scenario: impl FnOnce() -> Result<()>) {
    prepared(test, || Ok(()), scenario);
}

/// As [`isolated`], after `prepare` has run on the host as it is, where compilers and a network
/// are. What it makes, it leaves in files.
///
/// # Panics
/// When either fails.
pub fn prepared(
    test: &str,
    prepare: impl FnOnce() -> Result<()>,
    scenario: impl FnOnce() -> Result<()>,
) {
    let outcome = if std::env::var_os(MARK).is_some() {
        only_loopback().and_then(|()| scenario())
    } else {
        start_again(test, prepare)
    };
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

fn start_again(test: &str, prepare: impl FnOnce() -> Result<()>) -> Result<()> {
    // The image is built out here, where there is a network.
    let image = image::test_image()?;
    fs::create_dir_all(artefacts())?;
    let alone = File::create(artefacts().join("one-at-a-time"))?;
    alone.lock().context("cannot wait for other VM tests")?;
    prepare()?;
    let program = std::env::current_exe()?;
    let status = namespace()
        .arg(program)
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(MARK, "1")
        .env(image::VARIABLE, image)
        .status()
        .context("cannot run `unshare`: apt install util-linux")?;
    ensure!(status.success(), "the scenario failed; its own message is above");
    keep_logs_only(&artefacts())
}

/// Removes the disks and channels of scenarios, once one has passed: those of all together would
/// fill a small disk.
fn keep_logs_only(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.metadata()?;
        if SHARED.iter().any(|shared| name.to_string_lossy().starts_with(shared)) {
            continue;
        }
        if kind.is_dir() {
            keep_logs_only(&entry.path())?;
        } else if kind.len() > LOG_BYTES {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

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
fn only_loopback() -> Result<()> {
    let text = fs::read_to_string("/proc/net/dev")?;
    let interfaces = text.lines().skip(2).filter_map(|line| line.split(':').next());
    for interface in interfaces.map(str::trim) {
        if interface != "lo" {
            bail!("the scenario would reach the network through {interface}");
        }
    }
    Ok(())
}
