//! A scenario's own network: nothing but loopback, so nothing reaches the outside.
//!
//! The test process starts itself again under `unshare`; the second one runs the scenario
//! after it has seen that loopback is the only interface. What it says goes to
//! `target/vm/<scenario>.log`, and in one piece to the console when it ends.
//!
//! **Invariant:** disks and channels of a scenario are in `target/vm` under names that begin with
//! its own.

use std::fs::{self, File};
use std::io::{Write, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use testbed::loopback::{namespace, only_loopback};

use crate::report::Taken;
use crate::{artefacts, image, lock, report};

/// In the process of a scenario: the file that says that it has passed.
const MARK: &str = "SLIPWAY_TEST_ISOLATED";
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
    let passed = artefacts().join(format!("{test}.passed"));
    let outcome = match std::env::var_os(MARK) {
        None => start_again(test, &passed, prepare),
        Some(mark) if passed == Path::new(&mark) => run(test, &passed, scenario),
        Some(mark) => Err(anyhow!("started for {}: no name may be in another's", mark.display())),
    };
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

fn run(test: &str, passed: &Path, scenario: impl FnOnce() -> Result<()>) -> Result<()> {
    only_loopback()?;
    let outcome = scenario();
    report::leave(test)?;
    outcome?;
    Ok(fs::write(passed, "")?)
}

fn start_again(test: &str, passed: &Path, prepare: impl FnOnce() -> Result<()>) -> Result<()> {
    // The image is built out here, where there is a network.
    let image = image::test_image()?;
    let (prepared, outside) = made_ready(prepare)?;
    let _alone = alone()?;
    let started = Instant::now();
    if passed.exists() {
        fs::remove_file(passed)?;
    }
    let log = artefacts().join(format!("{test}.log"));
    // Not by a macro: what a test says is shown only when it fails.
    writeln!(stdout(), "\n{test}: its log is {}", log.display())?;
    let file = File::create(&log)?;
    let status = namespace()
        .arg(std::env::current_exe()?)
        .args([test, "--include-ignored", "--nocapture"])
        .env(MARK, passed)
        .env(image::VARIABLE, image)
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .context("cannot run `unshare`: apt install util-linux")?;
    let total = (prepared + started.elapsed()).as_secs_f64();
    report::write_scenario(test, total, &outside, status.success())?;
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    writeln!(stdout(), "\n== {test}: {} s ==\n{said}", total.round())?;
    ensure!(status.success(), "the scenario failed: see above, or {}", log.display());
    ensure!(passed.exists(), "no scenario is called `{test}`: that must be its function's name");
    fs::remove_file(passed)?;
    keep_logs_only(&artefacts(), test)
}

/// Prepares a scenario beside the one that runs, but no two at a time: what many begin with, the
/// first makes. Gives how long it took, and what that went into.
fn made_ready(prepare: impl FnOnce() -> Result<()>) -> Result<(Duration, Taken)> {
    let _alone = lock("preparation")?;
    let (started, before) = (Instant::now(), Taken::by_this_process());
    prepare()?;
    Ok((started.elapsed(), Taken::by_this_process().since(&before)))
}

/// Waits until no scenario runs; none begins while the file is held. Two at a time would take
/// longer than one after the other: machines of two processors each slow one another down.
///
/// # Errors
/// When the file cannot be locked.
pub fn alone() -> Result<File> {
    lock("scenario")
}

/// Removes the disks and channels of a scenario, once it has passed: those of all together would
/// fill a small disk.
fn keep_logs_only(folder: &Path, test: &str) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(test) {
            continue;
        }
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            // All that it holds is the scenario's.
            keep_logs_only(&entry.path(), "")?;
        } else if metadata.len() > LOG_BYTES {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
