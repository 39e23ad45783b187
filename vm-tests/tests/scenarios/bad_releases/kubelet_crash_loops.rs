//! kubelet does not know a flag that it is started with, each time anew.

use contract::node::api::Reached;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "kubelet-crash-loops",
    build: BadRelease::build_manifest,
    while_it_starts: None,
    reached: Reached::Probe,
    cause: "kubelet",
    starts: 1,
};
