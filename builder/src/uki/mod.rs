//! uki
