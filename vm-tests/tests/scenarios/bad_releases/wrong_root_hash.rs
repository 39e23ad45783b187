//! The command line names a root hash that no block of the slot has.

use contract::node::api::Reached;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "wrong-root-hash",
    build: BadRelease::build_manifest,
    while_it_starts: None,
    reached: Reached::Kernel,
    cause: "3 of 3 tries",
    starts: 3,
};
