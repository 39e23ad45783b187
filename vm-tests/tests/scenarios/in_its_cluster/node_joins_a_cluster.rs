//! A node with the settings of a cluster registers with its API server by itself, with the
//! labels and taints that it was given, becomes Ready, runs a pod that tolerates it, keeps its
//! settings when others would end kubelet, and takes an update with the pod there before and
//! after. It is the same Node then, of the same machine.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testbed::cluster::{self, NODE, has_condition, is_ready};
use vm_tests::member::Member;
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, isolation, settings};

const NAME: &str = "node_joins_a_cluster";
/// A pod that only nodes with the taint's toleration get.
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: greeter
spec:
  nodeSelector: {example.com/tenant: blue}
  tolerations: [{key: example.com/tenant, value: blue, effect: NoSchedule}]
  shareProcessNamespace: true
  containers:
    - name: greeter
      image: localhost/slipway/hello:1
      imagePullPolicy: Never
"#;

#[test]
fn node_joins_a_cluster() {
    let prepare = || {
        cluster::build()?;
        Site::prepare_versions(NAME, 1, "0.1.0")
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let Member { site, cluster, machine, mut settings } = Member::start(NAME, |settings| {
        settings["mode"] = "automatic".into();
        settings["kubernetes"]["labels"] = json!({"example.com/tenant": "blue"});
        settings["kubernetes"]["taints"] = json!(["example.com/tenant=blue:NoSchedule"]);
        settings["kubernetes"]["kubelet"] = json!({"maxPods": 20});
    })?;
    let node = cluster.get(&["node", NODE])?;
    println!("{:.0} s: Ready", machine.seconds());
    ensure!(node["metadata"]["labels"]["example.com/tenant"] == "blue", "{node:#}");
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    ensure!(taints.iter().any(|taint| taint["key"] == "example.com/tenant"), "{taints:?}");
    ensure!(node["status"]["capacity"]["pods"] == "20", "{}", node["status"]["capacity"]);

    cluster.approve_serving(BOOT_SECONDS)?;
    cluster.apply(POD)?;
    let pod = ["pod", "greeter"];
    cluster.wait_for(&machine, &pod, BOOT_SECONDS, |pod| has_condition(pod, "Ready"))?;
    println!("{:.0} s: the pod is Ready", machine.seconds());
    let logs = cluster.kubectl_within(BOOT_SECONDS, &["logs", "greeter"])?;
    ensure!(logs.contains("listening"), "the pod's log is {logs:?}");

    takes_back_what_ends_kubelet(&site, &mut settings)?;
    println!("{:.0} s: settings that end kubelet are taken back", machine.seconds());

    let before = boot_id(&node)?;
    site.channel.point(vm_tests::settings::CHANNEL, "0.1.1", &[])?;
    site.access.ask(&["check"])?;
    let status = site.access.runs(&machine, "0.1.1", 2 * BOOT_SECONDS)?;
    let probe = status.health.iter().find(|probe| probe.name == "node-ready");
    ensure!(probe.is_some_and(|probe| probe.message.is_none()), "{:#?}", status.health);
    println!("{:.0} s: updated and blessed", machine.seconds());
    let is_back = |node: &Value| is_ready(node) && boot_id(node).is_ok_and(|id| id != before);
    let after = cluster.wait_for(&machine, &["node", NODE], BOOT_SECONDS, is_back)?;
    ensure!(after["metadata"]["uid"] == node["metadata"]["uid"], "another Node joined");
    let (machine_id, same) = (machine_id(&node)?, machine_id(&after)?);
    ensure!(machine_id == same, "another machine: {machine_id} became {same}");
    cluster.wait_for(&machine, &pod, BOOT_SECONDS, |pod| {
        has_condition(pod, "Ready")
            && pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
    })?;
    println!("{:.0} s: the pod runs again", machine.seconds());
    Ok(())
}

/// More memory than the machine has cannot be reserved, which only kubelet finds.
fn takes_back_what_ends_kubelet(site: &Site, document: &mut Value) -> Result<()> {
    let shown = site.access.ask(&["settings", "show"])?;
    document["kubernetes"]["kubelet"]["systemReserved"] = json!({"memory": "900Gi"});
    let file = artefacts().join(format!("{NAME}-site/reserved.json"));
    fs::write(&file, settings::text(document)?)?;
    let set = ["settings", "set", &file.display().to_string()];
    let said = match site.access.ask(&set) {
        Ok(answer) => bail!("they were taken: {answer:#}"),
        Err(error) => format!("{error:#}"),
    };
    println!("{said}");
    ensure!(said.contains("kubelet ends with these settings"), "{said}");
    ensure!(said.contains("the settings before are in force again"), "{said}");
    ensure!(site.access.ask(&["settings", "show"])? == shown, "others are in force");
    Ok(())
}

fn boot_id(node: &Value) -> Result<String> {
    let id = node["status"]["nodeInfo"]["bootID"].as_str();
    Ok(id.context("a Node without a bootID")?.to_owned())
}

fn machine_id(node: &Value) -> Result<String> {
    let id = node["status"]["nodeInfo"]["machineID"].as_str().filter(|id| !id.is_empty());
    Ok(id.context("a Node without a machineID")?.to_owned())
}
