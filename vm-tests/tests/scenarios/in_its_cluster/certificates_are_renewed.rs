//! kubelet renews the certificate with which it asks, and the one with which it serves, before
//! they end: with certificates that last minutes the node stays Ready when the first ones have
//! ended.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use testbed::cluster::{self, is_ready};
use vm_tests::machine::{Machine, PROBE_PORT};
use vm_tests::{BOOT_SECONDS, image, isolation, joined};

const NAME: &str = "certificates_are_renewed";
const NODE: &str = "node-a";
/// How long the node's certificates last; kubelet renews them after 70 to 90 % of that.
const LIFETIME: Duration = Duration::from_secs(240);

#[test]
#[ignore = "waits for certificates to end: run `make soak`"]
fn certificates_are_renewed() {
    isolation::prepared(NAME, cluster::build, scenario);
}

fn scenario() -> Result<()> {
    let disk = image::test_image()?.join("disk.raw");
    let (cluster, mut machine) = joined::node_signed_for(NAME, &disk, LIFETIME)?;
    let first = [certificate(&mut machine, "client")?, certificate(&mut machine, "server")?];
    // Nobody gets another certificate by the token with which the node joined.
    cluster.kubectl(&["delete", "secret", "--namespace", "kube-system", "--all"])?;

    cluster.approve_serving(BOOT_SECONDS)?;
    sleep(LIFETIME);
    let now = [certificate(&mut machine, "client")?, certificate(&mut machine, "server")?];
    ensure!(now[0] != first[0], "kubelet asks with the certificate that has ended");
    ensure!(now[1] != first[1], "kubelet serves with the certificate that has ended");
    let lease = ["lease", NODE, "--namespace", "kube-node-lease"];
    let seen = cluster.get(&lease)?;
    let renewed = |lease: &Value| lease["spec"]["renewTime"] != seen["spec"]["renewTime"];
    cluster.wait_for(&machine, &lease, BOOT_SECONDS, renewed)?;
    ensure!(is_ready(&cluster.get(&["node", NODE])?), "the node is not Ready");
    Ok(())
}

/// What kubelet uses at present, key and certificate; never printed.
fn certificate(machine: &mut Machine, of: &str) -> Result<Vec<u8>> {
    let path = format!("/read?path=/var/lib/kubelet/pki/kubelet-{of}-current.pem");
    machine.get(PROBE_PORT, &path, BOOT_SECONDS)
}
