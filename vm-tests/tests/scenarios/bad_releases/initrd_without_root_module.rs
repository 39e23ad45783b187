//! The initrd lacks the module of the root file system.

use std::path::PathBuf;

use anyhow::Result;
use contract::node::api::Reached;
use vm_tests::image;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "initrd-without-root-module",
    build,
    while_it_starts: None,
    reached: Reached::Kernel,
    cause: "3 of 3 tries",
    starts: 3,
};

/// An extending manifest can only add to the initrd.
fn build(release: &BadRelease, version: &str, out: PathBuf) -> Result<PathBuf> {
    let (all, rest) = ("\"erofs\", \"loop\"", "\"loop\"");
    let manifests = image::changed_manifests(release.name, "images/node.toml", all, rest)?;
    image::build_as(&manifests.join("images/test.toml"), &out, Some(version))
}
