//! Where the bytes of a part go: the root partition of the target slot, or the temporary file
//! on the EFI system partition. And where the same part of the running system is.

use std::io;

use contract::UkiName;

use super::error::{DeviceError, Part, ReadBack};
use crate::effects::{Area, Effects, TargetSlot};
use crate::planted::{Planted, is_planted};

/// The place that one part is written to.
#[derive(Clone)]
pub struct Destination {
    effects: Effects,
    target: TargetSlot,
    part: Part,
}

impl Destination {
    /// The place of `part` for the target slot.
    pub fn new(effects: &Effects, target: TargetSlot, part: Part) -> Self {
        Self { effects: effects.clone(), target, part }
    }

    /// What it is for.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Reads what is there.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.part {
            Part::Root => self.effects.slots.read_target(self.target, Area::Root, offset, buffer),
            Part::Uki => self.effects.esp.read_temporary(offset, buffer),
        }
    }

    /// Writes; [`Destination::sync`] makes it last.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        match self.part {
            Part::Root => self.effects.slots.write_target(self.target, Area::Root, offset, bytes),
            Part::Uki => self.effects.esp.write_temporary(offset, bytes),
        }
        .map_err(|source| self.failed("write", offset, source))
    }

    /// Returns when everything written is on the device.
    pub fn sync(&self) -> Result<(), DeviceError> {
        match self.part {
            Part::Root if is_planted(Planted::TargetNotSynced) => Ok(()),
            Part::Root => self.effects.slots.sync_target(self.target),
            Part::Uki => self.effects.esp.sync(),
        }
        .map_err(|source| self.failed("sync", 0, source))
    }

    /// An error about this place.
    pub fn failed(&self, doing: &'static str, offset: u64, source: io::Error) -> DeviceError {
        DeviceError { doing, part: ReadBack::Part(self.part), offset, source }
    }
}

/// The same part of the running system.
#[derive(Clone)]
pub enum Origin {
    /// The root partition of the running slot.
    Root(Effects),
    /// The UKI that was booted, and its size in bytes.
    Uki(Effects, UkiName, u64),
}

impl Origin {
    /// Reads it. Behind the end of a UKI there are zeros, as in a last block.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Origin::Root(effects) => effects.slots.read_booted(Area::Root, offset, buffer),
            Origin::Uki(effects, name, bytes) => {
                let there = bytes.saturating_sub(offset).min(buffer.len() as u64) as usize;
                let (content, rest) = buffer.split_at_mut(there);
                rest.fill(0);
                if content.is_empty() { Ok(()) } else { effects.esp.read(name, offset, content) }
            }
        }
    }
}
