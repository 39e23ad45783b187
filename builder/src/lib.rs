//! `slipway`: from a manifest to a signed disk image.
//!
//! The flow is `Manifest → Lock → parts → Tree → image → release`; each stage takes one
//! type and returns the next.

pub mod assemble;
pub mod channel;
pub mod cli;
pub mod fault;
pub mod formats;
pub mod image;
pub mod inputs;
pub mod lock;
pub mod manifest;
pub mod node;
pub mod progress;
pub mod signing;
