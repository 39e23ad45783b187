//! A good release, of which one block in the slot changes once it is staged, verified and
//! armed.

use std::path::PathBuf;

use anyhow::Result;
use contract::node::api::Reached;
use vm_tests::image;
use vm_tests::machine::Machine;
use vm_tests::workspace;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "flipped-block",
    build,
    while_it_starts: Some(spoil),
    reached: Reached::Kernel,
    cause: "3 of 3 tries",
    starts: 3,
};

/// The superblock of the root file system: the first block that a start reads.
const SUPERBLOCK: u64 = 1024;

fn build(_: &BadRelease, version: &str, out: PathBuf) -> Result<PathBuf> {
    image::build_as(&workspace().join("manifests/images/test.toml"), &out, Some(version))
}

fn spoil(machine: &Machine, root: u64) -> Result<()> {
    machine.spoil(root + SUPERBLOCK)
}
