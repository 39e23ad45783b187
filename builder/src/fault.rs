//! Whose turn it is after a failure: that decides the exit code.

/// Who can do something about a failed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What the operator gave is wrong (a manifest, a lock, keys, a name): correct it.
    Input,
    /// An input that the lock pins is no longer to be had: lock afresh.
    Gone,
    /// Anything else: disk, network, a damaged cache.
    Other,
}
