//! `make demo`: builds the demo image, boots it, waits until its pod answers, and says what
//! happened in words for someone who sees Slipway for the first time.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use release::ReleaseDocument;
use vm_tests::machine::{Machine, POD_PORT};
use vm_tests::{BOOT_SECONDS, HEALTHY, image, isolation};

/// Set in the process that runs without a network.
const ISOLATED: &str = "SLIPWAY_DEMO_ISOLATED";

fn main() -> Result<()> {
    if let Some(release) = std::env::var_os(ISOLATED) {
        return boot(Path::new(&release));
    }
    println!(
        "1. Building the image (kubelet, containerd and friends; minutes at first, then seconds)"
    );
    let release = image::build("demo")?.canonicalize()?;
    let status = isolation::namespace()
        .arg(std::env::current_exe()?)
        .env(ISOLATED, &release)
        .status()
        .context("cannot run `unshare`: run setup/install-dependencies")?;
    ensure!(status.success(), "the demo failed; its own message is above");
    Ok(())
}

fn boot(release: &Path) -> Result<()> {
    let document = ReleaseDocument::from_json(&fs::read(release.join("release.json"))?)?;
    println!("\n2. Booting it in QEMU, in a network of its own that has no way out");
    let mut machine = Machine::start("demo", &release.join("disk.raw"))?;
    machine.wait_for("Custom Secure Boot keys successfully enrolled", BOOT_SECONDS)?;
    println!(
        "   {:>4.0} s  the firmware took the image's Secure Boot keys and restarts",
        machine.seconds()
    );
    machine.wait_for("UEFI Secure Boot is enabled", BOOT_SECONDS)?;
    println!("   {:>4.0} s  the signed kernel starts; Secure Boot is on", machine.seconds());
    machine.wait_for("Started containerd", BOOT_SECONDS)?;
    println!("   {:>4.0} s  the verified root is up, containerd runs", machine.seconds());
    machine.wait_for(HEALTHY, BOOT_SECONDS)?;
    println!("   {:>4.0} s  kubelet is healthy", machine.seconds());
    let answer = machine.get(POD_PORT, "/", BOOT_SECONDS)?;
    let answer = String::from_utf8_lossy(&answer).trim().to_owned();
    println!("   {:>4.0} s  the pod answers: \"{answer}\"", machine.seconds());
    ensure!(answer == "pod is up", "the pod should say \"pod is up\"");
    let folder = machine.cut_power()?;
    print_summary(&document, release, &folder);
    Ok(())
}

fn print_summary(document: &ReleaseDocument, release: &Path, folder: &Path) {
    let version = |name: &str| {
        let found = document.components.iter().find(|component| component.name == name);
        found.map_or("?", |component| component.version.as_str())
    };
    println!(
        "\nWhat you saw\n\
         * An image of {} MiB with Linux {}, containerd {} and kubelet {}.\n\
         * It has no shell, no package manager and no way to log in; its root cannot be written.\n\
         * Every block of the root is checked against the hash {}…,\n  \
           which is part of the signed kernel image.\n\
         * The pod came from the image itself: nothing was downloaded by the node.\n\
         \n\
         Where it is\n\
         * the release: {}\n\
         * the machine's disk and console: {}\n\
         \n\
         What next\n\
         * ./target/debug/slipway report  {}   # every file, and why it is there\n\
         * ./target/debug/slipway verify  {}   # signatures, root hash, digests\n\
         * manifests/images/node.toml holds all that an image is made of",
        document.root.bytes >> 20,
        version("linux"),
        version("github.com/containerd/containerd/v2"),
        version("k8s.io/kubernetes"),
        &document.root.root_hash.to_string()[..16],
        release.display(),
        folder.display(),
        release.display(),
        release.display(),
    );
}
