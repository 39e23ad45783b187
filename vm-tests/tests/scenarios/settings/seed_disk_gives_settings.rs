//! A node takes its settings from a seed disk at its first boot with one and joins the cluster that
//! they name, keeps them without the disk, and does not look at another one later.

use anyhow::{Context, Result, ensure};
use contract::node::api::Status;
use testbed::cluster::{self, Cluster, is_ready};
use vm_tests::machine::{Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, isolation, ready, seed, settings};

const NAME: &str = "seed_disk_gives_settings";

#[test]
#[ignore = "three boots: run `make soak`"]
fn seed_disk_gives_settings() {
    let prepare = || {
        cluster::build()?;
        Site::prepare_versions(NAME, 0, "0.1.0")
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let cluster = Cluster::start(&artefacts().join(format!("{NAME}-cluster")))?;
    let seeded = |name: &str| -> Result<Hardware> {
        let mut document = site.settings()?;
        document["hostname"] = name.into();
        document["kubernetes"] = cluster.settings();
        let disk = artefacts().join(format!("{NAME}-{name}.raw"));
        seed::make(&disk, &settings::text(&document)?)?;
        Ok(Hardware { seed: Some(disk), ..Hardware::default() })
    };
    let release = image::test_image()?;
    let machine = ready::start(NAME, &release, seeded("first")?)?;
    has_settings(&site, &machine, "the seed disk")?;
    site.access.ask(&["check"])?;
    cluster.wait_for(&machine, &["node", "first"], BOOT_SECONDS, is_ready)?;
    println!("{:.0} s: Ready", machine.seconds());

    // Without the disk, and then with another one.
    let folder = machine.cut_power()?;
    for hardware in [Hardware::default(), seeded("second")?] {
        let machine = Machine::power_on(&folder, hardware)?;
        has_settings(&site, &machine, "the state partition")?;
        let kept = site.access.ask(&["settings", "show"])?;
        ensure!(kept["hostname"] == "first", "settings: {kept}");
        ensure!(!kept.to_string().contains("PRIVATE KEY"), "a secret is shown");
        machine.cut_power()?;
    }
    Ok(())
}

fn has_settings(site: &Site, machine: &Machine, source: &str) -> Result<()> {
    let known = |status: &Status| status.settings.is_some();
    let status = site.access.wait_for(machine, "set up", BOOT_SECONDS, known)?;
    let settings = status.settings.context("no settings")?;
    ensure!(settings.source == source, "the settings came from {}", settings.source);
    Ok(())
}
