//! What an image is made from: packages, and programs that are compiled.
//!
//! In: what the lock pins. Out: files in the cache. Invariant: what comes from a network is
//! believed only after a signature or a digest.

pub mod cache;
pub mod child;
pub mod container_image;
pub mod debian;
pub mod fetch;
pub mod golang;
pub mod workspace;
