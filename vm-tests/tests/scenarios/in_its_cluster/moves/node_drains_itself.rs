//! A node of a group that asks for it drains itself before it restarts: a budget for disruptions
//! blocks that until it frees, what the node cordoned it uncordons, and what runs on it alone is
//! Ready again before the boot is good. A cordon of an operator stays; in the long form also over
//! the end of a drain, and over an update.

use std::time::Duration;

use anyhow::{Result, ensure};
use contract::node::api::{Phase, Rule, Status};
use serde_json::Value;
use testbed::channel::Channel;
use testbed::cluster::{Cluster, NODE, is_ready};
use testbed::times;
use vm_tests::machine::Machine;
use vm_tests::member::Member;
use vm_tests::settings::{CHANNEL, GROUP};
use vm_tests::{BOOT_SECONDS, image, is_long};

/// A pod that may not go, and one that is on every node.
const OBJECTS: &str = include_str!("budget.yaml");
const SPEC: &str = "\
channel: stable
settle: 5s
deadline: 5m
drain:
  deadline: 30s
  then: wait
";
/// The node's mark.
const MARK: &str = "slipway.dev/cordoned-for";
/// Longer than slipwayd's round of 15 s, in which it would take a cordon away.
const WHILE: Duration = Duration::from_secs(20);

/// What the channel has beside the release that the node boots.
pub fn fill(channel: &Channel) -> Result<()> {
    channel.publish(&image::newer(1)?)?;
    channel.point(CHANNEL, "0.1.0", &[])?;
    channel.group(GROUP, SPEC)
}

/// A pod that may not go, and one that is on every node; waits until both are Ready.
pub fn start_workload(cluster: &Cluster, machine: &Machine) -> Result<()> {
    cluster.apply(OBJECTS)?;
    wait_for_pods(cluster, machine)
}

/// On a node with that workload; leaves it on the other release.
pub fn shows(member: &Member) -> Result<()> {
    let Member { site, cluster, machine, .. } = member;
    site.channel.point(CHANNEL, "0.1.1", &[])?;
    site.access.ask(&["check"])?;
    let blocked = |status: &Status| status.phase == Phase::Draining && names_budget(status);
    site.access.wait_for(machine, "blocked by the budget", BOOT_SECONDS, blocked)?;
    let node = cluster.get(&["node", NODE])?;
    ensure!(is_cordoned(&node) && mark(&node) == "0.1.1", "{:#}", node["spec"]);
    println!("{:.0} s: cordoned, and blocked by the budget", machine.seconds());
    let given_up = |status: &Status| status.phase == Phase::Staged && names_budget(status);
    let status = site.access.wait_for(machine, "past its deadline", BOOT_SECONDS, given_up)?;
    ensure!(status.running.version == "0.1.0".parse().ok(), "{:#?}", status.running);
    cluster.wait_for(machine, &["node", NODE], BOOT_SECONDS, is_free)?;
    println!("{:.0} s: uncordoned after the deadline", machine.seconds());

    cluster.kubectl(&["cordon", NODE])?;
    if is_long() {
        site.access.update();
        site.access.wait_for(machine, "blocked by the budget", BOOT_SECONDS, blocked)?;
        site.access.wait_for(machine, "past its deadline", BOOT_SECONDS, given_up)?;
    }
    operators_cordon_stays(cluster)?;
    println!("{:.0} s: an operator's cordon stays", machine.seconds());
    cluster.kubectl(&["uncordon", NODE])?;

    cluster.kubectl(&["delete", "poddisruptionbudget", "web"])?;
    site.access.update();
    let status = site.access.runs(machine, "0.1.1", 2 * BOOT_SECONDS)?;
    println!("{:.0} s: updated and blessed", machine.seconds());
    let probe = status.health.iter().find(|probe| probe.name == "workloads");
    ensure!(probe.is_some_and(|probe| probe.message.is_none()), "{:#?}", status.health);
    let agent = cluster.get(&["pods", "-l", "app=agent"])?;
    let restarts = &agent["items"][0]["status"]["containerStatuses"][0]["restartCount"];
    ensure!(restarts.as_u64() >= Some(1), "the agent was not there: {restarts}");
    cluster.wait_for(machine, &["node", NODE], BOOT_SECONDS, is_free)?;
    wait_for_pods(cluster, machine)?;
    println!("{:.0} s: uncordoned, and the pods are back", machine.seconds());
    if is_long() { outlives_an_update(member) } else { Ok(()) }
}

/// An operator's cordon, and the node goes back.
fn outlives_an_update(member: &Member) -> Result<()> {
    let Member { site, cluster, machine, .. } = member;
    cluster.kubectl(&["cordon", NODE])?;
    site.channel.point(CHANNEL, "0.1.0", &[])?;
    site.access.ask(&["check"])?;
    site.access.runs(machine, "0.1.0", 2 * BOOT_SECONDS)?;
    operators_cordon_stays(cluster)?;
    let web = cluster.get(&["pods", "-l", "app=web"])?;
    ensure!(!all_ready(&web), "a pod came to a node that an operator has cordoned");
    println!("{:.0} s: an operator's cordon outlives an update", machine.seconds());
    cluster.kubectl(&["uncordon", NODE]).map(drop)
}

fn operators_cordon_stays(cluster: &Cluster) -> Result<()> {
    times::pause(WHILE);
    let node = cluster.get(&["node", NODE])?;
    ensure!(is_cordoned(&node) && mark(&node).is_null(), "{:#}", node["metadata"]);
    Ok(())
}

fn wait_for_pods(cluster: &Cluster, machine: &Machine) -> Result<()> {
    for name in ["app=web", "app=agent"] {
        cluster.wait_for(machine, &["pods", "-l", name], BOOT_SECONDS, all_ready)?;
    }
    Ok(())
}

/// At least one pod, and all are Ready.
fn all_ready(list: &Value) -> bool {
    let pods = list["items"].as_array();
    pods.is_some_and(|pods| !pods.is_empty() && pods.iter().all(is_ready))
}

fn names_budget(status: &Status) -> bool {
    let mut drains = status.holds.iter().filter(|hold| hold.rule == Rule::Drain);
    drains.any(|hold| hold.sentence.contains("default/web") && hold.sentence.contains("budget web"))
}

fn is_cordoned(node: &Value) -> bool {
    node["spec"]["unschedulable"] == true
}

fn is_free(node: &Value) -> bool {
    !is_cordoned(node) && mark(node).is_null()
}

fn mark(node: &Value) -> &Value {
    &node["metadata"]["annotations"][MARK]
}
