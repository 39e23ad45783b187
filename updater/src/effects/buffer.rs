//! Memory that a device reads into and writes from by itself, without a copy.
//!
//! **Invariant:** it begins at a multiple of [`ALIGNMENT`] for as long as it lives; so it cannot be
//! cloned.

use std::ops::{Deref, DerefMut};

/// What O_DIRECT (open(2)) wants of place, length and memory: bytes of a disk's largest block.
pub const ALIGNMENT: usize = 4096;

/// Bytes that begin at a multiple of [`ALIGNMENT`].
#[derive(Default)]
pub struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// Zeros.
    pub fn new(bytes: usize) -> Self {
        let mut buffer = Self::default();
        buffer.resize(bytes);
        buffer
    }

    /// Changes the length; the content is then unspecified.
    pub fn resize(&mut self, bytes: usize) {
        if self.start + bytes > self.memory.len() {
            self.memory = vec![0; bytes + ALIGNMENT];
            // Where the memory lies never changes again, also when the vector is moved.
            self.start = self.memory.as_ptr().align_offset(ALIGNMENT);
        }
        self.length = bytes;
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

/// True for bytes that need no copy on their way to or from this place of a device.
pub fn is_aligned(bytes: &[u8], offset: u64) -> bool {
    bytes.as_ptr().align_offset(ALIGNMENT) == 0
        && bytes.len().is_multiple_of(ALIGNMENT)
        && offset.is_multiple_of(ALIGNMENT as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_of_any_length_is_aligned() {
        let mut buffer = AlignedBuffer::new(3 * ALIGNMENT);
        assert!(is_aligned(&buffer, 0) && buffer.iter().all(|byte| *byte == 0));
        for bytes in [ALIGNMENT, 1, 7 * ALIGNMENT, 0, 2 * ALIGNMENT] {
            buffer.resize(bytes);
            assert_eq!(buffer.len(), bytes);
            buffer.fill(1);
            assert_eq!(is_aligned(&buffer, 8192), bytes != 1);
        }
        assert!(!is_aligned(&buffer, 1) && !is_aligned(&buffer[1..=ALIGNMENT], 0));
    }
}
