//! A network add-on, which does on a node what flannel does: a container of a DaemonSet copies a
//! plugin and a configuration to the node, and the plugin leaves the work to `bridge`.

use std::env;
use std::fs;
use std::io::{Error, Result, Write, stdin};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// Name of the plugin.
const PLUGIN: &str = "test-network";
/// Its configuration. It sorts where flannel's does.
const CONFIGURATION: &str = "10-test-network.conflist";
/// Where its pods are.
const SUBNET: &str = "10.99.0.0/24";

/// Installs plugin and configuration on the node whose root is `folder`, and stays.
pub fn install(folder: &str) -> Result<()> {
    let place = |name: &str, file: &str| Path::new(folder).join(name).join(file);
    // As flannel: nobody sees half a file.
    let plugin = place("opt/cni/bin", PLUGIN);
    fs::copy(env::current_exe()?, plugin.with_extension("new"))?;
    fs::rename(plugin.with_extension("new"), &plugin)?;
    let list = json!({
        "cniVersion": "1.0.0",
        "name": PLUGIN,
        "plugins": [
            { "type": PLUGIN },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    let configuration = place("etc/cni/net.d", CONFIGURATION);
    fs::write(configuration.with_extension("new"), list.to_string())?;
    fs::rename(configuration.with_extension("new"), &configuration)?;
    println!("probe: the network is installed");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// A call by the container runtime: `bridge` gets it, with a configuration of its own.
pub fn plugin() -> Result<()> {
    let mut configuration: Value = serde_json::from_reader(stdin())?;
    configuration["type"] = json!("bridge");
    configuration["bridge"] = json!("cni1");
    configuration["isGateway"] = json!(true);
    configuration["ipMasq"] = json!(true);
    configuration["ipam"] = json!({
        "type": "host-local",
        "ranges": [[{ "subnet": SUBNET }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let mut bridge = Command::new("/opt/cni/bin/bridge").stdin(Stdio::piped()).spawn()?;
    let input = bridge.stdin.take();
    input
        .ok_or_else(|| Error::other("no input"))?
        .write_all(configuration.to_string().as_bytes())?;
    // What it says went to our output, where the runtime reads it.
    match bridge.wait()?.success() {
        true => Ok(()),
        false => Err(Error::other("bridge failed")),
    }
}
