//! A node joins a cluster, updates, and comes back from a bad release, as the API server sees it;
//! and what all that the image ships keeps in memory meanwhile.
//!
//! The control plane runs on the same processors as the node. Its objects are asked for every half
//! second, which is what the figures are good for.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testbed::cluster::{self, Cluster, NODE, NODE_ADDRESS, is_ready};
use vm_tests::machine::{Hardware, Machine, PROBE_PORT};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, settings};

use crate::document::{head, row};
use crate::isolated;
use crate::measure::Spread;
use crate::releases;
use crate::updater::{self, Memory};

const NAME: &str = "bench-joins";
/// What the node runs at first: version and manifest. It has a probe that reads `/proc`.
const FIRST: (&str, &str) = ("1.0.0", "manifests/images/test.toml");
/// Measured rounds: an update, and a bad release after it.
const ROUNDS: [[(&str, &str); 2]; 2] = [
    [("1.1.0", "manifests/images/test.toml"), ("1.2.0", BAD)],
    [("1.3.0", "manifests/images/test.toml"), ("1.4.0", BAD)],
];
/// Its kubelet does not start.
const BAD: &str = "manifests/images/bad/kubelet-crash-loops.toml";
/// slipwayd: the verdict.
const BAD_VERDICT: &str = "is bad: ";
/// New nodes that join, one after the other.
const JOINS: usize = 3;

/// It waits for a node before there is one.
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: greeter}
spec:
  containers:
    - {name: greeter, image: 'localhost/slipway/hello:1', imagePullPolicy: Never}
"#;

/// How long the node is left alone before its memory is read.
const REST: Duration = Duration::from_secs(60);
/// What the image starts and keeps running.
const UNITS: [&str; 8] = [
    "kubelet.service",
    "containerd.service",
    "slipwayd.service",
    "systemd-journald.service",
    "systemd-udevd.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
];
const MEGABYTE: f64 = 1e6;

/// Builds and publishes the releases and the control plane, measures in a process without a
/// network, and gives the tables.
///
/// # Errors
/// When one cannot be built, or the node does not do what it should.
pub fn table(folder: &Path) -> Result<String> {
    cluster::build()?;
    let channel = Site::make_channel(NAME)?;
    for (version, manifest) in [FIRST].into_iter().chain(ROUNDS.into_iter().flatten()) {
        channel.publish(&releases::build(folder, manifest, version, None)?)?;
    }
    channel.point(settings::CHANNEL, FIRST.0, &[])?;
    isolated::table("joins", folder)
}

/// Lets nodes join and one of them update, and gives the tables.
///
/// # Errors
/// When the node does not do what it should, with the console's tail.
pub fn measure(folder: &Path) -> Result<String> {
    let site = Site::open(NAME)?;
    let cluster = Cluster::start(&artefacts().join(format!("{NAME}-cluster")))?;
    let mut document = site.settings()?;
    document["hostname"] = NODE.into();
    document["kubernetes"] = cluster.settings();
    document["health"] = json!({"settle": "10s", "deadline": "150s"});
    let hardware = Hardware {
        settings: Some(settings::text(&document)?),
        kubelet_address: Some(NODE_ADDRESS.to_owned()),
        ..Hardware::default()
    };
    let disk = releases::place(folder, FIRST.1, FIRST.0).join("disk.raw");
    // Pods need it, and a new cluster makes it in its first moments.
    cluster.kubectl_within(BOOT_SECONDS, &["get", "serviceaccount", "default"])?;
    let mut joins = Vec::new();
    let mut machine = loop {
        eprintln!("bench: joins, node {} of {JOINS}", joins.len() + 1);
        cluster.apply(POD)?;
        let machine = Machine::start_with(NAME, &disk, hardware.clone())?;
        joins.push(join(&cluster, &machine)?);
        if joins.len() == JOINS {
            break machine;
        }
        machine.cut_power()?;
        cluster.kubectl(&["delete", "pod", "greeter", "--force", "--grace-period=0"])?;
        cluster.kubectl(&["delete", "node", NODE])?;
    };
    site.access.runs(&machine, FIRST.0, BOOT_SECONDS)?;
    let memory = memory(&mut machine)?;
    let (mut updates, mut fallbacks) = (Vec::new(), Vec::new());
    for (round, [good, bad]) in ROUNDS.iter().enumerate() {
        eprintln!("bench: joins, updates, round {} of {}", round + 1, ROUNDS.len());
        updates.push(update(&site, &cluster, &mut machine, good.0)?);
        fallbacks.push(fall_back(&site, &cluster, &mut machine, bad.0)?);
    }
    lines(&joins, &updates, &fallbacks, &memory)
}

/// Seconds since power-on.
#[derive(Debug, Clone, Copy)]
struct Join {
    registered: f64,
    ready: f64,
    pod: f64,
}

fn join(cluster: &Cluster, machine: &Machine) -> Result<Join> {
    let node = ["node", NODE];
    cluster.wait_for(machine, &node, BOOT_SECONDS, |_| true)?;
    let registered = machine.seconds();
    cluster.wait_for(machine, &node, BOOT_SECONDS, is_ready)?;
    let ready = machine.seconds();
    cluster.wait_for(machine, &["pod", "greeter"], BOOT_SECONDS, is_ready)?;
    Ok(Join { registered, ready, pod: machine.seconds() })
}

/// Seconds since an order or a verdict.
#[derive(Debug, Clone, Copy)]
struct Return {
    ready: f64,
    pod: f64,
    blessed: f64,
}

