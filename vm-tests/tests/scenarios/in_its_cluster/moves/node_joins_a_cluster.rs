//! A node registers by itself with the API server of the cluster that its seed disk names, with the
//! labels and taints that it was given, becomes Ready, runs a pod that tolerates it, and keeps its
//! settings when others would end kubelet. After an update it is the same Node, of the same
//! machine, with the settings that it has kept.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testbed::cluster::{NODE, is_ready};
use vm_tests::member::Member;
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts};

use super::{NAME, node_drains_itself};

/// What the cluster's settings say of the node. Its pods tolerate the taint.
pub fn settings(settings: &mut Value) {
    settings["mode"] = "automatic".into();
    settings["kubernetes"]["labels"] = json!({"example.com/tenant": "blue"});
    settings["kubernetes"]["taints"] = json!(["example.com/tenant=blue:NoSchedule"]);
    settings["kubernetes"]["kubelet"] = json!({"maxPods": 20});
}

/// On a node that is Ready; gives its Node.
pub fn shows(member: &mut Member) -> Result<Value> {
    let Member { site, cluster, machine, settings } = member;
    let node = cluster.get(&["node", NODE])?;
    println!("{:.0} s: Ready", machine.seconds());
    came_from(site, "the seed disk")?;
    ensure!(node["metadata"]["labels"]["example.com/tenant"] == "blue", "{node:#}");
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    ensure!(taints.iter().any(|taint| taint["key"] == "example.com/tenant"), "{taints:?}");
    ensure!(node["status"]["capacity"]["pods"] == "20", "{}", node["status"]["capacity"]);

    cluster.approve_serving(BOOT_SECONDS)?;
    node_drains_itself::start_workload(cluster, machine)?;
    println!("{:.0} s: the pods are Ready", machine.seconds());
    let logs = cluster.kubectl_within(BOOT_SECONDS, &["logs", "-l", "app=web"])?;
    ensure!(logs.contains("listening"), "the pod's log is {logs:?}");

    takes_back_what_ends_kubelet(site, settings)?;
    println!("{:.0} s: settings that end kubelet are taken back", machine.seconds());
    Ok(node)
}

/// After an update: the Node of before, after another boot.
pub fn is_the_same(member: &Member, before: &Value) -> Result<()> {
    let Member { site, cluster, machine, .. } = member;
    let status = site.access.status()?;
    let probe = status.health.iter().find(|probe| probe.name == "node-ready");
    ensure!(probe.is_some_and(|probe| probe.message.is_none()), "{:#?}", status.health);
    let boot = boot_id(before)?;
    let is_back = |node: &Value| is_ready(node) && boot_id(node).is_ok_and(|id| id != boot);
    let after = cluster.wait_for(machine, &["node", NODE], BOOT_SECONDS, is_back)?;
    ensure!(after["metadata"]["uid"] == before["metadata"]["uid"], "another Node joined");
    let (machine_id, same) = (machine_id(before)?, machine_id(&after)?);
    ensure!(machine_id == same, "another machine: {machine_id} became {same}");
    came_from(site, "the state partition")
}

fn came_from(site: &Site, source: &str) -> Result<()> {
    let settings = site.access.status()?.settings.context("no settings")?;
    ensure!(settings.source == source, "the settings came from {}", settings.source);
    Ok(())
}

/// More memory than the machine has cannot be reserved, which only kubelet finds.
fn takes_back_what_ends_kubelet(site: &Site, document: &Value) -> Result<()> {
    let shown = site.access.ask(&["settings", "show"])?;
    let mut document = document.clone();
    document["kubernetes"]["kubelet"]["systemReserved"] = json!({"memory": "900Gi"});
    let file = artefacts().join(format!("{NAME}-site/reserved.json"));
    fs::write(&file, vm_tests::settings::text(&document)?)?;
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
