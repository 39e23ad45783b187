//! A machine whose own clock is wrong by decades, backwards or forwards, does not judge by it
//! what has expired: it holds, says which time servers it waits for, and goes on by itself once
//! one answers.
//!
//! The firmware reads a clock of 1970 as 2070, so that is what "forwards" starts from.

use anyhow::{Context, Result, ensure};
use contract::node::api::{Phase, Rule, Status};
use testbed::time_server;
use vm_tests::machine::{HOST, Hardware};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, image, isolation};

const NAME: &str = "wrong_clock_only_delays";
const CLOCKS: [&str; 2] = ["1970-01-01T00:00:00", "2001-02-03T04:05:06"];

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
    let release = image::test_image()?;
    let mut machines = Vec::new();
    for clock in CLOCKS {
        let hardware = Hardware { clock: Some(clock.into()), ..Hardware::default() };
        let machine = site.start(&release, &document, hardware)?;
        let holds = |status: &Status| hold(status).is_some();
        let status = site.access.wait_for(&machine, "holding", BOOT_SECONDS, holds)?;
        let sentence = hold(&status).context("no hold")?;
        println!("{clock}: the node has {} and says: {sentence}", status.clock.now);
        ensure!(sentence.contains(HOST), "the hold does not name the time server: {sentence}");
        // Asked to, it still does not.
        ensure!(site.access.ask(&["stage"]).is_err(), "the node went on");
        ensure!(site.access.status()?.phase == Phase::Idle, "the node went on");
        ensure!(site.nginx.bytes_sent("/blobs/")? == 0, "the node fetched a release");
        machines.push(machine.cut_power()?);
    }

    // The last one once more, and now somebody tells the time.
    let folder = machines.pop().context("no machine")?;
    let hardware = Hardware { clock: Some(CLOCKS[1].into()), ..Hardware::default() };
    let machine = vm_tests::machine::Machine::power_on(&folder, hardware)?;
    let holds = |status: &Status| hold(status).is_some();
    site.access.wait_for(&machine, "holding", BOOT_SECONDS, holds)?;
    time_server::start()?;
    let staged = |status: &Status| status.phase == Phase::Staged;
    let status = site.access.wait_for(&machine, "staged", BOOT_SECONDS, staged)?;
    println!("{:.0} s: staged at {}", machine.seconds(), status.clock.now);
    ensure!(status.clock.synchronized, "clock: {:?}", status.clock);
    ensure!(hold(&status).is_none(), "holds: {:?}", status.holds);
    Ok(())
}

fn hold(status: &Status) -> Option<&str> {
    let hold = status.holds.iter().find(|hold| hold.rule == Rule::Clock)?;
    Some(&hold.sentence)
}
