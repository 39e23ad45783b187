//! `slipwayd`: what runs on a node.
//!
//! In: signed documents of a channel, and the settings of the node. Out: a verified release
//! in the other slot, a boot that is judged, and answers to operators. **Invariant:** the
//! running slot is never written.

pub mod api;
pub mod channel;
pub mod cluster;
pub mod conductor;
pub mod console;
pub mod daemon;
pub mod drift;
pub mod effects;
pub mod grpc;
pub mod import;
pub mod metrics;
pub mod oci_layout;
mod planted;
pub mod pod_network;
pub mod policy;
pub mod secure_boot;
pub mod settings;
#[cfg(test)]
mod sim;
pub mod staging;
pub mod update;
pub mod verdict;

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = text + ": " + &next;
        }
        cause = error.source();
    }
    text
}
