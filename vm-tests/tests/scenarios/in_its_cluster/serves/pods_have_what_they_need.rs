//! What a pod may ask of a node: commands from outside, volumes of every common kind, variables,
//! init containers, probes, also one that fails, a filter of system calls that it did not ask for, and
//! limits that hold; and what its administrator may: a pod to look around with, and no files of the
//! node's log folder. docs/cluster.md has the table.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::cluster::{Cluster, NODE, is_ready};
use testbed::http;
use vm_tests::BOOT_SECONDS;
use vm_tests::machine::Machine;

/// The pod that has everything, one that its probe finds dead, and one that takes more memory than
/// it may.
const OBJECTS: &str = include_str!("pods.yaml");
/// One that starts threads until nobody lets it.
const FORKS: &str = include_str!("forks.yaml");
/// Exit code of a process that the kernel killed.
const KILLED: u32 = 137;
/// Port on the host for `kubectl port-forward`.
const FORWARDED_PORT: u16 = 18080;

/// What is asked of the pod, with which command, and what the answer holds.
const CHECKS: [(&str, &[&str], &str); 13] = [
    ("filter of system calls", &["print", "/proc/self/status"], "Seccomp:\t2\n"),
    ("volume of a ConfigMap", &["print", "/config/greeting"], "hello from a config map"),
    ("one file of it (subPath)", &["print", "/single"], "hello from a config map"),
    ("volume of a Secret", &["print", "/secret/word"], "hidden"),
    ("variable from a Secret", &["variable", "WORD"], "hidden"),
    ("variable from the pod (downward API)", &["variable", "POD_NAME"], "works"),
    ("variable from its limits", &["variable", "MEMORY"], "67108864"),
    ("limit of processors, as it sees it", &["print", CPU], "50000 100000"),
    ("volume of the pod's labels", &["print", "/pod/labels"], "colour=\"green\""),
    ("emptyDir, filled by an init container", &["print", "/shared/first"], "from the init"),
    ("emptyDir in memory", &["print", "/memory/first"], "from the init"),
    ("hostPath", &["print", "/os-release"], "Slipway"),
    ("token of the service account", &["print", TOKEN], "eyJ"),
];
/// Microseconds that it may run in each period (cgroup v2).
const CPU: &str = "/sys/fs/cgroup/cpu.max";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// On a node that is Ready and may serve logs; leaves none of the pods.
pub fn shows(cluster: &Cluster, machine: &Machine) -> Result<()> {
    cluster.apply(OBJECTS)?;
    cluster.wait_for(machine, &["pod", "works"], BOOT_SECONDS, is_ready)?;
    println!("{:.0} s: Ready, by its startup, readiness and liveness probes", machine.seconds());

    let logs = cluster.kubectl_within(BOOT_SECONDS, &["logs", "works"])?;
    ensure!(logs.contains("listening"), "the log is {logs}");
    for (what, command, expected) in CHECKS {
        let arguments = [&["exec", "works", "--", "/probe"], command].concat();
        let said = cluster.kubectl(&arguments).with_context(|| what.to_owned())?;
        ensure!(said.contains(expected), "{what}: {said:?} does not hold {expected:?}");
        println!("{what}: there");
    }
    let answer = forwarded(cluster)?;
    ensure!(answer == b"pod is up\n", "through port-forward: {answer:?}");

    administrator_looks(cluster, machine)?;

    let restarted = |pod: &Value| restarts(pod) >= Some(1);
    let stuck = cluster.wait_for(machine, &["pod", "stuck"], BOOT_SECONDS, restarted)?;
    println!("a failing liveness probe: {} restarts", restarts(&stuck).unwrap_or_default());

    let ended = |pod: &Value| pod["status"]["phase"] == "Failed";
    let greedy = cluster.wait_for(machine, &["pod", "greedy"], BOOT_SECONDS, ended)?;
    // The reason is `OOMKilled` only when containerd hears of it in time.
    let end = &greedy["status"]["containerStatuses"][0]["state"]["terminated"];
    ensure!(end["exitCode"] == KILLED, "more memory than allowed: {end}");
    threads_end(cluster, machine)?;
    let works = cluster.get(&["pod", "works"])?;
    let again = restarts(&works);
    ensure!(again == Some(0), "its neighbour restarted: {again:?}");
    cluster.kubectl(&["delete", "pod", "works", "stuck", "greedy", "forks", "--now"]).map(drop)
}