/// From an operator's order until the new release is blessed.
fn update(site: &Site, cluster: &Cluster, machine: &mut Machine, to: &str) -> Result<Return> {
    let before = Before::of(cluster)?;
    site.channel.point(settings::CHANNEL, to, &[])?;
    let begin = machine.seconds();
    site.access.update();
    before.comes_back(site, cluster, machine, to, begin)
}

/// From the bad verdict until the old release runs again.
fn fall_back(site: &Site, cluster: &Cluster, machine: &mut Machine, bad: &str) -> Result<Return> {
    let before = Before::of(cluster)?;
    let version = site.access.status()?.running.version.context("it runs no release")?;
    site.channel.point(settings::CHANNEL, bad, &[])?;
    site.access.update();
    machine.wait_for(BAD_VERDICT, BOOT_SECONDS)?;
    let begin = machine.seconds();
    before.comes_back(site, cluster, machine, &version.to_string(), begin)
}

/// What tells the cluster's objects of one boot from those of the next.
struct Before {
    boot: Value,
    restarts: Option<u64>,
}

impl Before {
    fn of(cluster: &Cluster) -> Result<Self> {
        let pod = cluster.get(&["pod", "greeter"])?;
        Ok(Self { boot: boot(&cluster.get(&["node", NODE])?), restarts: restarts(&pod) })
    }

    /// Waits for the node of another boot, and for its pod.
    fn comes_back(
        &self,
        site: &Site,
        cluster: &Cluster,
        machine: &Machine,
        version: &str,
        begin: f64,
    ) -> Result<Return> {
        let is_other = |node: &Value| is_ready(node) && boot(node) != self.boot;
        cluster.wait_for(machine, &["node", NODE], BOOT_SECONDS, is_other)?;
        let ready = machine.seconds() - begin;
        let is_back = |pod: &Value| is_ready(pod) && restarts(pod) > self.restarts;
        cluster.wait_for(machine, &["pod", "greeter"], BOOT_SECONDS, is_back)?;
        let pod = machine.seconds() - begin;
        site.access.runs(machine, version, BOOT_SECONDS)?;
        Ok(Return { ready, pod, blessed: machine.seconds() - begin })
    }
}

fn boot(node: &Value) -> Value {
    node["status"]["nodeInfo"]["bootID"].clone()
}

fn restarts(pod: &Value) -> Option<u64> {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64()
}

/// Of each unit, and of PID 1.
fn memory(machine: &mut Machine) -> Result<Vec<(String, Memory)>> {
    sleep(REST);
    let mut found = Vec::new();
    for unit in UNITS {
        found.push((unit.to_owned(), updater::sample(machine, unit)?));
    }
    let status = machine.get(PROBE_PORT, "/read?path=/proc/1/status", BOOT_SECONDS)?;
    let status = String::from_utf8_lossy(&status);
    found.push(("systemd (PID 1)".to_owned(), updater::memory("MemoryCurrent=0", &status)?));
    Ok(found)
}

/// Takes one figure, and its name.
type Figure<T> = (&'static str, fn(&T) -> f64);

fn lines(
    joins: &[Join],
    updates: &[Return],
    fallbacks: &[Return],
    memory: &[(String, Memory)],
) -> Result<String> {
    let mut text = head(&["a new node joins, seconds since power-on", "measured"]);
    let of_joins: [Figure<Join>; 3] = [
        ("registered", |join| join.registered),
        ("Ready", |join| join.ready),
        ("pod Ready", |join| join.pod),
    ];
    for (name, of) in of_joins {
        text += &row(&[name.to_owned(), Spread::of(joins.iter().map(of))?.to_string()]);
    }
    text += "\n";
    text += &head(&["seconds", "since the order to update", "since the bad verdict"]);
    let of_returns: [Figure<Return>; 3] = [
        ("Ready, by the kubelet of that boot", |back| back.ready),
        ("the pod is Ready again", |back| back.pod),
        ("settled; or back on the old release", |back| back.blessed),
    ];
    for (name, of) in of_returns {
        let cell = |rounds: &[Return]| Spread::of(rounds.iter().map(of));
        let (update, fallback) = (cell(updates)?, cell(fallbacks)?);
        text += &row(&[name.to_owned(), update.to_string(), fallback.to_string()]);
    }
    text += "\n";
    text += &head(&["memory at rest, MB", "resident", "of it, not backed by a file"]);
    let mut add = |name: &str, resident: f64, anonymous: f64| {
        let shown = |bytes: f64| format!("{:.1}", bytes / MEGABYTE);
        text += &row(&[name.to_owned(), shown(resident), shown(anonymous)]);
    };
    let (mut resident, mut anonymous) = (0.0, 0.0);
    for (unit, memory) in memory {
        add(unit, memory.resident, memory.anonymous);
        resident += memory.resident;
        anonymous += memory.anonymous;
    }
    add("**in all**", resident, anonymous);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_adds_up() -> Result<()> {
        let join = Join { registered: 1.0, ready: 2.0, pod: 3.0 };
        let back = Return { ready: 4.0, pod: 5.0, blessed: 6.0 };
        let memory = Memory { resident: 3e6, anonymous: 1e6, charged: 0.0 };
        let memory = [("a".to_owned(), memory), ("b".to_owned(), memory)];
        let text = lines(&[join], &[back], &[back], &memory)?;
        assert!(text.contains("| **in all** | 6.0 | 2.0 |"), "{text}");
        assert!(text.contains("| pod Ready | 3.0 / **3.0** / 3.0 |"), "{text}");
        Ok(())
    }
}
