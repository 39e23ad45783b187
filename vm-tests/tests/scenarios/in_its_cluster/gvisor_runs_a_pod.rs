//! On the image with gVisor, a pod of the class `gvisor` runs on gVisor's kernel, and one
//! without a class on the node's. gVisor is built for it, so only `make soak` runs it.

use anyhow::{Result, ensure};
use testbed::cluster::{self, is_ready};
use vm_tests::{BOOT_SECONDS, artefacts, image, isolation, joined};

const NAME: &str = "gvisor_runs_a_pod";
const IMAGE: &str = "test-gvisor";
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
    let disk = artefacts().join(format!("release-{IMAGE}/disk.raw"));
    let (cluster, machine) = joined::node(NAME, &disk)?;
    cluster.apply(OBJECTS)?;
    for (pod, on_gvisor) in [("plain", false), ("sandboxed", true)] {
        cluster.wait_for(&machine, &["pod", pod], BOOT_SECONDS, is_ready)?;
        let log = cluster.kubectl_within(BOOT_SECONDS, &["logs", pod])?;
        println!("{:.0} s: {pod}: {}", machine.seconds(), log.trim());
        ensure!(log.contains("probe: on Linux version"), "{pod} does not say its kernel: {log}");
        ensure!(log.contains("gvisor") == on_gvisor, "{pod} runs on the wrong kernel: {log}");
    }
    Ok(())
}
