//! One version of an image: its signed document, how its bytes reach a node, and the names and
//! sizes of what a slot holds.

pub mod digest;
pub mod document;
pub mod layout;
pub mod offer;
pub mod uki_name;
pub mod verity;
pub mod version;
