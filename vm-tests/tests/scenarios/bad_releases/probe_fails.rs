//! All is well but for a probe of the settings.

use contract::node::api::Reached;

use super::chain::BadRelease;

pub const RELEASE: BadRelease = BadRelease {
    name: "probe-fails",
    build: BadRelease::build_manifest,
    while_it_starts: None,
    reached: Reached::Probe,
    cause: "test-probe",
    starts: 1,
};
