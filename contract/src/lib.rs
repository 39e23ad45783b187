//! The contract between builder, updater and fleet: the documents that one writes and
//! the other reads, and the names and sizes that both must agree on.
//!
//! Pure types and formats. **Invariant:** no I/O, no clock, no async.

pub mod channel;
pub mod head;
pub mod node;
pub mod release;

pub use channel::ChannelDocument;
pub use channel::group::NodeGroup;
pub use channel::names::{ChannelName, GroupName};
pub use node::settings::Settings;
pub use release::digest::{Digest, RootHash};
pub use release::document::{Component, FileDescription, ReleaseDocument, RootDescription};
pub use release::layout::{Architecture, Slot};
pub use release::offer::Offer;
pub use release::uki_name::UkiName;
pub use release::version::ReleaseVersion;
