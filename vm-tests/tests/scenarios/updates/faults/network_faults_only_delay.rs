//! Between node and channel everything goes wrong, one thing after the other. The node either
//! copes or says what is wrong, never touches what runs, and takes the release once the network
//! is well again. With a server that knows no ranges, and with a slow one, it must cope.

use anyhow::{Context, Result, ensure};
use contract::node::api::{Phase, Status};
use testbed::faulty::Fault;
use vm_tests::machine::Machine;
use vm_tests::site::Site;
use vm_tests::{isolation, settings};

const NAME: &str = "network_faults_only_delay";
/// Longest time in which a node copes or gives up, in seconds.
const PATIENCE: u64 = 600;

/// Two releases in turn, so that there is always something to fetch.
const VERSIONS: [&str; 2] = ["0.1.1", "0.1.2"];

/// What a node makes of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It stages the release.
    Copes,
    /// It may say what is wrong instead.
    MayGiveUp,
}

/// A fault in words, and what a node makes of it.
type Faulted = (&'static str, Fault, Outcome);

const FAULTS: [Faulted; 9] = [
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
#[ignore = "most faults take a node minutes: run `make soak`"]
fn network_faults_only_delay() {
    isolation::prepared(NAME, || super::prepare(NAME), scenario);
}

fn scenario() -> Result<()> {
    let (site, machine) = super::start(NAME)?;
    FAULTS
        .into_iter()
        .zip(VERSIONS.into_iter().cycle())
        .try_for_each(|(fault, version)| is_borne(&site, &machine, version, fault))
}

/// The fault that a node must cope with, and that lasts no longer than a download: leaves `version`
/// staged.
pub fn shows(site: &Site, machine: &Machine, version: &str) -> Result<()> {
    is_borne(site, machine, version, FAULTS[0])
}

fn is_borne(site: &Site, machine: &Machine, version: &str, fault: Faulted) -> Result<()> {
    let (what, fault, expected) = fault;
    let problem = meets(site, machine, version, fault).with_context(|| what.to_owned())?;
    ensure!(expected == Outcome::MayGiveUp || problem.is_none(), "{what}: it gave up: {problem:?}");
    Ok(())
}

/// Stages a release under a fault and then without it, and gives what the node said of the fault.
fn meets(site: &Site, machine: &Machine, version: &str, fault: Fault) -> Result<Option<String>> {
    let begin = machine.seconds();
    let before = site.access.status()?.problem;
    site.channel.point(settings::CHANNEL, version, &[])?;
    site.proxy.switch(fault, "/blobs/");
    site.access.ask(&["stage"])?;
    let staged =
        |status: &Status| status.phase == Phase::Staged && status.target == version.parse().ok();
    let fails = |status: &Status| {
        status.problem.is_some() && status.problem != before && status.phase == Phase::Idle
    };
    let decided = |status: &Status| staged(status) || fails(status);
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
