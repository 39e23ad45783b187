//! Looks at a node from the inside.

fn main() {}
