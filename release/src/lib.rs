//! The contract between builder, updater and fleet: the documents that one writes and
//! the other reads, and the names and sizes that both must agree on.
//!
//! Pure types and formats. **Invariant:** no I/O, no clock, no async.

pub mod digest;
pub mod document;
pub mod layout;
pub mod uki_name;
pub mod version;

pub use digest::{Digest, RootHash};
pub use document::{Component, FileDescription, ReleaseDocument, RootDescription};
pub use layout::{Architecture, Slot};
pub use uki_name::UkiName;
pub use version::ReleaseVersion;
