//! Pods get addresses that the cluster gave their node, by the bridge that the image brings. A
//! DaemonSet that installs a network of its own, as flannel does, takes over for the pods that
//! come after it, without a restart; what runs already stays.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::cluster::{Cluster, is_ready};
use vm_tests::BOOT_SECONDS;
use vm_tests::machine::Machine;

/// Pods that are made until one is in the add-on's network.
const TRIES: u32 = 5;
/// Installs `vm-tests/probe/src/network.rs` on each node.
const ADD_ON: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: network}
spec:
  selector: {matchLabels: {app: network}}
  template:
    metadata: {labels: {app: network}}
    spec:
      hostNetwork: true
      tolerations: [{operator: Exists}]
      containers:
        - name: network
          image: localhost/slipway/hello:1
          imagePullPolicy: Never
          command: [/probe, install-network, /node]
          securityContext: {runAsUser: 0}
          readinessProbe:
            exec: {command: [/probe, print, /node/etc/cni/net.d/10-test-network.conflist]}
            periodSeconds: 1
            timeoutSeconds: 20
          volumeMounts:
            - {name: configuration, mountPath: /node/etc/cni/net.d}
            - {name: plugins, mountPath: /node/opt/cni/bin}
      volumes:
        - {name: configuration, hostPath: {path: /etc/cni/net.d}}
        - {name: plugins, hostPath: {path: /opt/cni/bin}}
"#;

/// On a node that is Ready; leaves the add-on.
pub fn shows(cluster: &Cluster, machine: &Machine) -> Result<()> {
    let node = cluster.get(&["node", "node-a"])?;
    let range = node["spec"]["podCIDR"].as_str().context("the node has no addresses for pods")?;
    let prefix = range.strip_suffix("0/24").context("the controller manager gives /24")?;
    println!("the node's pods are in {range}");

    let first = address_of_new_pod(cluster, machine, "first")?;
    ensure!(first.starts_with(prefix), "{first} is not in {range}");

    cluster.apply(ADD_ON)?;
    let add_on = ["daemonset", "network"];
    let is_there = |set: &Value| set["status"]["numberReady"] == 1;
    cluster.wait_for(machine, &add_on, BOOT_SECONDS, is_there)?;
    // containerd hears of the new file, and loads it, in its own time.
    let mut tries = (0..TRIES).map(|number| format!("second-{number}"));
    let second = loop {
        let name = tries.next().context("new pods are not in the add-on's network")?;
        let address = address_of_new_pod(cluster, machine, &name)?;
        if address.starts_with("10.99.0.") {
            break address;
        }
    };

    let after = cluster.get(&["node", "node-a"])?;
    let boot = |node: &Value| node["status"]["nodeInfo"]["bootID"].clone();
    ensure!(boot(&after) == boot(&node) && is_ready(&after), "the node restarted: {after:#}");
    let kept = cluster.get(&["pod", "first"])?;
    ensure!(is_ready(&kept) && kept["status"]["podIP"] == *first, "{kept:#}");
    println!("{first} and {second} run side by side");
    Ok(())
}

/// Starts a pod and waits until it runs.
fn address_of_new_pod(cluster: &Cluster, machine: &Machine, name: &str) -> Result<String> {
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n    \
         - {{name: hello, image: 'localhost/slipway/hello:1', imagePullPolicy: Never}}\n"
    ))?;
    let pod = cluster.wait_for(machine, &["pod", name], BOOT_SECONDS, is_ready)?;
    Ok(pod["status"]["podIP"].as_str().context("a pod without an address")?.to_owned())
}
