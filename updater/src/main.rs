//! The `slipwayd` daemon.

fn main() {}
