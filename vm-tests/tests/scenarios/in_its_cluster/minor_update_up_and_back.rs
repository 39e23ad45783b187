//! Kubernetes from one minor version to the next in place, and back. A kubelet that is newer
//! than the API server is held, with the reason, until the control plane is updated. The node is
//! Ready each time, by the kubelet of that release, with the pod that ran before. Settings that it
//! was given on the newer release, of a newer schema, do not go back with it: the older one has its
//! own, of the older schema.

use anyhow::{Context, Result, ensure};
use contract::node::api::{Hold, Rule, Status};
use serde_json::Value;
use testbed::cluster::{self, Cluster, TOKEN, is_ready};
use vm_tests::machine::{Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, isolation, settings};

const NAME: &str = "minor_update_up_and_back";
const NODE: &str = "node-a";
/// Image with kubelet 1.36.
const OLDER: &str = "test-kubelet-1.36";
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: greeter}
spec:
  containers:
    - {name: greeter, image: 'localhost/slipway/hello:1', imagePullPolicy: Never}
"#;

#[test]
#[ignore = "builds another kubelet: run `make soak`"]
fn minor_update_up_and_back() {
    let prepare = || {
        cluster::build_with_older()?;
        let older = image::build(OLDER)?;
        let channel = Site::make_channel(NAME)?;
        channel.publish(&older)?;
        channel.publish(&image::newer(1)?)?;
        channel.point(settings::CHANNEL, "0.1.0", &[])
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let mut cluster = Cluster::start_older(&artefacts().join(format!("{NAME}-cluster")))?;
    let mut document = site.settings()?;
    document["hostname"] = NODE.into();
    document["mode"] = "automatic".into();
    document["schema"] = 1.into();
    document["kubernetes"] = cluster.settings_of_schema_1(TOKEN);
    document["kubernetes"]["kubelet"]["maxPods"] = 20.into();
    let hardware = Hardware { settings: Some(settings::text(&document)?), ..Hardware::default() };
    let disk = artefacts().join(format!("release-{OLDER}/disk.raw"));
    let machine = Machine::start_with(NAME, &disk, hardware)?;
    has_schema(&site.access.runs(&machine, "0.1.0", 2 * BOOT_SECONDS)?, 1)?;
    cluster.apply(POD)?;
    stands(&cluster, &machine, "v1.36.", "20", 0)?;

    site.channel.point(settings::CHANNEL, "0.1.1", &[])?;
    site.access.ask(&["check"])?;
    let is_held = |status: &Status| status.holds.iter().any(|hold| hold.rule == Rule::VersionSkew);
    let status = site.access.wait_for(&machine, "held", BOOT_SECONDS, is_held)?;
    println!("{:.0} s: {:?}", machine.seconds(), status.holds);
    let newer = |hold: &Hold| hold.rule == Rule::VersionSkew && hold.sentence.contains("1.36.");
    ensure!(status.holds.iter().any(newer), "{:?}", status.holds);
    cluster.update()?;
    has_schema(&site.access.runs(&machine, "0.1.1", 2 * BOOT_SECONDS)?, 1)?;
    stands(&cluster, &machine, "v1.37.", "20", 1)?;

    document["schema"] = contract::node::settings::SCHEMA.into();
    document["kubernetes"] = cluster.settings();
    document["kubernetes"]["kubelet"]["maxPods"] = 30.into();
    let file = artefacts().join(format!("{NAME}-site/newer.json"));
    std::fs::write(&file, settings::text(&document)?)?;
    let file = file.to_str().context("a path that is no text")?;
    site.access.ask(&["settings", "set", file])?;
    has_schema(&site.access.status()?, contract::node::settings::SCHEMA)?;
    stands(&cluster, &machine, "v1.37.", "30", 1)?;

    site.access.ask(&["rollback"])?;
    has_schema(&site.access.runs(&machine, "0.1.0", 2 * BOOT_SECONDS)?, 1)?;
    stands(&cluster, &machine, "v1.36.", "20", 2)?;
    Ok(())
}

/// The document in force is told to be of this schema.
fn has_schema(status: &Status, expected: u32) -> Result<()> {
    let schema = status.settings.as_ref().map(|settings| settings.schema);
    ensure!(schema == Some(expected), "the settings are told to be of schema {schema:?}");
    Ok(())
}

/// Waits until the Node is Ready by a kubelet of this version, has room for so many pods, and
/// the pod, which every restart of the machine restarts, is Ready too.
fn stands(
    cluster: &Cluster,
    machine: &Machine,
    version: &str,
    room: &str,
    restarts: u64,
) -> Result<()> {
    let runs_this = |node: &Value| {
        let kubelet = node["status"]["nodeInfo"]["kubeletVersion"].as_str();
        kubelet.is_some_and(|kubelet| kubelet.starts_with(version))
    };
    cluster.wait_for(machine, &["node", NODE], BOOT_SECONDS, |node| {
        is_ready(node) && runs_this(node) && node["status"]["capacity"]["pods"] == *room
    })?;
    cluster.wait_for(machine, &["pod", "greeter"], BOOT_SECONDS, |pod| {
        is_ready(pod) && pod["status"]["containerStatuses"][0]["restartCount"] == restarts
    })?;
    println!("{:.0} s: Ready with {version}*, restarted {restarts} times", machine.seconds());
    Ok(())
}
