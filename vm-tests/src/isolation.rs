//! A scenario's own network: nothing but loopback, so nothing reaches the outside.
//!
//! The test process starts itself again under `unshare`; the second one runs the scenario
//! after it has seen that loopback is the only interface.

use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{artefacts, image};

const MARK: &str = "SLIPWAY_TEST_ISOLATED";

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
