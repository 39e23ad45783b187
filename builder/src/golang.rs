//! Go programs.
