//! `slipway node` and `slipway keys access` as their user meets them: the real program, real
//! certificates, and a node that answers what the test wants.

#![allow(clippy::unwrap_used)]

#[path = "node_api/answers.rs"]
mod answers;
#[path = "node_api/bundles.rs"]
mod bundles;
#[path = "node_api/certificates.rs"]
mod certificates;
#[path = "node_api/following.rs"]
mod following;
#[path = "node_api/served.rs"]
mod served;
