//! A pod whose image only a mirror has, behind a password and an authority of its own: with a
//! wrong password it waits and says so, and with the right one, set while the node runs, it
//! starts. The password reaches no file of the state partition but the settings.

use std::fs;

use anyhow::{Context, Result, ensure};
use builder::formats::tree::Content;
use builder::inputs::container_image::{ImageSpec, layout};
use contract::Architecture;
use serde_json::{Value, json};
use testbed::cluster::is_ready;
use testbed::registry::{self, PASSWORD, Registry, USERNAME};
use vm_tests::machine::{HOST, Machine, PROBE_PORT};
use vm_tests::{BOOT_SECONDS, artefacts};

use super::{NAME, Surrounded};

const REPOSITORY: &str = "slipway/hello";
/// Nobody knows this host: a scenario's machine has no name server.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: mirrored }
spec:
  containers:
    - name: mirrored
      image: registry.example.com/slipway/hello:1
      imagePullPolicy: Always
";
/// Where kubelet looks for passwords of registries.
const LINK: &str = "/var/lib/kubelet/config.json";
const WRONG: &str = "battery staple";

/// What settings say of the mirror, with a password that it refuses.
pub fn registries_refusing(registry: &Registry) -> Value {
    registries(registry, WRONG)
}

/// On a node that is Ready and has the settings of [`registries_refusing`].
pub fn shows(node: &mut Surrounded) -> Result<()> {
    let Surrounded { site, cluster, registry, machine, settings } = node;
    let pushed = push(registry, machine)?;
    println!("{:.0} s: the registry has {pushed}", machine.seconds());

    cluster.apply(POD)?;
    let pod = ["pod", "mirrored"];
    // Between two tries it is a back-off, which names the error.
    let refused = |pod: &Value| {
        let waiting = waiting(pod).to_string();
        waiting.contains("ErrImagePull") && waiting.contains("401")
    };
    let shown = cluster.wait_for(machine, &pod, BOOT_SECONDS, refused)?;
    println!("{:.0} s: {}", machine.seconds(), waiting(&shown));

    let before = started(machine, "containerd")?;
    settings["registries"] = registries(registry, PASSWORD);
    let file = artefacts().join(format!("{NAME}-site/good-password.json"));
    fs::write(&file, settings.to_string())?;
    let file = file.display().to_string();
    site.access.ask(&["settings", "set", "--dry-run", &file])?;
    site.access.ask(&["settings", "set", &file])?;
    let ready = cluster.wait_for(machine, &pod, BOOT_SECONDS, is_ready)?;
    println!("{:.0} s: the pod is Ready", machine.seconds());
    let id = ready["status"]["containerStatuses"][0]["imageID"].as_str().unwrap_or_default();
    ensure!(id.ends_with(&pushed), "it runs {id}");
    ensure!(started(machine, "containerd")? == before, "containerd was restarted");

    let shown = site.access.ask(&["settings", "show"])?.to_string();
    ensure!(!shown.contains(PASSWORD) && shown.contains("(redacted)"), "shown: {shown}");
    let read = machine.get(PROBE_PORT, &format!("/read?path={LINK}"), BOOT_SECONDS)?;
    ensure!(String::from_utf8_lossy(&read).contains(PASSWORD), "kubelet was told {read:?}");
    let target = machine.get(PROBE_PORT, &format!("/link?path={LINK}"), BOOT_SECONDS)?;
    ensure!(target.starts_with(b"/run/"), "{LINK} is no link into memory: {target:?}");
    Ok(())
}

fn registries(registry: &Registry, password: &str) -> Value {
    json!([{
        "host": "registry.example.com",
        "mirrors": [format!("https://{HOST}:{}", registry::PORT)],
        "mirrorsOnly": true,
        "certificateAuthority": registry.authority(),
        "username": USERNAME,
        "password": password,
    }])
}

/// Pushes an image that the node does not have: the probe under another name.
fn push(registry: &mut Registry, machine: &mut Machine) -> Result<String> {
    let program = machine.get(PROBE_PORT, "/read?path=/usr/bin/probe", BOOT_SECONDS)?;
    let image = ImageSpec {
        name: "registry.example.com/slipway/hello:1",
        program: "mirrored",
        content: &Content::from_bytes(program),
        arguments: &["hello".to_owned()],
        architecture: Architecture::X86_64,
    };
    registry.push(&layout(&image)?, REPOSITORY, "1")
}

fn waiting(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]["waiting"]
}

/// When a service was started.
fn started(machine: &mut Machine, service: &str) -> Result<String> {
    let path = format!("/unit?name={service}.service");
    let shown = machine.get(PROBE_PORT, &path, BOOT_SECONDS)?;
    let shown = String::from_utf8_lossy(&shown);
    let line = shown.lines().find(|line| line.starts_with("ExecMainStartTimestampMonotonic="));
    Ok(line.context("a service without a start")?.to_owned())
}
