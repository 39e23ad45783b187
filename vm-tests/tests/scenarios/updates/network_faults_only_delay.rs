//! Between node and channel everything goes wrong, one thing after the other. The node either
//! copes or says what is wrong, never touches what runs, and takes the release once the network
//! is well again. With a server that knows no ranges, and with a slow one, it must cope.

use anyhow::{Context, Result, ensure};
use contract::node::api::{Phase, Status};
use testbed::faulty::Fault;
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

/// What a node makes of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It stages the release.
    Copes,
    /// It may say what is wrong instead.
    MayGiveUp,
}

const FAULTS: [(&str, Fault, Outcome); 9] = [
    ("the server knows no ranges", Fault::IgnoreRange, Outcome::Copes),
    ("bits are flipped", Fault::Corrupt, Outcome::MayGiveUp),
    ("the server refuses every range", Fault::Status(416), Outcome::MayGiveUp),
    ("the server hangs up early", Fault::Cut(20_000), Outcome::MayGiveUp),
    ("the server falls silent", Fault::Stall(20_000), Outcome::MayGiveUp),
    ("answers are cut short", Fault::Truncate(20_000), Outcome::MayGiveUp),
    ("the server is overloaded", Fault::Status(503), Outcome::MayGiveUp),
    ("answers never end", Fault::Endless, Outcome::MayGiveUp),
    // The proxy sends at most a chunk a second on each connection, many times what a node bears.
    ("a slow trickle", Fault::Trickle(200_000), Outcome::Copes),
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
    for (version, (what, fault, expected)) in VERSIONS.into_iter().cycle().zip(faults) {
        let problem = meets(&site, &machine, version, fault).with_context(|| what.to_owned())?;
        ensure!(
            expected == Outcome::MayGiveUp || problem.is_none(),
            "{what}: it gave up: {problem:?}"
        );
    }
    Ok(())
}

/// Stages a release under a fault and then without it, and gives what the node said of the fault.
fn meets(site: &Site, machine: &Machine, version: &str, fault: Fault) -> Result<Option<String>> {
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
    let problem = status.problem.map(|problem| problem.message);
    let outcome = problem.as_deref().unwrap_or("copes");
    println!("{fault:?}: {:.0} s: {outcome}", machine.seconds() - begin);
    site.proxy.switch(Fault::None, "");
    site.access.ask(&["stage"])?;
    let status = site.access.wait_for(machine, "staged", PATIENCE, staged)?;
    ensure!(status.problem.is_none(), "the problem stays: {:?}", status.problem);
    Ok(problem)
}
