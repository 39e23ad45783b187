//! A machine in memory: partitions that lose what was not synced when the power fails, and
//! that fail or lie when told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::release::layout::MIB;
use contract::{Slot, UkiName};
use jiff::Timestamp;

use super::release::Published;
use crate::effects::fake::{FakeNode, Sizes};
use crate::effects::{
    Area, BootedSlot, Clock, Disarmed, Effects, Esp, Firmware, Power, Slots, StateStore,
    TargetSlot, Variable,
};
use crate::staging::hash::lock;

/// The running slot is A, the target B.
pub const BOOTED: Slot = Slot::A;
const ESP_FREE: u64 = 2 * MIB;

/// Places that lose unsynced writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    TargetRoot,
    TargetVerity,
    Temporary,
}

/// What a device does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// This write, counted from 0, and all after it fail with this errno; half of it lands.
    WriteFails { place: Place, after: usize, errno: i32 },
    /// This write lands with one bit changed.
    WriteLies { place: Place, number: usize },
    /// Every read of the place fails.
    ReadFails(Place),
    /// Reads of the byte at this offset of the target's root fail until it is written.
    BadSector(usize),
    /// After so many writes to any place, nothing works any more.
    PowerCut { after: usize },
    /// The state partition takes nothing.
    StateFull,
}

#[derive(Default)]
struct Inner {
    booted_root: Vec<u8>,
    booted_verity: Vec<u8>,
    ukis: BTreeMap<UkiName, Vec<u8>>,
    current: BTreeMap<Place, Vec<u8>>,
    durable: BTreeMap<Place, Vec<u8>>,
    pending: Vec<(Place, usize, Vec<u8>)>,
    writes: BTreeMap<Place, usize>,
    written: u64,
    state: BTreeMap<String, Vec<u8>>,
    variables: BTreeMap<Variable, Vec<u8>>,
    trouble: Option<Trouble>,
    off: bool,
}

/// The machine.
#[derive(Default)]
pub struct Machine(Mutex<Inner>, tokio::sync::Mutex<()>);

impl Machine {
    /// Runs `release` from slot A; slot B holds zeros.
    pub fn running(release: &Published) -> Arc<Self> {
        let booted_uki = release.ukis[&BOOTED].clone();
        let armed = UkiName { generation: 4, slot: Slot::B, tries: None };
        let size = 16 * MIB as usize;
        let places = [(Place::TargetRoot, vec![0; size]), (Place::TargetVerity, vec![0; size / 8])];
        let inner = Inner {
            booted_root: release.root.clone(),
            booted_verity: release.tree(),
            ukis: [(uki_name(), booted_uki), (armed, vec![1; 1000])].into(),
            current: places.clone().into(),
            durable: places.into(),
            ..Inner::default()
        };
        Arc::new(Self(Mutex::new(inner), tokio::sync::Mutex::default()))
    }

    /// All effects.
    pub fn effects(self: &Arc<Self>) -> Effects {
        Effects {
            slots: self.clone(),
            esp: self.clone(),
            state: self.clone(),
            power: self.clone(),
            clock: self.clone(),
            firmware: self.clone(),
            ..FakeNode::new(0, Sizes::default()).effects()
        }
    }

    /// Disarms slot B.
    pub fn disarm(&self) -> Disarmed {
        Disarmed::disarm(self, BootedSlot::forged_for_a_test(BOOTED).target()).unwrap()
    }

    /// Switches Secure Boot on, with this `db`.
    pub fn enforce(&self, db: Vec<u8>) {
        let variables = [(Variable::SecureBoot, vec![1]), (Variable::Db, db)];
        lock(&self.0).variables = variables.into();
    }

    pub fn set(&self, trouble: Option<Trouble>) {
        lock(&self.0).trouble = trouble;
    }

