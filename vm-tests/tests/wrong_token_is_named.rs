//! A node whose token the cluster does not know says so, keeps trying, and joins as soon as an
//! operator gives it a good one.

use std::fs;

use anyhow::{Context, Result, ensure};
use release::api::Status;
use vm_tests::cluster::{self, Cluster, NODE_ADDRESS, is_ready};
use vm_tests::machine::Hardware;
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, isolation};

const NAME: &str = "wrong_token_is_named";
const NODE: &str = "node-a";

#[test]
fn wrong_token_is_named() {
    let prepare = || {
        cluster::build()?;
        Site::prepare(NAME, |_| Ok(()))
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let cluster = Cluster::start(&artefacts().join(format!("{NAME}-cluster")))?;
    let mut document = site.settings()?;
    document["hostname"] = NODE.into();
    document["kubernetes"] = cluster.settings();
    document["kubernetes"]["bootstrapToken"] = "abcdef.aaaaaaaaaaaaaaaa".into();
    let hardware =
        Hardware { kubelet_address: Some(NODE_ADDRESS.to_owned()), ..Hardware::default() };
    // From the image's own disk: a boot that nobody has found good yet.
    let release = image::test_image()?;
    let settings = Some(vm_tests::settings::text(&document)?);
    let hardware = Hardware { settings, ..hardware };
    let disk = release.join("disk.raw");
    let machine = vm_tests::machine::Machine::start_with(NAME, &disk, hardware)?;

    let cause = |status: &Status| -> Option<String> {
        let probe = status.health.iter().find(|probe| probe.name == "node-ready")?;
        probe.message.clone()
    };
    let named = |status: &Status| cause(status).is_some_and(|text| text.contains("refuses"));
    let status = site.access.wait_for(&machine, "refused", BOOT_SECONDS, named)?;
    println!("{:.0} s: {}", machine.seconds(), cause(&status).context("no cause")?);
    ensure!(cluster.get(&["nodes"])?["items"] == serde_json::json!([]), "a node has joined");
    let shown = site.access.ask(&["settings", "show"])?.to_string();
    ensure!(!shown.contains("aaaaaaaaaaaaaaaa"), "the settings show the token");

    document["kubernetes"] = cluster.settings();
    let file = artefacts().join(format!("{NAME}-site/good.json"));
    fs::write(&file, document.to_string())?;
    site.access.ask(&["settings", "set", &file.display().to_string()])?;
    cluster.wait_for(&machine, &["node", NODE], BOOT_SECONDS, is_ready)?;
    site.access.runs(&machine, "0.1.0", BOOT_SECONDS)?;
    println!("{:.0} s: Ready with a good token, and found good", machine.seconds());
    Ok(())
}
