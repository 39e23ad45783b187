//! kubelet is well, and is stopped within the settling time.

use contract::node::api::Reached;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "healthy-for-a-moment",
    build: BadRelease::build_manifest,
    while_it_starts: None,
    reached: Reached::Probe,
    cause: "kubelet",
    starts: 1,
};
