//! What an image holds, before it has a format.
//!
//! In: a manifest's parts and their inputs. Out: trees, audited, and a report of each file.
//! Invariant: nothing enters a tree that no part lists and nothing listed needs.

pub mod audit;
pub mod compose;
pub mod report;
pub mod selinux;
