//! The kernel finds nothing to start in its initrd, and panics.

use contract::node::api::Reached;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "kernel-panics",
    build: BadRelease::build_manifest,
    while_it_starts: None,
    reached: Reached::Kernel,
    cause: "3 of 3 tries",
    starts: 3,
};
