//! A release whose UKIs are signed with a Secure Boot key that the node's firmware does not know,
//! as after a key rotation, is refused before it is armed: the firmware would refuse it, and the
//! node end in the firmware's menu. The node says why, runs on, also after a restart, and takes a
//! good release after.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use contract::Slot;
use contract::node::api::{Boot, Phase, Status};
use serde_json::Value;
use testbed::channel::Channel;
use testbed::slipway::DEVELOPMENT_KEYS;
use vm_tests::machine::{Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, isolation, settings, workspace};

const NAME: &str = "uki_of_another_key_is_not_armed";
/// Built by the builder, with a `db` key of its own and the channel's other keys.
const STRANGE: &str = "0.1.1";
/// Version of the good release is 0.1.2.
const GOOD: u32 = 2;
/// What the node must say of the strange one.
const WORDS: [&str; 4] = [
    "the release cannot be staged",
    "the firmware would refuse its UKI",
    "signed by CN=Slipway db",
    "enrol the new certificate",
];
/// Keys that publish, which the channel knows.
const PUBLISHING: [&str; 3] = ["release", "snapshot", "timestamp"];
/// What the kernel says first.
const STARTED: &str = "Linux version";

#[test]
#[ignore = "takes three minutes: run `make soak`"]
fn uki_of_another_key_is_not_armed() {
    isolation::prepared(NAME, prepare, scenario);
}

/// Publishes both, and points the channel at the strange one. The keys are somebody's who made new
/// ones for Secure Boot, and enrolled them nowhere.
fn prepare() -> Result<()> {
    let keys = artefacts().join(format!("{NAME}-keys"));
    if keys.exists() {
        fs::remove_dir_all(&keys)?;
    }
    Site::prepare(NAME, |channel| {
        Channel::make_keys(&keys)?;
        let own = workspace().join(DEVELOPMENT_KEYS);
        for name in PUBLISHING {
            for file in [format!("{name}.key"), format!("{name}.pub")] {
                fs::copy(own.join(&file), keys.join(&file)).with_context(|| file)?;
            }
        }
        // A channel of development keys takes no others.
        fs::copy(own.join("DEVELOPMENT"), keys.join("DEVELOPMENT"))?;
        let manifest = workspace().join("manifests/images/test.toml");
        let out = artefacts().join(format!("{NAME}-release"));
        let strange = image::build_with(&manifest, &out, Some(STRANGE), &keys)?;
        // Whoever has the `db` of the fleet at hand cannot even publish it.
        ensure!(channel.publish(&strange).is_err(), "it is published with another db.pem");
        channel.with_keys(&keys).publish(&strange)?;
        fs::remove_dir_all(out)?;
        channel.publish(&image::newer(GOOD)?)?;
        channel.point(settings::CHANNEL, STRANGE, &[])
    })
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let mut machine = site.start(&image::test_image()?, &site.settings()?, Hardware::default())?;
    let up = |status: &Status| status.running.boot == Boot::Blessed;
    site.access.wait_for(&machine, "up", BOOT_SECONDS, up)?;
    // From the variables of the ready disk, which has the keys enrolled.
    let facts = machine.ask("/facts")?;
    ensure!(facts["secure_boot"] == true, "Secure Boot is {}", facts["secure_boot"]);

    is_refused(&site, &mut machine)?;
    // What was refused is in nobody's way at a restart.
    restart(&site, &mut machine, &facts["boot_id"])?;
    is_refused(&site, &mut machine)?;

    let good = format!("0.1.{GOOD}");
    site.channel.point(settings::CHANNEL, &good, &[])?;
    site.access.update();
    let status = site.access.runs(&machine, &good, 2 * BOOT_SECONDS)?;
    println!("{:.0} s: {good} runs", machine.seconds());
    ensure!(status.running.slot == Slot::B, "it runs {:?}", status.running);
    ensure!(status.problem.is_none(), "problem: {:?}", status.problem);
    ensure!(status.fallback.is_none(), "fallback: {:?}", status.fallback);
    Ok(())
}

/// Asks for the update, and waits until the node says why there is none.
fn is_refused(site: &Site, machine: &mut Machine) -> Result<()> {
    let starts = starts(machine);
    site.access.update();
    let told = |status: &Status| {
        let message = status.problem.as_ref().map(|problem| problem.message.as_str());
        let told = message.is_some_and(|text| WORDS.iter().all(|words| text.contains(words)));
        told && status.phase == Phase::Idle
    };
    let status = site.access.wait_for(machine, "refused", BOOT_SECONDS, told)?;
    let Some(problem) = &status.problem else { bail!("no problem: {status:#?}") };
    println!("{:.0} s: {}", machine.seconds(), problem.message);
    // Keys that follow one another may have one name, so each is told by its digest too.
    ensure!(problem.message.matches("(SHA-256 ").count() == 2, "problem: {}", problem.message);
    ensure!(status.running.version == "0.1.0".parse().ok(), "it runs {:?}", status.running);
    ensure!(status.running.boot == Boot::Blessed, "it runs {:?}", status.running);
    ensure!(status.running.generation == 1, "it runs {:?}", status.running);
    ensure!(status.refused.is_empty(), "it may be tried again: {:?}", status.refused);
    // The loader finds one UKI only, and the machine was not even restarted.
    let ukis = machine.ask("/list?path=/efi/EFI/Linux")?;
    let is_first = |name: &&str| name.starts_with("slipway-000001-a");
    let startable = startable(&ukis);
    ensure!(startable.len() == 1 && startable.iter().all(is_first), "UKIs: {ukis}");
    ensure!(self::starts(machine) == starts, "it restarted\n{}", machine.tail());
    Ok(())
}

/// Names that the loader takes for entries.
fn startable(names: &Value) -> Vec<&str> {
    let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
    names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "efi")).collect()
}

/// Presses the reset button, and waits until the old release is up again.
fn restart(site: &Site, machine: &mut Machine, before: &Value) -> Result<()> {
    machine.listen_from_now()?;
    machine.reset()?;
    machine.wait_for(STARTED, BOOT_SECONDS)?;
    let up = |status: &Status| status.running.boot == Boot::Blessed;
    site.access.wait_for(machine, "back", BOOT_SECONDS, up)?;
    let facts = machine.ask("/facts")?;
    ensure!(facts["boot_id"] != *before, "it did not restart");
    Ok(())
}

fn starts(machine: &Machine) -> usize {
    machine.serial().matches(STARTED).count()
}
