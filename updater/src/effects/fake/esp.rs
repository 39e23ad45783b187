//! The EFI system partition of the fake node. FAT has no journal: each change that was not
//! synced survives a power cut, or does not, whatever became of those before it.

use std::collections::BTreeMap;
use std::io;

use contract::UkiName;

use super::{BLOCK, Dice, Effect, FakeNode, Reading, flip};
use crate::effects::Esp;

/// What a new file holds before it is written: never zeros, which could be mistaken.
const GARBAGE: u8 = 0xEE;

/// Name of a file; `None` is the temporary one.
type Name = Option<UkiName>;
type Files = BTreeMap<Name, Vec<u8>>;

#[derive(Clone)]
enum Change {
    Create(usize),
    Write(usize, Vec<u8>),
    Rename(Name, UkiName),
    Remove(UkiName),
}

pub(super) struct Fat {
    capacity: usize,
    pub(super) is_mounted: bool,
    seen: Files,
    durable: Files,
    unsynced: Vec<Change>,
}

impl Fat {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            is_mounted: true,
            seen: Files::new(),
            durable: Files::new(),
            unsynced: Vec::new(),
        }
    }

    pub(super) fn names(&self) -> Vec<UkiName> {
        self.seen.keys().filter_map(|name| *name).collect()
    }

    pub(super) fn content(&self, name: &UkiName) -> Option<Vec<u8>> {
        self.seen.get(&Some(*name)).cloned()
    }

    pub(super) fn install(&mut self, name: UkiName, content: Vec<u8>) {
        self.seen.insert(Some(name), content.clone());
        self.durable.insert(Some(name), content);
    }

    /// The loader's own rename, through the firmware.
    pub(super) fn rename_by_loader(&mut self, from: UkiName, to: UkiName) {
        for files in [&mut self.seen, &mut self.durable] {
            if let Some(content) = files.remove(&Some(from)) {
                files.insert(Some(to), content);
            }
        }
    }

    pub(super) fn flip_temporary(&mut self, offset: usize) {
        for files in [&mut self.seen, &mut self.durable] {
            if let Some(byte) = files.get_mut(&None).and_then(|content| content.get_mut(offset)) {
                *byte ^= 1;
            }
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.seen);
        self.unsynced.clear();
    }

    pub(super) fn lose_power(&mut self, dice: &mut Dice) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Write(offset, bytes) => {
                    for (index, block) in bytes.chunks(BLOCK).enumerate() {
                        if dice.coin() {
                            let write = Change::Write(offset + index * BLOCK, block.to_vec());
                            apply(&mut self.durable, &write);
                        }
                    }
                }
                change => {
                    if dice.coin() {
                        apply(&mut self.durable, &change);
                    }
                }
            }
        }
        self.seen.clone_from(&self.durable);
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        if !apply(&mut self.seen, &change) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.unsynced.push(change);
        Ok(())
    }

    fn free(&self) -> usize {
        let used: usize = self.seen.iter().filter(|(name, _)| name.is_some()).map(size).sum();
        self.capacity.saturating_sub(used)
    }

    /// What is on the device, under the name that the running system knows the file by.
    fn read(files: &Files, name: &Name, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let content = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let part = start
            .checked_add(buffer.len())
            .and_then(|end| content.get(start..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

fn size((_, content): (&Name, &Vec<u8>)) -> usize {
    content.len()
}

/// Applies a change; false when what it changes is not there.
fn apply(files: &mut Files, change: &Change) -> bool {
    match change {
        Change::Create(bytes) => {
            files.insert(None, vec![GARBAGE; *bytes]);
            true
        }
        Change::Write(offset, bytes) => {
            let Some(content) = files.get_mut(&None) else { return false };
            match content.get_mut(*offset..offset.saturating_add(bytes.len())) {
                Some(part) => part.copy_from_slice(bytes),
                None => return false,
            }
            true
        }
        Change::Rename(from, to) => match files.remove(from) {
            Some(content) => {
                files.insert(Some(*to), content);
                true
            }
            None => false,
        },
        Change::Remove(name) => files.remove(&Some(*name)).is_some(),
    }
}

impl Esp for FakeNode {
    fn mount(&self) -> io::Result<()> {
        let mut parts = self.parts();
        parts.check_power()?;
        parts.esp.is_mounted = true;
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<UkiName>> {
        let mut parts = self.parts();
        // A name is a name, or the folder cannot be read.
        parts.begin_reading(Reading::Names)?;
        if !parts.esp.is_mounted {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(parts.esp.names())
    }

    fn uki_bytes(&self, name: &UkiName) -> io::Result<u64> {
        let parts = self.parts();
        parts.check_power()?;
        let content = parts.esp.seen.get(&Some(*name)).ok_or(io::ErrorKind::NotFound)?;
        Ok(content.len() as u64)
    }

    fn read(&self, name: &UkiName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let parts = self.parts();
        parts.check_power()?;
        Fat::read(&parts.esp.seen, &Some(*name), offset, buffer)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let parts = self.parts();
        parts.check_power()?;
        Ok(parts.esp.free() as u64)
    }

    fn create_temporary(&self, bytes: u64) -> io::Result<()> {
        self.perform(Effect::CreateTemporary(bytes), |parts, _| {
            let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
            if bytes > parts.esp.free() {
                return Err(io::Error::from_raw_os_error(28));
            }
            parts.esp.change(Change::Create(bytes))
        })
    }

    fn temporary_bytes(&self) -> io::Result<Option<u64>> {
        let parts = self.parts();
        parts.check_power()?;
        Ok(parts.esp.seen.get(&None).map(|content| content.len() as u64))
    }

    fn write_temporary(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let effect = Effect::WriteTemporary { offset, bytes: bytes.len() };
        self.perform(effect, |parts, most| {
            let offset = usize::try_from(offset).map_err(io::Error::other)?;
            let bytes = parts.falsified(&bytes[..bytes.len().min(most)]);
            parts.esp.change(Change::Write(offset, bytes))
        })
    }

    fn read_temporary(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut parts = self.parts();
        let lie = parts.begin_reading(Reading::Temporary)?;
        Fat::read(&parts.esp.durable, &None, offset, buffer)?;
        lie.into_iter().for_each(|bit| flip(buffer, bit));
        Ok(())
    }

    fn rename_temporary(&self, name: &UkiName) -> io::Result<()> {
        let change = Change::Rename(None, *name);
        self.perform(Effect::RenameTemporary(*name), |parts, _| parts.esp.change(change))
    }

    fn rename(&self, from: &UkiName, to: &UkiName) -> io::Result<()> {
        let change = Change::Rename(Some(*from), *to);
        self.perform(Effect::Rename(*from, *to), |parts, _| parts.esp.change(change))
    }

    fn remove(&self, name: &UkiName) -> io::Result<()> {
        let name = *name;
        self.perform(Effect::Remove(name), |parts, _| match parts.esp.content(&name) {
            Some(_) => parts.esp.change(Change::Remove(name)),
            None => Ok(()),
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.perform(Effect::SyncEsp, |parts, _| {
            parts.esp.sync();
            Ok(())
        })
    }
}
