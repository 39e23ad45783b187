//! The bytes of an image: file systems, hash trees, boot files, disks.
//!
//! In: a tree, or the bytes of another format. Out: bytes; and readers where `inspect` and
//! `verify` need them. Invariant: the same input gives the same bytes.

pub mod disk;
pub mod erofs;
pub mod initrd;
pub mod tree;
pub mod uki;
pub mod verity;
