//! A node whose token the cluster does not know says so, keeps trying, and joins as soon as an
//! operator gives it something better: here a certificate. A dry run tells before that which
//! service that restarts. The first document is of an older schema, as of a node that was prepared
//! for an older release. A support bundle has what explains it, and neither its token nor its key;
//! nor have journal and console, as the node itself tells them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use contract::node::api::{MAX_LOG_LINES, Status};
use serde_json::{Value, json};
use testbed::cluster::{Cluster, NODE, is_ready};
use testbed::node::NodeAccess;
use vm_tests::machine::Machine;
use vm_tests::{BOOT_SECONDS, artefacts};

use super::{NAME, Surrounded};

/// The secret part of a token that the cluster does not know.
const WRONG: &str = "aaaaaaaaaaaaaaaa";

/// Settings of the cluster with a token that it does not know, in the words of an older schema.
pub fn spoil(settings: &mut Value, cluster: &Cluster) {
    settings["schema"] = 1.into();
    settings["kubernetes"] = cluster.settings_of_schema_1(&format!("abcdef.{WRONG}"));
}

/// From power-on with such settings; leaves the node Ready, with good ones.
pub fn shows(node: &mut Surrounded) -> Result<()> {
    let Surrounded { site, cluster, machine, settings, .. } = node;
    let cause = |status: &Status| -> Option<String> {
        let probe = status.health.iter().find(|probe| probe.name == "node-ready")?;
        probe.message.clone()
    };
    let named = |status: &Status| cause(status).is_some_and(|text| text.contains("refuses"));
    let status = site.access.wait_for(machine, "refused", BOOT_SECONDS, named)?;
    println!("{:.0} s: {}", machine.seconds(), cause(&status).context("no cause")?);
    let schema = status.settings.as_ref().map(|settings| settings.schema);
    ensure!(schema == Some(1), "the document is told to be of schema {schema:?}");
    ensure!(cluster.get(&["nodes"])?["items"] == json!([]), "a node has joined");
    let shown = site.access.ask(&["settings", "show"])?.to_string();
    ensure!(!shown.contains(WRONG), "the settings show the token");
    let key = part_of(&settings["api"]["key"])?;
    let folder = artefacts().join(format!("{NAME}-site"));
    explains(&site.access, &folder, &key)?;

    settings["schema"] = contract::node::settings::SCHEMA.into();
    settings["kubernetes"] = cluster.settings_with_certificate()?;
    let file = folder.join("good-token.json");
    fs::write(&file, settings.to_string())?;
    let file = file.display().to_string();
    let planned = site.access.ask(&["settings", "set", "--dry-run", &file])?;
    ensure!(planned["restarts"] == json!(["kubelet.service"]), "{planned}");
    ensure!(planned["changed"] == json!(["kubernetes.bootstrap"]), "{planned}");
    let done = site.access.ask(&["settings", "set", &file])?;
    ensure!(done["restarts"] == planned["restarts"], "{done}");
    cluster.wait_for(machine, &["node", NODE], BOOT_SECONDS, is_ready)?;
    site.access.runs(machine, "0.1.0", BOOT_SECONDS)?;
    println!("{:.0} s: Ready with a certificate, and found good", machine.seconds());
    let own = part_of(&settings["kubernetes"]["bootstrap"]["clientCertificate"]["key"])?;
    nothing_is_told(&site.access, machine, &[WRONG, &key, &own])
}

/// A line that no other private key has.
fn part_of(key: &Value) -> Result<String> {
    let line = key.as_str().context("no key")?.lines().nth(1);
    Ok(line.context("a key of one line")?.to_owned())
}

/// Neither journal nor console, of which nothing was taken out, hold a secret of the settings.
fn nothing_is_told(access: &NodeAccess, machine: &Machine, secrets: &[&str]) -> Result<()> {
    let journal = access.logs(MAX_LOG_LINES)?;
    ensure!(journal.contains("slipway: settings from"), "the journal is {journal}");
    for (place, text) in [("journal", journal), ("console", machine.serial())] {
        for line in text.lines() {
            ensure!(!secrets.iter().any(|part| line.contains(part)), "{place}: a secret in {line}");
        }
    }
    Ok(())
}

/// A reader's bundle has every part, says why the node does not join, and keeps its secrets, of
/// which `key` is a part of the API's.
fn explains(access: &NodeAccess, folder: &Path, key: &str) -> Result<()> {
    let file = folder.join("bundle.tar.gz").display().to_string();
    let said = access.ask_as("reader", &["bundle", "--out", &file])?;
    ensure!(said["missing"] == json!({}), "not all is in there: {said}");
    ensure!(access.ask_as("reader", &["bundle", "--out", &file]).is_err(), "it was overwritten");
    let status = Command::new("tar").arg("-C").arg(folder).args(["-xzf", &file]).status()?;
    ensure!(status.success(), "tar does not read the bundle");
    let bundle = folder.join("slipway-bundle");
    let read = |name: &str| fs::read_to_string(bundle.join(name)).with_context(|| name.to_owned());
    for name in said["files"].as_array().into_iter().flatten().filter_map(|name| name.as_str()) {
        let text = read(name)?;
        for part in [WRONG, key, "PRIVATE KEY"] {
            ensure!(!text.contains(part), "{name} holds {part}");
        }
    }
    ensure!(read("journal/kubelet.log")?.contains("kubelet.service"), "nothing of kubelet");
    ensure!(read("journal/slipwayd.log")?.contains("settings from"), "nothing of slipwayd");
    ensure!(read("status.json")?.contains("refuses"), "the status does not say why");
    ensure!(read("settings.json")?.contains("(redacted)"), "settings without a token");
    print!("{}", read("README.txt")?);
    Ok(())
}
