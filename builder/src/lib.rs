//! `slipway`: from a manifest to a signed disk image.
//!
//! The flow is `Manifest → Lock → parts → Tree → image → release`; each stage takes one
//! type and returns the next.

pub mod audit;
pub mod build;
pub mod cache;
pub mod channel;
pub mod child;
pub mod cli;
pub mod compose;
pub mod container_image;
pub mod debian;
pub mod disk;
pub mod erofs;
pub mod fetch;
pub mod golang;
pub mod initrd;
pub mod keys;
pub mod lock;
pub mod manifest;
pub mod node;
pub mod progress;
pub mod report;
pub mod secure_boot;
pub mod tree;
pub mod uki;
pub mod verity;
pub mod workspace;
