//! On the image with gVisor, a pod of the class `gvisor` runs on gVisor's kernel, and one
//! without a class on the node's. gVisor is built for it, so only `make soak` runs it.

use anyhow::{Result, ensure};
use serde_json::json;
use vm_tests::cluster::{self, Cluster, NODE_ADDRESS, has_condition, is_ready};
use vm_tests::machine::{Hardware, Machine};
use vm_tests::{BOOT_SECONDS, artefacts, image, isolation, settings};

const NAME: &str = "gvisor_runs_a_pod";
const IMAGE: &str = "test-gvisor";
const NODE: &str = "node-a";
const OBJECTS: &str = r#"
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: gvisor}
handler: runsc
---
apiVersion: v1
kind: Pod
metadata: {name: sandboxed}
spec:
  runtimeClassName: gvisor
  containers: [{name: hello, image: "localhost/slipway/hello:1", imagePullPolicy: Never}]
---
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  containers: [{name: hello, image: "localhost/slipway/hello:1", imagePullPolicy: Never}]
"#;

#[test]
#[ignore = "builds gVisor: run `make soak`"]
fn gvisor_runs_a_pod() {
    let prepare = || {
        cluster::build()?;
        image::build(IMAGE).map(drop)
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let cluster = Cluster::start(&artefacts().join(format!("{NAME}-cluster")))?;
    let document = json!({
        "schema": release::settings::SCHEMA,
        "hostname": NODE,
        "kubernetes": cluster.settings(),
    });
    let hardware = Hardware {
        settings: Some(settings::text(&document)?),
        kubelet_address: Some(NODE_ADDRESS.to_owned()),
        ..Hardware::default()
    };
    let disk = artefacts().join(format!("release-{IMAGE}/disk.raw"));
    let machine = Machine::start_with(NAME, &disk, hardware)?;
    cluster.wait_for(&machine, &["node", NODE], BOOT_SECONDS, is_ready)?;
    cluster.approve_serving(BOOT_SECONDS)?;
    cluster.apply(OBJECTS)?;
    for (pod, on_gvisor) in [("plain", false), ("sandboxed", true)] {
        let is_up = |pod: &serde_json::Value| has_condition(pod, "Ready");
        cluster.wait_for(&machine, &["pod", pod], BOOT_SECONDS, is_up)?;
        let log = cluster.kubectl_within(BOOT_SECONDS, &["logs", pod])?;
        println!("{:.0} s: {pod}: {}", machine.seconds(), log.trim());
        ensure!(log.contains("probe: on Linux version"), "{pod} does not say its kernel: {log}");
        ensure!(log.contains("gvisor") == on_gvisor, "{pod} runs on the wrong kernel: {log}");
    }
    Ok(())
}
