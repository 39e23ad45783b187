//! One node between a network and a disk that fail. The short forms are shown on a node that has
//! survived bad releases, see [`crate::bad_releases`]; in the long form each of the two has a node of
//! its own, and fails in more ways.

mod disk_faults_only_delay;
mod network_faults_only_delay;

use anyhow::Result;
use vm_tests::machine::{Hardware, Machine};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, image, settings};

/// The short forms, on a node that has its first release still: leaves it on `version`.
pub fn only_delay(site: &Site, machine: &mut Machine, version: &str) -> Result<()> {
    site.channel.point(settings::CHANNEL, version, &[])?;
    disk_faults_only_delay::disks_fill_up(site, machine)?;
    network_faults_only_delay::shows(site, machine, version)?;
    disk_faults_only_delay::changes_once_staged(site, machine, version)
}

fn prepare(test: &str) -> Result<()> {
    Site::prepare_versions(test, 2, "0.1.0")
}

fn start(test: &str) -> Result<(Site, Machine)> {
    let site = Site::open(test)?;
    let machine = site.start(&image::test_image()?, &site.settings()?, Hardware::default())?;
    site.access.runs(&machine, "0.1.0", BOOT_SECONDS)?;
    Ok((site, machine))
}
