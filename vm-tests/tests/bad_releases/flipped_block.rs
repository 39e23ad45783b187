//! A good release, of which one block in the slot changes once it is staged.

use std::path::PathBuf;

use anyhow::Result;
use release::api::Reached;
use vm_tests::BOOT_SECONDS;
use vm_tests::image;
use vm_tests::machine::{Machine, PROBE_PORT};
use vm_tests::workspace;

use crate::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "flipped-block",
    build,
    before_start: Some(flip),
    reached: Reached::Kernel,
    cause: "3 of 3 tries",
    starts: 3,
};

/// The superblock of the root file system: the first block that a start reads.
const SUPERBLOCK: u64 = 1024;

fn build(_: &BadRelease, version: &str, out: PathBuf) -> Result<PathBuf> {
    image::build_as(&workspace().join("manifests/images/test.toml"), &out, Some(version))
}

fn flip(machine: &mut Machine) -> Result<()> {
    let path = "/dev/disk/by-partlabel/root-b";
    machine.get(PROBE_PORT, &format!("/flip?path={path}&offset={SUPERBLOCK}"), BOOT_SECONDS)?;
    Ok(())
}
