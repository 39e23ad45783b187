//! What the root starts as PID 1 ends at once, and the kernel panics.

use contract::node::api::Reached;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "pid-1-dies",
    build: BadRelease::build_manifest,
    while_it_starts: None,
    reached: Reached::Userspace,
    cause: "after the initrd",
    starts: 3,
};
