//! A node that has seen its channel believes none of the channels that somebody else could
//! make of it, before and after a restart, and says what is wrong, also when an old channel is the
//! first that it meets after one; then it stages what the honest one offers over several new roots.

mod forged;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use contract::node::api::{Phase, Rule, Status};
use forged::{ATTACKS, Attack, Forger};
use testbed::channel::Channel;
use vm_tests::machine::{Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, is_long, isolation, settings, workspace};

const NAME: &str = "hostile_channels_are_refused";
/// So many of [`ATTACKS`] are made where the long form makes all.
const SHORT: usize = 2;
/// What a channel folder has beside its blobs.
const DOCUMENTS: [&str; 2] = ["metadata", "targets"];

#[test]
fn hostile_channels_are_refused() {
    isolation::prepared(NAME, prepare, scenario);
}

/// Makes the channel, and keeps its earlier state.
fn prepare() -> Result<()> {
    Site::prepare(NAME, |channel| {
        channel.publish(&image::newer(1)?)?;
        channel.point(settings::CHANNEL, "0.1.1", &[])?;
        let all = folder();
        if all.exists() {
            fs::remove_dir_all(&all)?;
        }
        copy_documents(channel.folder(), &all.join("past"))?;
        // The release managers think better of it, so the past is what an attacker wants.
        channel.point(settings::CHANNEL, "0.1.0", &[])?;
        channel.refresh(&[])?;
        let strangers = all.join("strangers");
        Channel::make_keys(&strangers)?;
        // A channel of development keys takes no others.
        fs::copy(workspace().join("keys/dev/DEVELOPMENT"), strangers.join("DEVELOPMENT"))?;
        Ok(())
    })
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let mut machine = site.start(&image::test_image()?, &site.settings()?, Hardware::default())?;
    site.access.wait_for(&machine, "up", BOOT_SECONDS, |_| true)?;
    site.access.ask(&["check"])?;
    // The client's own tests make all of these attacks; here the node that is built makes some.
    let attacks = if is_long() { &ATTACKS[..] } else { &ATTACKS[..SHORT] };
    are_refused(&site, attacks)?;

    // What it knows of newer documents must have outlived the restart.
    let (served, honest) = (site.channel.folder(), folder().join("honest"));
    replace_documents(served, &honest)?;
    replace_documents(&folder().join("past"), served)?;
    let before = machine.ask("/facts")?["boot_id"].clone();
    machine.reset()?;
    restarted(&site, &mut machine, &before)?;
    is_refused(&site, "(rollback)").context("the past, first after a restart")?;
    replace_documents(&honest, served)?;
    are_refused(&site, if is_long() { &ATTACKS } else { &[] })?;

    // Three new roots at once, the last with another key, and the release that all agree on.
    let strangers = folder().join("strangers");
    site.channel.rotate(&[])?;
    site.channel.rotate(&[])?;
    site.channel.rotate(&["--role", "root-1", "--new", &strangers.display().to_string()])?;
    site.channel.point(settings::CHANNEL, "0.1.1", &[])?;
    site.access.ask(&["stage"])?;
    let staged =
        |status: &Status| status.phase == Phase::Staged && status.target == "0.1.1".parse().ok();
    site.access.wait_for(&machine, "staged", 2 * BOOT_SECONDS, staged)?;
    Ok(())
}

/// Waits until the node is back from a restart.
fn restarted(site: &Site, machine: &mut Machine, before: &serde_json::Value) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(BOOT_SECONDS);
    while machine.ask("/facts")?["boot_id"] == *before {
        ensure!(Instant::now() < until, "it did not restart\n{}", machine.tail());
        sleep(Duration::from_secs(1));
    }
    let idle = |status: &Status| status.phase == Phase::Idle;
    site.access.wait_for(machine, "back", BOOT_SECONDS, idle)?;
    Ok(())
}

/// Makes each attack of the honest channel as it is, serves it to the node, and serves the
/// honest one again.
fn are_refused(site: &Site, attacks: &[Attack]) -> Result<()> {
    let (served, all) = (site.channel.folder(), folder());
    let (honest, past, strangers) = (all.join("honest"), all.join("past"), all.join("strangers"));
    for (name, forge, word) in attacks {
        replace_documents(served, &honest)?;
        forge(&Forger::open(served, &past, &strangers)?)?;
        is_refused(site, word).with_context(|| (*name).to_owned())?;
        replace_documents(&honest, served)?;
        // Some attacks have true signatures of the next version, and the node remembers it.
        site.channel.refresh(&[])?;
        site.channel.refresh(&[])?;
        site.access.ask(&["check"]).with_context(|| format!("after {name}"))?;
        let status = site.access.status()?;
        ensure!(!is_held(&status), "the honest channel is refused: {:?}", status.holds);
    }
    Ok(())
}

fn is_refused(site: &Site, word: &str) -> Result<()> {
    let refusal = site.access.ask(&["update"]).err().context("the node believes it")?;
    let refusal = format!("{refusal:#}");
    println!("{refusal}");
    ensure!(refusal.contains(word), "the node says {refusal}");
    let status = site.access.status()?;
    ensure!(is_held(&status), "holds: {:?}", status.holds);
    ensure!(status.phase == Phase::Idle, "phase {}", status.phase);
    ensure!(status.running.generation == 1, "it runs {:?}", status.running);
    ensure!(site.nginx.bytes_sent("/blobs/")? == 0, "the node fetched a release");
    Ok(())
}

fn is_held(status: &Status) -> bool {
    status.holds.iter().any(|hold| hold.rule == Rule::Channel)
}

fn folder() -> PathBuf {
    artefacts().join(format!("{NAME}-documents"))
}

/// Puts the documents of a channel in the place of others.
fn replace_documents(from: &Path, to: &Path) -> Result<()> {
    for folder in DOCUMENTS.map(|name| to.join(name)) {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    copy_documents(from, to)
}

/// Copies documents and the initial root.
fn copy_documents(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let names = DOCUMENTS.into_iter().chain(["root.json"]);
    let status =
        Command::new("cp").arg("-r").args(names.map(|name| from.join(name))).arg(to).status()?;
    ensure!(status.success(), "cannot copy the documents: check that the disk is not full");
    Ok(())
}