    /// Power comes back: of the writes that were not synced, those for which `lasts` is true
    /// of their number are on the devices.
    pub fn power_cycle(&self, lasts: impl Fn(usize) -> bool) {
        let mut inner = lock(&self.0);
        let inner = &mut *inner;
        for (number, (place, offset, bytes)) in inner.pending.drain(..).enumerate() {
            if let Some(content) = inner.durable.get_mut(&place).filter(|_| lasts(number)) {
                content[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
        inner.current = inner.durable.clone();
        inner.writes.clear();
        inner.off = false;
        inner.trouble = None;
    }

    /// What is at a place after a power cut.
    pub fn durable(&self, place: Place) -> Vec<u8> {
        lock(&self.0).durable.get(&place).cloned().unwrap_or_default()
    }

    /// Makes every write wait until the guard is dropped.
    pub async fn hold_writes(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.1.lock().await
    }

    /// Changes what is at a place, in the device itself.
    pub fn tamper(&self, place: Place, change: impl Fn(&mut Vec<u8>)) {
        let mut inner = lock(&self.0);
        let inner = &mut *inner;
        for all in [&mut inner.current, &mut inner.durable] {
            change(all.get_mut(&place).unwrap());
        }
    }

    /// Changes the running root, past its hash tree.
    pub fn tamper_booted(&self, change: impl Fn(&mut Vec<u8>)) {
        change(&mut lock(&self.0).booted_root);
    }

    /// Bytes written to slot B and the temporary file so far.
    pub fn written(&self) -> u64 {
        lock(&self.0).written
    }

    /// Writes to any place since the last power cycle.
    pub fn writes(&self) -> usize {
        lock(&self.0).writes.values().sum()
    }

    fn read_place(&self, place: Place, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inner = lock(&self.0);
        inner.check_power()?;
        if inner.trouble == Some(Trouble::ReadFails(place)) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if let Some(Trouble::BadSector(bad)) = inner.trouble
            && place == Place::TargetRoot
            && (offset as usize..offset as usize + buffer.len()).contains(&bad)
        {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        copy(inner.current.get(&place).ok_or(io::ErrorKind::NotFound)?, offset, buffer)
    }

    fn write_place(&self, place: Place, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let _held = self.1.blocking_lock();
        let mut inner = lock(&self.0);
        inner.check_power()?;
        let all: usize = inner.writes.values().sum();
        let count = inner.writes.entry(place).or_default();
        let number = std::mem::replace(count, *count + 1);
        let mut bytes = bytes.to_vec();
        let result = match inner.trouble {
            Some(Trouble::WriteFails { place: failing, after, errno })
                if failing == place && number >= after =>
            {
                bytes.truncate(bytes.len() / 2);
                Err(io::Error::from_raw_os_error(errno))
            }
            Some(Trouble::WriteLies { place: lying, number: lie })
                if lying == place && number == lie =>
            {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                Ok(())
            }
            Some(Trouble::BadSector(bad))
                if place == Place::TargetRoot
                    && (offset as usize..offset as usize + bytes.len()).contains(&bad) =>
            {
                inner.trouble = None;
                Ok(())
            }
            Some(Trouble::PowerCut { after }) if all >= after => {
                inner.off = true;
                bytes.truncate(bytes.len() / 2);
                Err(io::Error::other("the power is off"))
            }
            _ => Ok(()),
        };
        inner.written += bytes.len() as u64;
        let content = inner.current.get_mut(&place).ok_or(io::ErrorKind::NotFound)?;
        let end = offset as usize + bytes.len();
        content
            .get_mut(offset as usize..end)
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(&bytes);
        inner.pending.push((place, offset as usize, bytes));
        result
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut inner = lock(&self.0);
        inner.check_power()?;
        inner.durable = inner.current.clone();
        inner.pending.clear();
        Ok(())
    }
}

pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;

impl Inner {
    fn check_power(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }
}

/// The UKI that was booted.
pub fn uki_name() -> UkiName {
    UkiName { generation: 5, slot: BOOTED, tries: None }
}

fn copy(content: &[u8], offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let start = offset as usize;
    let there = content.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
    buffer.copy_from_slice(there);
    Ok(())
}

impl Slots for Machine {
    fn read_booted(&self, area: Area, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let inner = lock(&self.0);
        inner.check_power()?;
        match area {
            Area::Root => copy(&inner.booted_root, offset, buffer),
            Area::Verity => copy(&inner.booted_verity, offset, buffer),
        }
    }

    fn read_target(
        &self,
        _: TargetSlot,
        area: Area,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        self.read_place(place(area), offset, buffer)
    }

    fn write_target(&self, _: TargetSlot, area: Area, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(offset.is_multiple_of(4096) && bytes.len().is_multiple_of(4096), "whole blocks");
        self.write_place(place(area), offset, bytes)
    }

    fn sync_target(&self, _: TargetSlot) -> io::Result<()> {
        self.sync_all()
    }
}

fn place(area: Area) -> Place {
    match area {
        Area::Root => Place::TargetRoot,
        Area::Verity => Place::TargetVerity,
    }
}

impl Esp for Machine {
    fn mount(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<UkiName>> {
        Ok(lock(&self.0).ukis.keys().copied().collect())
    }

    fn uki_bytes(&self, name: &UkiName) -> io::Result<u64> {
        let inner = lock(&self.0);
        Ok(inner.ukis.get(name).ok_or(io::ErrorKind::NotFound)?.len() as u64)
    }

    fn read(&self, name: &UkiName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        copy(lock(&self.0).ukis.get(name).ok_or(io::ErrorKind::NotFound)?, offset, buffer)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(ESP_FREE)
    }

    fn create_temporary(&self, bytes: u64) -> io::Result<()> {
        let mut inner = lock(&self.0);
        inner.check_power()?;
        if let Some(Trouble::WriteFails { place: Place::Temporary, after: 0, errno }) =
            inner.trouble
        {
            return Err(io::Error::from_raw_os_error(errno));
        }
        // Some other file's clusters: what a new file holds is of no meaning.
        inner.current.insert(Place::Temporary, vec![0xa5; bytes as usize]);
        inner.durable.insert(Place::Temporary, vec![0x5a; bytes as usize]);
        Ok(())
    }

    fn temporary_bytes(&self) -> io::Result<Option<u64>> {
        let inner = lock(&self.0);
        inner.check_power()?;
        Ok(inner.current.get(&Place::Temporary).map(|content| content.len() as u64))
    }

    fn write_temporary(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_place(Place::Temporary, offset, bytes)
    }

    fn read_temporary(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_place(Place::Temporary, offset, buffer)
    }

    fn rename_temporary(&self, name: &UkiName) -> io::Result<()> {
        let mut inner = lock(&self.0);
        let content = inner.current.remove(&Place::Temporary).ok_or(io::ErrorKind::NotFound)?;
        inner.ukis.insert(*name, content);
        Ok(())
    }

    fn rename(&self, from: &UkiName, to: &UkiName) -> io::Result<()> {
        let mut inner = lock(&self.0);
        let content = inner.ukis.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.ukis.insert(*to, content);
        Ok(())
    }

    fn remove(&self, name: &UkiName) -> io::Result<()> {
        lock(&self.0).ukis.remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

impl StateStore for Machine {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(lock(&self.0).state.get(name).cloned())
    }

    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut inner = lock(&self.0);
        inner.check_power()?;
        if inner.trouble == Some(Trouble::StateFull) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        inner.state.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        lock(&self.0).state.remove(name);
        Ok(())
    }
}

impl Power for Machine {
    fn reboot(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }

    fn is_synchronized(&self) -> bool {
        true
    }

    fn rtc(&self) -> Option<Timestamp> {
        None
    }
}

impl Firmware for Machine {
    fn variable(&self, variable: Variable) -> io::Result<Option<Vec<u8>>> {
        Ok(lock(&self.0).variables.get(&variable).cloned())
    }
}
