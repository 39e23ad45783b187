//! A node whose clock lags by years, with settings from its machine that it must refuse: the ESP is
//! mounted, the initrd has left its trace, the settings are a credential, the console says what is
//! wrong with them, a watchdog is fed, the clock shows at least the image's time, and a web server on
//! the host's loopback can be reached.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::nginx::{self, Nginx};
use vm_tests::BOOT_SECONDS;
use vm_tests::machine::{HOST, Hardware, Machine, PROBE_PORT};

const SETTINGS: &str = "/run/slipway-credential/slipway.settings";
/// What the console says of them, and what is wrong.
const REFUSED: &str = "the settings from the credential slipway.settings are refused";
const WRONG: &str = "unknown field `text`";
const TRACE: &str = "/var/lib/slipway/boot/initrd";

/// As long as real settings with certificates and a root of trust are.
fn settings() -> String {
    format!("{{\"schema\":1,\"text\":\"{}\"}}", "x".repeat(30_000))
}

pub fn hardware() -> Hardware {
    Hardware {
        settings: Some(settings()),
        clock: Some("2001-02-03T04:05:06".into()),
        watchdog: true,
        ..Hardware::default()
    }
}

/// In the second boot of a disk.
pub fn shows(machine: &mut Machine) -> Result<()> {
    machine.wait_for(REFUSED, BOOT_SECONDS)?;
    machine.wait_for(WRONG, BOOT_SECONDS)?;
    let facts = machine.ask("/facts")?;

    let mounts = facts["mounts"].as_str().unwrap_or_default();
    let esp = mounts.lines().find(|line| line.contains(" /efi vfat rw,nosuid,nodev,noexec"));
    ensure!(esp.is_some(), "the ESP is not mounted:\n{mounts}");
    let found = machine.ask("/list?path=/efi/EFI/Linux")?;
    let names = found.as_array().context("the ESP has no folder of UKIs")?;
    let mut ukis = names.iter().filter_map(Value::as_str).filter(|name| name.ends_with(".efi"));
    let first = ukis.next().context("the ESP has no UKI")?;
    ensure!(first.starts_with("slipway-000001-a") && ukis.next().is_none(), "UKIs: {found}");

    let trace = text(machine, &format!("/read?path={TRACE}"))?;
    let boot_id = facts["boot_id"].as_str().unwrap_or_default().replace('-', "");
    ensure!(trace.lines().count() == 2, "two boots left this trace:\n{trace}");
    ensure!(trace.lines().last() == Some(&*boot_id), "{boot_id} is not the last of:\n{trace}");

    ensure!(text(machine, &format!("/read?path={SETTINGS}"))? == settings(), "other settings");
    let watchdogs = machine.ask("/watchdogs")?;
    ensure!(watchdogs["watchdog0"]["identity"] == "i6300ESB timer", "watchdogs: {watchdogs}");
    ensure!(watchdogs["watchdog0"]["state"] == "active", "watchdogs: {watchdogs}");

    let image_time = facts["image_seconds"].as_u64().context("no time of the image")?;
    let now = facts["clock_seconds"].as_u64().context("no clock")?;
    ensure!(image_time > 1_700_000_000, "the image was made at {image_time}");
    ensure!(now >= image_time, "the clock says {now}, the image is of {image_time}");

    reaches_the_host(machine)
}

fn reaches_the_host(machine: &mut Machine) -> Result<()> {
    let web = machine.folder().join("web");
    std::fs::create_dir_all(&web)?;
    std::fs::write(web.join("hello"), "from nginx")?;
    let nginx = Nginx::serve(&machine.folder().join("nginx"), &web, nginx::PORT)?;
    let answer = text(machine, &format!("/fetch?address={HOST}:{}&path=/hello", nginx::PORT))?;
    ensure!(answer.ends_with("\r\n\r\nfrom nginx"), "nginx answers {answer}");
    ensure!(nginx.bytes_sent("/hello")? == 10, "the log says {:?}", nginx.requests()?);
    Ok(())
}

fn text(machine: &mut Machine, path: &str) -> Result<String> {
    Ok(String::from_utf8(machine.get(PROBE_PORT, path, BOOT_SECONDS)?)?)
}
