//! The kernel's random numbers.
//!
//! In: nothing. Out: a number that others cannot know. **Invariant:** it never fails: without
//! random numbers a fleet asks at once, and that is all.

use rustix::rand::{GetRandomFlags, getrandom};

use super::Random;

/// The kernel of this machine.
pub struct KernelRandom;

impl Random for KernelRandom {
    fn chance(&self) -> f64 {
        let mut bytes = [0; 8];
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(_) => u64::from_le_bytes(bytes) as f64 / u64::MAX as f64,
            Err(_) => 0.0,
        }
    }
}
