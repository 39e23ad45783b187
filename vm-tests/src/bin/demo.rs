//! `make demo`: builds two releases and a bad one, publishes them to a channel, boots the first,
//! which joins a cluster, and lets the node update itself, and then survive the bad one. It says
//! what happened in words for someone who sees Slipway for the first time.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use contract::ReleaseDocument;
use contract::node::api::{Boot, Status};
use serde_json::json;
use testbed::cluster::{self, Cluster, NODE_ADDRESS, has_condition};
use testbed::loopback::namespace;
use vm_tests::machine::{Hardware, Machine, POD_PORT};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, settings, workspace};

/// Set in the process that runs without a network.
const ISOLATED: &str = "SLIPWAY_DEMO_ISOLATED";
const NAME: &str = "demo";
const NODE: &str = "demo-node";
/// What the cluster runs on the node.
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: greeter}
spec:
  shareProcessNamespace: true
  containers: [{name: hello, image: "localhost/slipway/hello:1", imagePullPolicy: Never}]
"#;
/// Manifest, version, and what is new in it.
const RELEASES: [(&str, &str, &str); 3] = [
    ("demo-1.37.1", "1.0.0", "kubelet 1.37.1"),
    ("demo", "1.1.0", "kubelet 1.37.2"),
    ("demo-bad", "1.2.0", "a kubelet that does not start: the bad one"),
];

fn main() -> Result<()> {
    if std::env::var_os(ISOLATED).is_some() {
        return run();
    }
    println!("1. Building three releases (minutes at first, then seconds)");
    for (manifest, version, what) in RELEASES {
        let manifest = workspace().join(format!("manifests/images/{manifest}.toml"));
        image::build_as(&manifest, &folder(version), Some(version))?;
        println!("   {version}: {what}");
    }
    println!(
        "   and a control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler"
    );
    cluster::build()?;
    println!("\n2. Publishing them to a channel: a folder of signed files");
    let channel = Site::make_channel(NAME)?;
    for (_, version, _) in RELEASES {
        channel.publish(&folder(version))?;
    }
    channel.point(settings::CHANNEL, "1.0.0", &[])?;
    println!("   the channel `{}` points at 1.0.0", settings::CHANNEL);
    let status = namespace()
        .arg(std::env::current_exe()?)
        .env(ISOLATED, "1")
        .status()
        .context("cannot run `unshare`: run setup/install-dependencies")?;
    ensure!(status.success(), "the demo failed; its own message is above");
    Ok(())
}

fn folder(version: &str) -> PathBuf {
    artefacts().join(format!("release-demo-{version}"))
}

fn run() -> Result<()> {
    let site = Site::open(NAME)?;
    println!(
        "\n3. Booting 1.0.0 in QEMU; nginx serves the channel, and a control plane of Kubernetes\n   \
         runs beside it, in a network that has no way out"
    );
    let cluster = Cluster::start(&artefacts().join("demo-cluster"))?;
    let mut document = site.settings()?;
    document["hostname"] = NODE.into();
    document["kubernetes"] = cluster.settings();
    document["mode"] = "automatic".into();
    document["channel"]["pollInterval"] = "1m".into();
    document["health"] = json!({ "settle": "10s", "deadline": "150s" });
    let text = settings::text(&document)?;
    let hardware = Hardware {
        settings: Some(text),
        watchdog: true,
        kubelet_address: Some(NODE_ADDRESS.to_owned()),
        ..Hardware::default()
    };
    let disk = folder("1.0.0").join("disk.raw");
    let mut machine = Machine::start_with(NAME, &disk, hardware)?;
    machine.wait_for("Custom Secure Boot keys successfully enrolled", BOOT_SECONDS)?;
    say(&machine, "the firmware took the image's Secure Boot keys and restarts");
    machine.wait_for("UEFI Secure Boot is enabled", BOOT_SECONDS)?;
    say(&machine, "the signed kernel starts; Secure Boot is on");
    let first = wait(&site, &machine, "1.0.0")?;
    say(&machine, "it has joined the cluster and is Ready there: the boot is blessed");
    cluster.apply(POD)?;
    show_cluster(&cluster, &machine, 0)?;
    pod_answers(&mut machine)?;

    println!("\n4. Pointing the channel at 1.1.0; nobody touches the node");
    site.channel.point(settings::CHANNEL, "1.1.0", &[])?;
    let updated = wait(&site, &machine, "1.1.0")?;
    let moved = site.nginx.bytes_sent("/blobs/")?;
    let text = format!(
        "it runs 1.1.0 in slot {}, found good; {:.1} MB came over the network",
        updated.running.slot,
        moved as f64 / 1e6
    );
    say(&machine, &text);
    show_cluster(&cluster, &machine, 1)?;
    pod_answers(&mut machine)?;

    println!("\n5. Pointing the channel at 1.2.0, the bad one");
    site.channel.point(settings::CHANNEL, "1.2.0", &[])?;
    let fell_back =
        |status: &Status| status.fallback.is_some() && status.running.boot == Boot::Blessed;
    let back = site.access.wait_for(&machine, "back", 3 * BOOT_SECONDS, fell_back)?;
    let fallback = back.fallback.as_ref().context("no fallback")?;
    say(&machine, "the node is back on 1.1.0 by itself, and says why:");
    println!("           reached {}: {}", fallback.reached, fallback.cause);
    for hold in &back.holds {
        println!("           {}", hold.sentence);
    }
    pod_answers(&mut machine)?;
    ensure!(back.running.version == updated.running.version, "it runs {:?}", back.running);
    ensure!(back.machine_id == first.machine_id, "another node answers");
    let folder = machine.cut_power()?;
    print_summary(&folder)
}

