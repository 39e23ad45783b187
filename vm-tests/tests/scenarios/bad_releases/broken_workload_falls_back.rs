//! A release on which the node is healthy and Ready, while a pod of a DaemonSet does not start any
//! more: a program of the host that it mounts is gone. The node comes back on the release before,
//! with that pod as the cause, and the pod is Ready again.

use anyhow::{Result, ensure};
use contract::node::api::Reached;
use serde_json::{Value, json};
use testbed::cluster;
use vm_tests::member::Member;
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, isolation, settings};

const NAME: &str = "broken_workload_falls_back";
const BAD: &str = "0.1.1";
const AGENT: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      containers:
        - name: agent
          image: localhost/slipway/hello:1
          imagePullPolicy: Never
          volumeMounts:
            - {name: host-program, mountPath: /host-program}
      volumes:
        - {name: host-program, hostPath: {path: /usr/bin/probe, type: File}}
"#;

#[test]
#[ignore = "takes minutes: run `make soak`"]
fn broken_workload_falls_back() {
    let prepare = || {
        cluster::build()?;
        Site::prepare_bad(NAME, "without-a-host-file", BAD)
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let Member { site, cluster, machine, .. } = Member::start(NAME, |settings| {
        settings["health"]["deadline"] = "4m".into();
        // The program that goes would answer it.
        settings["health"]["probes"] = json!([]);
    })?;
    cluster.apply(AGENT)?;
    let agent = ["daemonset", "agent"];
    let is_there = |set: &Value| set["status"]["numberReady"] == 1;
    cluster.wait_for(&machine, &agent, BOOT_SECONDS, is_there)?;
    site.access.runs(&machine, "0.1.0", BOOT_SECONDS)?;

    site.channel.point(settings::CHANNEL, BAD, &[])?;
    site.access.update();
    let fallback = site.access.falls_back(&machine, BAD, 3 * BOOT_SECONDS)?;
    ensure!(fallback.reached == Reached::Probe, "the fallback is {fallback:?}");
    ensure!(fallback.cause.contains("DaemonSet default/agent"), "the fallback is {fallback:?}");
    ensure!(!fallback.cause.contains("(also:"), "more than that failed: {fallback:?}");
    site.access.runs(&machine, "0.1.0", BOOT_SECONDS)?;
    cluster.wait_for(&machine, &agent, BOOT_SECONDS, is_there)?;
    Ok(())
}
