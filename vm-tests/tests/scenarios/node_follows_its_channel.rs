//! A node finds a new release in its channel by itself, writes it to the other slot, restarts
//! into it and blesses it, while a pod's image stays where it was.

use anyhow::{Result, ensure};
use release::Slot;
use release::api::{Boot, Phase, Status};
use vm_tests::machine::{Hardware, POD_PORT};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, image, isolation};

const NAME: &str = "node_follows_its_channel";

#[test]
fn node_follows_its_channel() {
    let prepare = || Site::prepare_versions(NAME, 1, "0.1.1");
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let old = image::test_image()?;
    let site = Site::open(NAME)?;
    let mut document = site.settings()?;
    document["mode"] = "automatic".into();
    let mut machine = site.start(&old, &document, Hardware::default())?;

    let updated =
        |status: &Status| status.running.boot == Boot::Blessed && status.running.slot == Slot::B;
    let status = site.access.wait_for(&machine, "updated", 2 * BOOT_SECONDS, updated)?;
    println!(
        "{:.0} s: updated and blessed; {} bytes of blobs",
        machine.seconds(),
        site.nginx.bytes_sent("/blobs/")?
    );
    ensure!(status.running.version == "0.1.1".parse().ok(), "status: {status:#?}");
    ensure!(status.running.generation == 2, "status: {status:#?}");
    ensure!(status.phase == Phase::Idle, "status: {status:#?}");
    let ukis = machine.ask("/list?path=/efi/EFI/Linux")?;
    ensure!(
        ukis == serde_json::json!(["slipway-000001-a.efi", "slipway-000002-b.efi"]),
        "UKIs: {ukis}"
    );
    let answer = machine.get(POD_PORT, "/", BOOT_SECONDS)?;
    ensure!(answer == b"pod is up\n", "the pod says {:?}", String::from_utf8_lossy(&answer));
    Ok(())
}
