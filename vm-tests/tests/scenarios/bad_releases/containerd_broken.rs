//! containerd cannot read its configuration.

use contract::node::api::Reached;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "containerd-broken",
    build: BadRelease::build_manifest,
    while_it_starts: None,
    reached: Reached::Probe,
    cause: "containerd",
    starts: 1,
};
