//! `slipwayd`: what runs on a node.
//!
//! In: signed documents of a channel, and the settings of the node. Out: a verified release
//! in the other slot, a boot that is judged, and answers to operators. **Invariant:** the
//! running slot is never written.

pub mod api;
pub mod channel;
pub mod cluster;
pub mod console;
pub mod daemon;
pub mod drift;
pub mod effects;
pub mod grpc;
pub mod http;
pub mod import;
pub mod metrics;
pub mod oci_layout;
pub mod pod_network;
pub mod policy;
pub mod secure_boot;
pub mod settings;
pub mod staging;
pub mod update;
pub mod verdict;
