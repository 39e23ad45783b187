//! systemd waits for a service before it starts slipwayd: the last judge ends each of three tries.

use contract::node::api::Reached;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "root-hangs",
    build: BadRelease::build_manifest,
    while_it_starts: None,
    reached: Reached::Userspace,
    cause: "after the initrd",
    starts: 3,
};
