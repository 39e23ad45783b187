//! The API server is down while a good release starts: twice. The first time it was silent before
//! the restart already, and answers again after the deadline: the release waits, and is kept. The
//! second time it goes down during the restart, for longer than the grace: the release is given
//! up, the one before finds that it gets no answer either, and takes the release again as soon as
//! there is one. It takes minutes, so only `make soak` runs it.

use anyhow::{Result, ensure};
use contract::node::api::{Boot, Status};
use testbed::cluster::{self, Cluster, NODE, is_ready};
use vm_tests::machine::Machine;
use vm_tests::member::Member;
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, isolation, settings};

const NAME: &str = "api_server_outage_is_forgiven";
/// Of a boot, and how much silence may add to it.
const DEADLINE_SECONDS: u64 = 100;
const GRACE_SECONDS: u64 = 20;
/// slipwayd: the other slot is armed.
const LEAVING: &str = "restarting into the other slot";

#[test]
#[ignore = "long: run `make soak`"]
fn api_server_outage_is_forgiven() {
    let prepare = || {
        cluster::build()?;
        Site::prepare_versions(NAME, 2, "0.1.0")
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let Member { site, mut cluster, mut machine, .. } = Member::start(NAME, |settings| {
        settings["mode"] = "automatic".into();
        settings["health"]["deadline"] = format!("{DEADLINE_SECONDS}s").into();
        settings["health"]["apiServerGrace"] = format!("{GRACE_SECONDS}s").into();
    })?;
    site.access.runs(&machine, "0.1.0", BOOT_SECONDS)?;

    waits_for_its_answer(&site, &mut cluster, &mut machine)?;
    is_given_up_and_forgiven(&site, &mut cluster, &mut machine)
}

fn waits_for_its_answer(site: &Site, cluster: &mut Cluster, machine: &mut Machine) -> Result<()> {
    cluster.stop_api_server()?;
    site.channel.point(settings::CHANNEL, "0.1.1", &[])?;
    // An order passes a silent API server; by itself the node would wait.
    site.access.update();
    machine.wait_for(LEAVING, 2 * BOOT_SECONDS)?;
    let is_late = |status: &Status| {
        let version = status.running.version.as_ref().map(ToString::to_string);
        let uptime = status.clock.uptime_seconds;
        version.as_deref() == Some("0.1.1") && uptime > DEADLINE_SECONDS + GRACE_SECONDS + 10
    };
    let status = site.access.wait_for(machine, "late", 3 * BOOT_SECONDS, is_late)?;
    println!("{:.0} s: waits: {:?}", machine.seconds(), status.health);
    ensure!(status.running.boot == Boot::Pending, "it is judged: {:?}", status.running);
    cluster.start_api_server()?;
    site.access.runs(machine, "0.1.1", BOOT_SECONDS)?;
    println!("{:.0} s: kept", machine.seconds());
    ensure!(site.access.status()?.fallback.is_none(), "it has been given up before");
    cluster.wait_for(machine, &["node", NODE], BOOT_SECONDS, is_ready)?;
    Ok(())
}

fn is_given_up_and_forgiven(
    site: &Site,
    cluster: &mut Cluster,
    machine: &mut Machine,
) -> Result<()> {
    site.channel.point(settings::CHANNEL, "0.1.2", &[])?;
    site.access.update();
    machine.wait_for(LEAVING, 2 * BOOT_SECONDS)?;
    cluster.stop_api_server()?;
    let given_up = |status: &Status| status.fallback.is_some();
    let status = site.access.wait_for(machine, "back", 3 * BOOT_SECONDS, given_up)?;
    let cause = status.fallback.map(|fallback| fallback.cause).unwrap_or_default();
    println!("{:.0} s: back: {cause}", machine.seconds());
    ensure!(cause.starts_with("probe api-server"), "the cause is {cause}");

    let forgiven = |status: &Status| status.refused.is_empty();
    site.access.wait_for(machine, "forgiven", BOOT_SECONDS, forgiven)?;
    println!("{:.0} s: forgiven", machine.seconds());
    let history = site.access.ask(&["history"])?.to_string();
    ensure!(history.contains("may be tried again"), "the history is {history}");

    cluster.start_api_server()?;
    site.access.runs(machine, "0.1.2", 3 * BOOT_SECONDS)?;
    println!("{:.0} s: updated and blessed", machine.seconds());
    Ok(())
}
