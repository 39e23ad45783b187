//! One node and all that its cluster and its pods get from it, one file for each promise. It begins
//! with a token that nobody knows, on the image's own disk, and ends with another network.

mod kubelet_is_hardened;
mod network_add_on_takes_over;
mod pod_comes_from_a_mirror;
mod pods_have_what_they_need;
mod wrong_token_is_named;

use anyhow::Result;
use serde_json::Value;
use testbed::cluster::{self, Cluster, NODE, NODE_ADDRESS};
use testbed::registry::Registry;
use vm_tests::machine::{Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, isolation, settings};

const NAME: &str = "node_serves_its_cluster";

/// The node, and what surrounds it.
struct Surrounded {
    site: Site,
    cluster: Cluster,
    registry: Registry,
    machine: Machine,
    /// The settings that it has.
    settings: Value,
}

#[test]
fn node_serves_its_cluster() {
    let prepare = || {
        cluster::build()?;
        Site::prepare(NAME, |_| Ok(()))
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let mut node = start()?;
    wrong_token_is_named::shows(&mut node)?;
    node.cluster.approve_serving(BOOT_SECONDS)?;
    kubelet_is_hardened::shows(&node.cluster, &mut node.machine)?;
    pods_have_what_they_need::shows(&node.cluster, &node.machine)?;
    pod_comes_from_a_mirror::shows(&mut node)?;
    network_add_on_takes_over::shows(&node.cluster, &node.machine)
}

/// From the image's own disk: a boot that nobody has found good yet.
fn start() -> Result<Surrounded> {
    let site = Site::open(NAME)?;
    let cluster = Cluster::start(&artefacts().join(format!("{NAME}-cluster")))?;
    let registry = Registry::start(&artefacts().join(format!("{NAME}-registry")))?;
    let mut settings = site.settings()?;
    settings["hostname"] = NODE.into();
    settings["registries"] = pod_comes_from_a_mirror::registries_refusing(&registry);
    wrong_token_is_named::spoil(&mut settings, &cluster);
    let hardware = Hardware {
        settings: Some(settings::text(&settings)?),
        kubelet_address: Some(NODE_ADDRESS.to_owned()),
        ..Hardware::default()
    };
    let disk = image::test_image()?.join("disk.raw");
    let machine = Machine::start_with(NAME, &disk, hardware)?;
    Ok(Surrounded { site, cluster, registry, machine, settings })
}
