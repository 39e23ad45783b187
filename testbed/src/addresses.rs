//! Addresses that a node and what surrounds it agree on.

/// The host's loopback, as a guest sees it.
pub const HOST: &str = "10.0.2.2";
/// Port of the test probe, in the guest and on loopback.
pub const PROBE_PORT: u16 = 9100;
/// Port of the test pod, in the guest and on loopback.
pub const POD_PORT: u16 = 8080;
/// Port of the node's API, in the guest and on loopback.
pub const API_PORT: u16 = 7443;
/// Port of kubelet, for those who ask it for logs.
pub const KUBELET_PORT: u16 = 10250;
