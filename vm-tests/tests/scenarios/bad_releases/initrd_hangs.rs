//! The initrd waits for nothing, for ever; its limit ends each of the three tries.

use std::path::PathBuf;

use anyhow::Result;
use contract::node::api::Reached;
use vm_tests::image;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "initrd-hangs",
    build,
    while_it_starts: None,
    reached: Reached::Kernel,
    cause: "3 of 3 tries",
    starts: 3,
};

/// With a shorter limit, so that the test takes minutes.
fn build(release: &BadRelease, version: &str, out: PathBuf) -> Result<PathBuf> {
    let timer = "files/initrd/usr/lib/systemd/system/slipway-initrd-limit.timer";
    let (limit, shorter) = ("OnBootSec=10min", "OnBootSec=1min");
    let manifests = image::changed_manifests(release.name, timer, limit, shorter)?;
    let manifest = manifests.join(format!("images/bad/{}.toml", release.name));
    image::build_as(&manifest, &out, Some(version))
}