/// A pod that starts threads for ever has its limit, and the node is Ready meanwhile.
fn threads_end(cluster: &Cluster, machine: &Machine) -> Result<()> {
    cluster.apply(FORKS)?;
    let until = Instant::now() + Duration::from_secs(BOOT_SECONDS);
    let log = loop {
        let log = cluster.kubectl_within(BOOT_SECONDS, &["logs", "forks"])?;
        if log.contains("threads:") {
            break log;
        }
        ensure!(Instant::now() < until, "the pod has said {log:?}\n{}", machine.tail());
        sleep(Duration::from_secs(1));
    };
    println!("threads without end: {}", log.trim());
    let node = cluster.get(&["node", NODE])?;
    ensure!(is_ready(&node), "the node is {:#}", node["status"]["conditions"]);
    let logs = cluster.kubectl(&["exec", "works", "--", "/probe", "variable", "WORD"])?;
    ensure!(logs.contains("hidden"), "its neighbour says {logs}");
    Ok(())
}

/// How often the pod's container was started again.
fn restarts(pod: &Value) -> Option<u64> {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64()
}

/// No file of the node's log folder through kubelet, and the root through a pod of `kubectl debug`.
fn administrator_looks(cluster: &Cluster, machine: &Machine) -> Result<()> {
    for what in ["?query=containerd&tailLines=10", "journal/"] {
        let path = format!("/api/v1/nodes/{NODE}/proxy/logs/{what}");
        let refusal = cluster.kubectl(&["get", "--raw", &path]).err();
        let refusal = refusal.with_context(|| format!("kubelet gives {path}"))?;
        println!("{path}: {}", refusal.root_cause());
    }

    let node = format!("node/{NODE}");
    let image = ["--image=localhost/slipway/hello:1", "--image-pull-policy=Never"];
    let command = ["--", "/probe", "print", "/host/usr/lib/os-release"];
    cluster.kubectl(&[&["debug", &node], &image[..], &command].concat())?;
    let pods = cluster.get(&["pods"])?;
    let mut names = pods["items"].as_array().into_iter().flatten().filter_map(|pod| {
        pod["metadata"]["name"].as_str().filter(|name| name.starts_with("node-debugger-"))
    });
    let name = names.next().context("`kubectl debug` made no pod")?;
    let done = |pod: &Value| pod["status"]["phase"] == "Succeeded";
    cluster.wait_for(machine, &["pod", name], BOOT_SECONDS, done)?;
    let said = cluster.kubectl(&["logs", name])?;
    ensure!(said.contains("Slipway"), "the debugging pod says {said:?}");
    println!("pod of `kubectl debug node`: there");
    Ok(())
}

/// What the pod answers through `kubectl port-forward`.
fn forwarded(cluster: &Cluster) -> Result<Vec<u8>> {
    let ports = format!("{FORWARDED_PORT}:8080");
    let mut command = cluster.kubectl_command(&["port-forward", "pod/works", &ports]);
    let mut forwarder = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let until = Instant::now() + Duration::from_secs(BOOT_SECONDS);
    let answer = loop {
        match http::get(FORWARDED_PORT, "/") {
            Err(_) if Instant::now() < until => sleep(Duration::from_millis(500)),
            answer => break answer,
        }
    };
    forwarder.kill()?;
    forwarder.wait()?;
    answer
}
