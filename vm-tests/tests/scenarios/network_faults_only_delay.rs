//! Between node and channel everything goes wrong, one thing after the other. The node either
//! copes or says what is wrong, never touches what runs, and takes the release once the network
//! is well again.

use anyhow::{Context, Result, ensure};
use release::api::{Phase, Status};
use vm_tests::faulty::Fault;
use vm_tests::machine::{Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, image, is_long, isolation, settings};

const NAME: &str = "network_faults_only_delay";
/// Longest time in which a node copes or gives up, in seconds.
const PATIENCE: u64 = 600;

/// Two releases in turn, so that there is always something to fetch.
const VERSIONS: [&str; 2] = ["0.1.1", "0.1.2"];

/// What `make test` tries; `make soak` tries the others too, of which most take a node minutes.
const SHORT: usize = 2;

const FAULTS: [(&str, Fault); 9] = [
    ("the server knows no ranges", Fault::IgnoreRange),
    ("bits are flipped", Fault::Corrupt),
    ("the server refuses every range", Fault::Status(416)),
    ("the server hangs up early", Fault::Cut(20_000)),
    ("the server falls silent", Fault::Stall(20_000)),
    ("answers are cut short", Fault::Truncate(20_000)),
    ("the server is overloaded", Fault::Status(503)),
    ("answers never end", Fault::Endless),
    ("a slow trickle", Fault::Trickle(200_000)),
];

#[test]
fn network_faults_only_delay() {
    let prepare = || Site::prepare_versions(NAME, 2, "0.1.0");
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let machine = site.start(&image::test_image()?, &site.settings()?, Hardware::default())?;
    site.access.wait_for(&machine, "up", BOOT_SECONDS, |_| true)?;
    let faults = FAULTS.into_iter().take(if is_long() { FAULTS.len() } else { SHORT });
    for (version, (what, fault)) in VERSIONS.into_iter().cycle().zip(faults) {
        meets(&site, &machine, version, fault).with_context(|| what.to_owned())?;
    }
    Ok(())
}

fn meets(site: &Site, machine: &Machine, version: &str, fault: Fault) -> Result<()> {
    let begin = machine.seconds();
    site.channel.point(settings::CHANNEL, version, &[])?;
    site.proxy.switch(fault, "/blobs/");
    site.access.ask(&["stage"])?;
    let staged =
        |status: &Status| status.phase == Phase::Staged && status.target == version.parse().ok();
    let decided = |status: &Status| {
        staged(status) || (status.phase == Phase::Idle && status.problem.is_some())
    };
    let status = site.access.wait_for(machine, "decided", PATIENCE, decided)?;
    ensure!(site.proxy.spoiled() > 0, "nothing was spoiled");
    ensure!(status.running.generation == 1, "what runs has changed: {:?}", status.running);
    let outcome = status.problem.as_ref().map_or("copes", |problem| problem.message.as_str());
    println!("{fault:?}: {:.0} s: {outcome}", machine.seconds() - begin);
    site.proxy.switch(Fault::None, "");
    site.access.ask(&["stage"])?;
    let status = site.access.wait_for(machine, "staged", PATIENCE, staged)?;
    ensure!(status.problem.is_none(), "the problem stays: {:?}", status.problem);
    Ok(())
}
