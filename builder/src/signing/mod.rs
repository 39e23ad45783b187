//! Keys, and what is signed with them.
//!
//! In: key folders. Out: signers, signed boot files and variables. Invariant: no private key
//! appears in an error or a log.

pub mod keys;
pub mod secure_boot;
pub mod signer;
