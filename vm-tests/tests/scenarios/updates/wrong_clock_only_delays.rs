//! A machine whose own clock is wrong by decades, backwards or forwards, does not judge by it
//! what has expired: it holds, says which time servers it waits for, and goes on by itself once
//! one answers. In the long form in both directions, and also after a restart.
//!
//! The firmware reads a clock of 1970 as 2070, so that is what "forwards" starts from.

use anyhow::{Context, Result, ensure};
use contract::node::api::{Phase, Rule, Status};
use serde_json::Value;
use testbed::time_server;
use vm_tests::machine::{HOST, Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, image, is_long, isolation};

const NAME: &str = "wrong_clock_only_delays";
const FORWARDS: &str = "1970-01-01T00:00:00";
const BACKWARDS: &str = "2001-02-03T04:05:06";

#[test]
fn wrong_clock_only_delays() {
    let prepare = || Site::prepare_versions(NAME, 1, "0.1.1");
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let mut document = site.settings()?;
    document["mode"] = "staged-only".into();
    document["channel"]["pollInterval"] = "1m".into();
    document["network"] = serde_json::json!({ "timeServers": [HOST] });
    if is_long() {
        is_held(&site, &document, FORWARDS)?.cut_power()?;
        // The state partition has the settings now.
        let folder = is_held(&site, &document, BACKWARDS)?.cut_power()?;
        let hardware = Hardware { clock: Some(BACKWARDS.into()), ..Hardware::default() };
        let machine = Machine::power_on(&folder, hardware)?;
        site.access.wait_for(&machine, "holding", BOOT_SECONDS, |status| hold(status).is_some())?;
        return goes_on(&site, &machine);
    }
    goes_on(&site, &is_held(&site, &document, BACKWARDS)?)
}

/// A node with this clock does nothing, and says why.
fn is_held(site: &Site, document: &Value, clock: &str) -> Result<Machine> {
    let hardware = Hardware { clock: Some(clock.into()), ..Hardware::default() };
    let machine = site.start(&image::test_image()?, document, hardware)?;
    let holds = |status: &Status| hold(status).is_some();
    let status = site.access.wait_for(&machine, "holding", BOOT_SECONDS, holds)?;
    let sentence = hold(&status).context("no hold")?;
    println!("{clock}: the node has {} and says: {sentence}", status.clock.now);
    ensure!(sentence.contains(HOST), "the hold does not name the time server: {sentence}");
    // Asked to, it still does not.
    ensure!(site.access.ask(&["stage"]).is_err(), "the node went on");
    ensure!(site.access.status()?.phase == Phase::Idle, "the node went on");
    ensure!(site.nginx.bytes_sent("/blobs/")? == 0, "the node fetched a release");
    Ok(machine)
}

/// Now somebody tells the time.
fn goes_on(site: &Site, machine: &Machine) -> Result<()> {
    time_server::start()?;
    let staged = |status: &Status| status.phase == Phase::Staged;
    let status = site.access.wait_for(machine, "staged", BOOT_SECONDS, staged)?;
    println!("{:.0} s: staged at {}", machine.seconds(), status.clock.now);
    ensure!(status.clock.synchronized, "clock: {:?}", status.clock);
    ensure!(hold(&status).is_none(), "holds: {:?}", status.holds);
    Ok(())
}

fn hold(status: &Status) -> Option<&str> {
    let hold = status.holds.iter().find(|hold| hold.rule == Rule::Clock)?;
    Some(&hold.sentence)
}
