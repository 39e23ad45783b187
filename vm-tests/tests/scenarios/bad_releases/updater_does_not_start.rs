//! slipwayd does not start, so nobody judges the boot: the last judge ends each of three.

use contract::node::api::Reached;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "updater-does-not-start",
    build: BadRelease::build_manifest,
    while_it_starts: None,
    reached: Reached::Userspace,
    cause: "after the initrd",
    starts: 3,
};
