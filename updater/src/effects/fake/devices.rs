//! Partitions of the fake node: a write is seen at once, and lasts after a sync.

use std::io;

use super::{BLOCK, Dice, Effect, FakeNode, Reading, flip};
use crate::effects::{Area, Slots, TargetSlot};

/// One partition.
pub(super) struct Device {
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl Device {
    pub(super) fn new(bytes: usize) -> Self {
        Self { durable: vec![0; bytes], unsynced: Vec::new() }
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(super) fn install(&mut self, content: &[u8]) {
        self.durable[..content.len()].copy_from_slice(content);
    }

    pub(super) fn flip_bit(&mut self, offset: usize) {
        self.durable[offset] ^= 1;
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(bytes.len()).filter(|end| *end <= self.durable.len());
        if end.is_none() {
            return Err(io::Error::from_raw_os_error(28));
        }
        self.unsynced.push((start, bytes.to_vec()));
        Ok(())
    }

    /// What the device holds; unsynced writes are only in the cache.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let content = start
            .checked_add(buffer.len())
            .and_then(|end| self.durable.get(start..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(content);
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        for (start, bytes) in self.unsynced.drain(..) {
            self.durable[start..start + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// Each block of each unsynced write survives, or does not.
    pub(super) fn lose_power(&mut self, dice: &mut Dice) {
        for (start, bytes) in self.unsynced.drain(..) {
            let mut at = start;
            let end = start + bytes.len();
            while at < end {
                let next = ((at / BLOCK + 1) * BLOCK).min(end);
                if dice.coin() {
                    self.durable[at..next].copy_from_slice(&bytes[at - start..next - start]);
                }
                at = next;
            }
        }
    }
}

impl Slots for FakeNode {
    fn read_booted(&self, area: Area, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut parts = self.parts();
        let lie = parts.begin_reading(Reading::Booted(area))?;
        let booted = parts.booted;
        parts.device(booted, area)?.read(offset, buffer)?;
        lie.into_iter().for_each(|bit| flip(buffer, bit));
        Ok(())
    }

    fn read_target(
        &self,
        target: TargetSlot,
        area: Area,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let mut parts = self.parts();
        let lie = parts.begin_reading(Reading::Target(area))?;
        parts.device(target.slot(), area)?.read(offset, buffer)?;
        lie.into_iter().for_each(|bit| flip(buffer, bit));
        Ok(())
    }

    fn write_target(
        &self,
        target: TargetSlot,
        area: Area,
        offset: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        assert!(offset.is_multiple_of(4096) && bytes.len().is_multiple_of(4096), "whole blocks");
        let effect = Effect::WriteTarget { area, offset, bytes: bytes.len() };
        self.perform(effect, |parts, most| {
            assert_ne!(parts.booted, target.slot(), "a write to the running slot");
            let bytes = parts.falsified(&bytes[..bytes.len().min(most)]);
            parts.device(target.slot(), area)?.write(offset, &bytes)
        })
    }

    fn sync_target(&self, target: TargetSlot) -> io::Result<()> {
        self.perform(Effect::SyncTarget, |parts, _| {
            parts.device(target.slot(), Area::Root)?.sync();
            parts.device(target.slot(), Area::Verity)?.sync();
            Ok(())
        })
    }
}
