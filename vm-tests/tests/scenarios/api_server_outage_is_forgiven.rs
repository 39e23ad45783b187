//! The API server goes down just before a good release starts. The release is given up at its
//! deadline; the one before finds that it gets no answer either, and takes the release again as
//! soon as there is one. It takes minutes, so only `make soak` runs it.

use anyhow::{Result, ensure};
use release::api::Status;
use vm_tests::cluster::{self, Cluster, NODE_ADDRESS, is_ready};
use vm_tests::machine::Hardware;
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, isolation};

const NAME: &str = "api_server_outage_is_forgiven";
const NODE: &str = "node-a";

#[test]
#[ignore = "long: run `make soak`"]
fn api_server_outage_is_forgiven() {
    let prepare = || {
        cluster::build()?;
        Site::prepare_versions(NAME, 1, "0.1.0")
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let mut cluster = Cluster::start(&artefacts().join(format!("{NAME}-cluster")))?;
    let mut document = site.settings()?;
    document["hostname"] = NODE.into();
    document["mode"] = "automatic".into();
    document["health"]["deadline"] = "100s".into();
    document["kubernetes"] = cluster.settings();
    let hardware =
        Hardware { kubelet_address: Some(NODE_ADDRESS.to_owned()), ..Hardware::default() };
    let machine = site.start(&image::test_image()?, &document, hardware)?;
    cluster.wait_for(&machine, &["node", NODE], BOOT_SECONDS, is_ready)?;

    cluster.stop_api_server()?;
    site.channel.point(vm_tests::settings::CHANNEL, "0.1.1", &[])?;
    // An order passes a silent API server; by itself the node would wait.
    site.access.update();
    let given_up = |status: &Status| status.fallback.is_some();
    let status = site.access.wait_for(&machine, "back", 2 * BOOT_SECONDS, given_up)?;
    let cause = status.fallback.map(|fallback| fallback.cause).unwrap_or_default();
    println!("{:.0} s: back: {cause}", machine.seconds());
    ensure!(cause.contains("api-server"), "the cause is {cause}");

    let forgiven = |status: &Status| status.refused.is_empty();
    site.access.wait_for(&machine, "forgiven", BOOT_SECONDS, forgiven)?;
    println!("{:.0} s: forgiven", machine.seconds());
    let history = site.access.ask(&["history"])?.to_string();
    ensure!(history.contains("may be tried again"), "the history is {history}");

    cluster.start_api_server()?;
    site.access.runs(&machine, "0.1.1", 2 * BOOT_SECONDS)?;
    println!("{:.0} s: updated and blessed", machine.seconds());
    Ok(())
}