/// Waits until the node runs this release and found it good.
fn wait(site: &Site, machine: &Machine, version: &str) -> Result<Status> {
    let wanted = version.parse().ok();
    let runs =
        |status: &Status| status.running.version == wanted && status.running.boot == Boot::Blessed;
    site.access.wait_for(machine, "blessed", 3 * BOOT_SECONDS, runs)
}

/// What kubectl says of the node, and of the pod once it runs after so many restarts.
fn show_cluster(cluster: &Cluster, machine: &Machine, restarts: u64) -> Result<()> {
    let is_up = |pod: &serde_json::Value| {
        let count = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
        has_condition(pod, "Ready") && count >= Some(restarts)
    };
    cluster.wait_for(machine, &["pod", "greeter"], BOOT_SECONDS, is_up)?;
    say(machine, "what kubectl says:");
    for what in ["nodes", "pod/greeter"] {
        for line in cluster.kubectl(&["get", what])?.lines() {
            println!("           {line}");
        }
    }
    Ok(())
}

fn pod_answers(machine: &mut Machine) -> Result<()> {
    let answer = machine.get(POD_PORT, "/", BOOT_SECONDS)?;
    let answer = String::from_utf8_lossy(&answer).trim().to_owned();
    ensure!(answer == "pod is up", "the pod says {answer:?}");
    say(machine, &format!("the pod answers: \"{answer}\""));
    Ok(())
}

fn say(machine: &Machine, text: &str) {
    println!("   {:>4.0} s  {text}", machine.seconds());
}

fn print_summary(machine: &Path) -> Result<()> {
    let release = folder("1.1.0");
    let document = ReleaseDocument::from_json(&std::fs::read(release.join("release.json"))?)?;
    println!(
        "\nWhat you saw\n\
         * An image of {} MiB that has no shell, no package manager and no way to log in.\n\
         * The node registered with the cluster by itself, from a token in its settings.\n\
         * Every block of its root is checked against a hash that the firmware vouches for.\n\
         * The node wrote the new release to its other slot while the old one ran, read it\n  \
           back, and restarted into it: one rename. What it had already, it did not fetch.\n\
         * A release that does not work costs one restart. It is remembered, with the cause.\n\
         \n\
         Where it is\n\
         * the releases: {}-*\n\
         * the channel: {}\n\
         * the machine's disk and console: {}\n\
         \n\
         What next\n\
         * ./target/debug/slipway channel show {} # what the channel holds\n\
         * ./target/debug/slipway report {}       # every file of the image, and why it is there\n\
         * docs/cluster.md                        # the same with your own nodes",
        document.root.bytes >> 20,
        artefacts().join("release-demo").display(),
        artefacts().join("demo-site/channel").display(),
        machine.display(),
        artefacts().join("demo-site/channel").display(),
        release.display(),
    );
    Ok(())
}
