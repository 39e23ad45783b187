//! PID 1 freezes in userspace; the watchdog ends each of the three tries.

use contract::node::api::Reached;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "hangs",
    build: BadRelease::build_manifest,
    while_it_starts: None,
    reached: Reached::Userspace,
    cause: "after the initrd",
    starts: 3,
};
