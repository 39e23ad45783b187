//! What a wait says of the machine that it waits for.

/// A machine whose console can be read.
pub trait Console {
    /// Seconds since power-on.
    fn seconds(&self) -> f64;

    /// The console's last lines, and where the rest is.
    fn tail(&self) -> String;
}
