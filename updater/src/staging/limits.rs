//! Bounds on what the servers of a blob may cost a node: time, connections, tries.

use std::time::Duration;

/// Bounds on what servers may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Failures in a row, without a piece in between, before a blob is given up. What arrived is
    /// kept, and the node tries the whole again by itself.
    pub failures: u32,
    /// Wait after the first round over all mirrors; it doubles with each round.
    pub first_pause: Duration,
    /// Longest wait between two rounds.
    pub longest_pause: Duration,
    /// Longest time without a byte, also before the first one.
    pub stall: Duration,
    /// Time in which at least [`Limits::window_bytes`] must arrive on a connection.
    pub window: Duration,
    /// See [`Limits::window`]; in bytes.
    pub window_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4,
            failures: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            window: Duration::from_secs(60),
            window_bytes: 32 << 10,
        }
    }
}
