//! The contract between builder, updater and fleet: the documents that one writes and
//! the other reads, and the names and sizes that both must agree on.
//!
//! Pure types and formats. **Invariant:** no I/O, no clock, no async.

pub mod api;
pub mod channel;
pub mod digest;
pub mod document;
pub mod group;
pub mod layout;
pub mod names;
pub mod offer;
pub mod settings;
pub mod targets;
pub mod uki_name;
pub mod verity;
pub mod version;
pub mod waves;
pub mod window;

pub use channel::ChannelDocument;
pub use digest::{Digest, RootHash};
pub use document::{Component, FileDescription, ReleaseDocument, RootDescription};
pub use group::NodeGroup;
pub use layout::{Architecture, Slot};
pub use names::{ChannelName, GroupName};
pub use offer::Offer;
pub use settings::Settings;
pub use uki_name::UkiName;
pub use version::ReleaseVersion;
