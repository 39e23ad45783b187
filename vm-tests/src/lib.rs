//! Boots images in QEMU and looks at them from outside.
//!
//! A scenario is a file in a room of `tests/scenarios/`, named for what it shows. It runs in a network
//! namespace that holds only loopback ([`isolation`]), on the image of
//! `manifests/images/test.toml` ([`image`]), in a [`machine::Machine`].

pub mod accelerator;
pub mod boots;
pub mod esp;
pub mod hardware;
pub mod image;
pub mod isolation;
pub mod joined;
pub mod listening;
mod lost_timer;
pub mod machine;
pub mod member;
mod published;
pub mod qmp;
pub mod ready;
pub mod report;
pub mod seed;
pub mod serial;
pub mod settings;
pub mod site;

pub use testbed::{artefacts, lock, workspace};

/// Seconds that a boot may take: many times what it does take, because a slow host must
/// not decide a test.
pub const BOOT_SECONDS: u64 = 400;

/// What the journal says when containerd and kubelet are well.
pub const HEALTHY: &str = "slipway: node healthy";

/// What the journal says behind the version of a release that was found good.
pub const BLESSED: &str = " is blessed";

/// Variable that asks for the long form of a scenario, see `make soak`.
pub const LONG: &str = "SLIPWAY_LONG";

/// Is the long form of a scenario wanted?
pub fn is_long() -> bool {
    std::env::var_os(LONG).is_some()
}
