//! One node: what it is told, and what it answers.

pub mod api;
pub mod settings;
