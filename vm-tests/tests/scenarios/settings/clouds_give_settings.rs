//! A machine in a cloud says that it waits for the cloud's metadata service, takes its settings from
//! its user data by the cloud's own protocol, and keeps them, also when a seed disk with others is
//! put in. Which cloud that is, its firmware says. Amazon EC2 always; in the long form the others, and
//! a machine in no cloud, which asks nobody.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contract::node::api::Status;
use serde_json::json;
use testbed::metadata::{Cloud, MetadataService, USER_DATA};
use testbed::times;
use vm_tests::machine::{HOST, Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, is_long, isolation, ready, seed, settings};

const NAME: &str = "clouds_give_settings";
/// Several times the pause after which slipwayd would ask again.
const QUIET: Duration = Duration::from_secs(30);
/// More than a boot writes.
const JOURNAL_LINES: u32 = 5000;
const PASSWORD: &str = "not-for-anybodys-eyes";

#[test]
fn clouds_give_settings() {
    let prepare = || Site::prepare_versions(NAME, 0, "0.1.0");
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let mut machine = in_cloud(Some(Cloud::AmazonEc2))?;
    machine.wait_for("Amazon EC2's metadata service does not answer", BOOT_SECONDS)?;
    println!("{:.0} s: the machine waits for its cloud", machine.seconds());
    let service = MetadataService::start_for_guests(Cloud::AmazonEc2)?;
    gives_settings(&site, &service, &machine, Cloud::AmazonEc2)?;
    let asked = service.requests();
    let token = "PUT /latest/api/token 200";
    ensure!(asked.first().is_some_and(|first| first == token), "EC2 was asked {asked:?}");
    site.access.ask(&["check"])?;
    nothing_is_told(&site, &machine)?;

    let folder = machine.cut_power()?;
    let seed = Some(seed_disk(&site)?);
    let cloud = Some(Cloud::AmazonEc2);
    let machine = Machine::power_on(&folder, Hardware { cloud, seed, ..Hardware::default() })?;
    has_settings(&site, &machine, "the state partition")?;
    let kept = site.access.ask(&["settings", "show"])?;
    ensure!(kept["hostname"] == hostname(Cloud::AmazonEc2), "settings: {kept}");
    ensure!(service.requests() == asked, "it was asked again: {:?}", service.requests());
    machine.cut_power()?;

    if is_long() {
        for cloud in Cloud::ALL.into_iter().filter(|cloud| *cloud != Cloud::AmazonEc2) {
            service.become_one_of(cloud);
            gives_settings(&site, &service, &in_cloud(Some(cloud))?, cloud)?;
        }
        service.become_one_of(Cloud::OpenStack);
        let mut machine = in_cloud(None)?;
        machine.wait_for("The node has no settings: give them", BOOT_SECONDS)?;
        times::pause(QUIET);
        ensure!(service.requests().is_empty(), "a service was asked: {:?}", service.requests());
    }
    Ok(())
}

/// With other settings, for a machine that has some.
fn seed_disk(site: &Site) -> Result<PathBuf> {
    let mut document = site.settings()?;
    document["hostname"] = "seeded".into();
    let disk = artefacts().join(format!("{NAME}-seed.raw"));
    seed::make(&disk, &settings::text(&document)?)?;
    Ok(disk)
}

/// The name that a cloud's machine is given.
fn hostname(cloud: Cloud) -> String {
    cloud.name().to_lowercase().replace(' ', "-")
}

fn in_cloud(cloud: Option<Cloud>) -> Result<Machine> {
    ready::start(NAME, &image::test_image()?, Hardware { cloud, ..Hardware::default() })
}

/// The machine has the settings that its cloud is given, and the name that they say.
fn gives_settings(
    site: &Site,
    service: &MetadataService,
    machine: &Machine,
    cloud: Cloud,
) -> Result<()> {
    let hostname = hostname(cloud);
    let mut document = site.settings()?;
    document["hostname"] = hostname.as_str().into();
    document["network"] = json!({
        "proxy": {
            "url": format!("http://{HOST}:1"), "user": "node", "password": PASSWORD,
            "except": [HOST],
        },
    });
    let document = settings::text(&document)?;
    let user_data = format!("#slipway-settings\n{document}");
    service.give(USER_DATA, user_data.as_bytes());
    has_settings(site, machine, &format!("{}'s metadata service", cloud.name()))?;
    let named = |status: &Status| status.hostname == hostname;
    site.access.wait_for(machine, &hostname, BOOT_SECONDS, named)?;
    let bytes = user_data.len();
    println!("{:.0} s: {bytes} bytes of user data from {}", machine.seconds(), cloud.name());
    Ok(())
}

fn has_settings(site: &Site, machine: &Machine, source: &str) -> Result<()> {
    let known = |status: &Status| status.settings.is_some();
    let status = site.access.wait_for(machine, "set up", BOOT_SECONDS, known)?;
    let settings = status.settings.context("no settings")?;
    ensure!(settings.source == source, "the settings came from {}", settings.source);
    Ok(())
}

/// Neither console nor journal, status or shown settings hold a secret of the user data.
fn nothing_is_told(site: &Site, machine: &Machine) -> Result<()> {
    let journal = site.access.logs(JOURNAL_LINES)?;
    ensure!(journal.contains("slipway: settings from Amazon EC2"), "the journal is {journal}");
    let mut told = vec![machine.serial(), journal];
    for question in [&["status"][..], &["why"], &["settings", "show"]] {
        told.push(site.access.ask(question)?.to_string());
    }
    for text in told {
        ensure!(!text.contains(PASSWORD) && !text.contains("PRIVATE KEY"), "a secret in {text}");
    }
    Ok(())
}
