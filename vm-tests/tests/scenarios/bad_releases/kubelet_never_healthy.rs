//! kubelet runs, and its health is never there to be asked for.

use contract::node::api::Reached;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "kubelet-never-healthy",
    build: BadRelease::build_manifest,
    while_it_starts: None,
    reached: Reached::Probe,
    cause: "kubelet",
    starts: 1,
};
