//! A node that exists only in memory, for tests.
//!
//! In: the effects that code under test performs. Out: one ordered log of them, and what a
//! reboot finds. The power can be cut after any effect; what was not synced then survives in
//! part, block by block and name by name, as a seed decides. **Invariant:** nothing is lost
//! that was synced, and nothing can be read or done while the power is off.

mod api_server;
mod devices;
mod dice;
mod documents;
mod esp;
mod loader;
mod machine;
mod programs;
mod tests;
mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use contract::{Slot, UkiName};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::boot::BootId;
use super::http::Internet;
use super::{Area, Effects, Network, UnitOrder, Variable};
use crate::update::journal::DOCUMENT as JOURNAL;
use devices::Device;
use esp::Fat;

pub use api_server::ApiServer;
pub use dice::Dice;
pub use programs::Wellness;
pub use web::{Files, MANNERS, Manner, Web};

/// More readings than anybody needs in one moment.
const MOST_READINGS: usize = 20_000;
/// Size of the blocks that survive a power cut each by itself, in bytes.
pub const BLOCK: usize = 4096;

/// Something that changed the node, or made a change last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Bytes written to the target slot.
    WriteTarget {
        /// Root or hash tree.
        area: Area,
        /// Where, in bytes.
        offset: u64,
        /// How many.
        bytes: usize,
    },
    /// The target slot was synced.
    SyncTarget,
    /// The temporary file was made anew.
    CreateTemporary(u64),
    /// Bytes written to the temporary file.
    WriteTemporary {
        /// Where, in bytes.
        offset: u64,
        /// How many.
        bytes: usize,
    },
    /// The temporary file got its name.
    RenameTemporary(UkiName),
    /// A UKI got another name.
    Rename(UkiName, UkiName),
    /// A UKI was removed.
    Remove(UkiName),
    /// The EFI system partition was synced.
    SyncEsp,
    /// A document was saved.
    Save(String),
    /// A document was removed.
    RemoveDocument(String),
    /// The kernel got another host name.
    SetHostName(String),
    /// A restart was asked for.
    Reboot,
    /// systemd was told to do something with a unit.
    Unit(UnitOrder, String),
}

/// What goes wrong instead of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device fails: EIO.
    Device,
    /// No room: ENOSPC.
    Full,
    /// Only that many bytes are written, then the device fails.
    Short(usize),
    /// One bit of what is written changes on its way, and nobody is told.
    Lies(usize),
}

/// Something that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Bytes of the target slot.
    Target(Area),
    /// Bytes of the running slot.
    Booted(Area),
    /// Bytes of the temporary file.
    Temporary,
    /// A document.
    Document,
    /// The names on the EFI system partition.
    Names,
}

impl Fault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Fault::Device | Fault::Short(_) | Fault::Lies(_) => 5,
            Fault::Full => 28,
        })
    }
}

/// How large the node's parts are, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Each root partition.
    pub root: usize,
    /// Each hash partition.
    pub verity: usize,
    /// The EFI system partition.
    pub esp: usize,
    /// All documents together.
    pub state: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { root: 64 << 10, verity: 16 << 10, esp: 256 << 10, state: 1 << 20 }
    }
}

/// What the loader started.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Name of the UKI after the loader counted the try.
    pub name: UkiName,
    /// Content of the UKI.
    pub uki: Vec<u8>,
    /// This boot.
    pub boot_id: BootId,
}

type Disturb = Box<dyn FnMut(&Effect) -> Option<Fault> + Send>;
type DisturbReading = Box<dyn FnMut(Reading) -> Option<Fault> + Send>;

struct Parts {
    dice: Dice,
    powered: bool,
    /// Told when the power goes.
    off: Arc<Notify>,
    /// How the power went: with a cut, what was not synced is at risk.
    cut: bool,
    effects_left: Option<usize>,
    lie: Option<usize>,
    is_staged: bool,
    /// Readings in the moment that is so long after the clock began to run.
    spin: (Duration, usize),
    rot: Option<(Option<Area>, usize)>,
    disturb: Option<Disturb>,
    disturb_reading: Option<DisturbReading>,
    log: Vec<Effect>,
    devices: BTreeMap<(Slot, AreaKey), Device>,
    esp: Fat,
    documents: BTreeMap<String, Vec<u8>>,
    unreadable: BTreeSet<String>,
    sizes: Sizes,
    booted: Slot,
    boots: u128,
    now: Timestamp,
    uptime: Duration,
    /// When tokio's clock began to move these.
    running_since: Option<Instant>,
    wellness: Wellness,
    synchronized: bool,
    hostname: String,
    variables: BTreeMap<Variable, Vec<u8>>,
    /// kubelet's certificate and key, once it has joined.
    certificate: Option<Vec<u8>>,
    network: Arc<dyn Network>,
}

/// `Area` with an order, to be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum AreaKey {
    Root,
    Verity,
}

impl From<Area> for AreaKey {
    fn from(area: Area) -> Self {
        match area {
            Area::Root => AreaKey::Root,
            Area::Verity => AreaKey::Verity,
        }
    }
}

/// The node. Clones are the same node.
#[derive(Clone)]
pub struct FakeNode(Arc<Mutex<Parts>>);

impl FakeNode {
    /// A node that runs slot A and has no UKI. The seed decides what a power cut loses.
    pub fn new(seed: u64, sizes: Sizes) -> Self {
        let devices = Slot::ALL.into_iter().flat_map(|slot| {
            [
                ((slot, AreaKey::Root), Device::new(sizes.root)),
                ((slot, AreaKey::Verity), Device::new(sizes.verity)),
            ]
        });
        Self(Arc::new(Mutex::new(Parts {
            dice: Dice::new(seed),
            powered: true,
            off: Arc::default(),
            cut: false,
            effects_left: None,
            lie: None,
            is_staged: false,
            spin: (Duration::ZERO, 0),
            rot: None,
            disturb: None,
            disturb_reading: None,
            log: Vec::new(),
            devices: devices.collect(),
            esp: Fat::new(sizes.esp),
            documents: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            sizes,
            booted: Slot::A,
            boots: 0,
            now: Timestamp::UNIX_EPOCH + Duration::from_secs(1_790_000_000),
            uptime: Duration::ZERO,
            running_since: None,
            wellness: Wellness::default(),
            synchronized: true,
            hostname: "localhost".to_owned(),
            variables: BTreeMap::new(),
            certificate: None,
            network: Arc::new(Internet),
        })))
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap()
    }

    /// The node as code under test gets it.
    pub fn effects(&self) -> Effects {
        let node = Arc::new(self.clone());
        Effects {
            slots: node.clone(),
            esp: node.clone(),
            state: node.clone(),
            power: node.clone(),
            clock: node.clone(),
            firmware: node.clone(),
            services: node.clone(),
            membership: node.clone(),
            health: node.clone(),
            network: self.parts().network.clone(),
            seed: node.clone(),
            random: node,
        }
    }

    /// Puts the node into another network than that of the machine that tests run on.
    pub fn connect(&self, network: Arc<dyn Network>) {
        self.parts().network = network;
    }

    /// kubelet gets a certificate of its cluster.
    pub fn join(&self, certificate_and_key: &[u8]) {
        self.parts().certificate = Some(certificate_and_key.to_vec());
    }

    /// Every effect so far, in order.
    pub fn log(&self) -> Vec<Effect> {
        self.parts().log.clone()
    }

    /// How many those are.
    pub fn effects_done(&self) -> usize {
        self.parts().log.len()
    }

    /// True when the last of them was a restart.
    pub fn has_restarted(&self) -> bool {
        self.parts().log.last() == Some(&Effect::Reboot)
    }

    /// Cuts the power after so many more effects; with 0, at once.
    pub fn cut_power_after(&self, effects: usize) {
        let mut parts = self.parts();
        parts.effects_left = Some(effects);
        if effects == 0 {
            parts.cut = true;
            parts.switch_off();
        }
    }

    /// Returns once the power is off: it was cut, or a restart was asked for.
    pub async fn off(&self) {
        let off = self.parts().off.clone();
        off.notified().await;
    }

    /// False once the power was cut or a restart was asked for.
    pub fn is_powered(&self) -> bool {
        self.parts().powered
    }

    /// Asks `disturb` before each effect whether, and how, it fails. Ends with a boot.
    pub fn disturb(&self, disturb: impl FnMut(&Effect) -> Option<Fault> + Send + 'static) {
        self.parts().disturb = Some(Box::new(disturb));
    }

    /// The same for what is read. A lie flips one bit on its way.
    pub fn disturb_reading(&self, disturb: impl FnMut(Reading) -> Option<Fault> + Send + 'static) {
        self.parts().disturb_reading = Some(Box::new(disturb));
    }

    /// No disturbance any more.
    pub fn stop_disturbing(&self) {
        let mut parts = self.parts();
        (parts.disturb, parts.disturb_reading) = (None, None);
    }

    /// From now on the device fails where this document is, until it is removed.
    pub fn make_unreadable(&self, name: &str) {
        self.parts().unreadable.insert(name.to_owned());
    }

    /// Switches the power on: what was not synced may be lost (after a cut), the loader takes
    /// a UKI and counts. `None` when there is no UKI.
    pub fn boot(&self) -> Option<Boot> {
        let mut parts = self.parts();
        let parts = &mut *parts;
        if std::mem::take(&mut parts.cut) {
            let Parts { devices, esp, dice, .. } = parts;
            devices.values_mut().for_each(|device| device.lose_power(dice));
            esp.lose_power(dice);
        } else {
            parts.devices.values_mut().for_each(Device::sync);
            parts.esp.sync();
        }
        parts.powered = true;
        parts.effects_left = None;
        (parts.disturb, parts.disturb_reading) = (None, None);
        parts.off = Arc::default();
        parts.uptime = Duration::ZERO;
        parts.hostname = "localhost".to_owned();
        parts.boots += 1;
        let chosen = loader::choose(&parts.esp.names())?;
        let name = loader::counted(chosen);
        parts.esp.rename_by_loader(chosen, name);
        parts.booted = name.slot;
        let uki = parts.esp.content(&name)?;
        Some(Boot { name, uki, boot_id: BootId::from_u128(parts.boots) })
    }

    /// The id of this boot.
    pub fn boot_id(&self) -> BootId {
        BootId::from_u128(self.parts().boots)
    }

    /// Sets the clock.
    pub fn set_now(&self, now: Timestamp) {
        self.parts().now = now;
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        let mut parts = self.parts();
        parts.now += time;
        parts.uptime += time;
    }

    /// Has tokio's clock, real or paused, move time on from here, until the next call.
    pub fn run_clock(&self) {
        self.parts().running_since = Some(Instant::now());
    }

    /// Time stands still again.
    pub fn stop_clock(&self) {
        let mut parts = self.parts();
        let passed = parts.passed();
        parts.now += passed;
        parts.uptime += passed;
        parts.running_since = None;
    }

    /// Says how well this boot is.
    pub fn set_wellness(&self, wellness: Wellness) {
        self.parts().wellness = wellness;
    }

    /// Says whether a time server was reached.
    pub fn set_synchronized(&self, synchronized: bool) {
        self.parts().synchronized = synchronized;
    }

    /// Sets a variable of the firmware, which has none at first.
    pub fn set_variable(&self, variable: Variable, value: &[u8]) {
        self.parts().variables.insert(variable, value.to_vec());
    }

    /// Takes the EFI system partition away until it is mounted again.
    pub fn unmount_esp(&self) {
        self.parts().esp.is_mounted = false;
    }

    /// Puts a UKI on the EFI system partition, synced, past the log.
    pub fn install_uki(&self, name: UkiName, content: &[u8]) {
        self.parts().esp.install(name, content.to_vec());
    }

    /// Puts bytes at the start of a partition, synced, past the log.
    pub fn install_slot(&self, slot: Slot, area: Area, content: &[u8]) {
        if let Some(device) = self.parts().devices.get_mut(&(slot, area.into())) {
            device.install(content);
        }
    }

    /// Flips a bit of a partition, past the log, as a failing disk does.
    pub fn flip_bit(&self, slot: Slot, area: Area, offset: usize) {
        if let Some(device) = self.parts().devices.get_mut(&(slot, area.into())) {
            device.flip_bit(offset);
        }
    }

    /// Flips a bit once, past the log, when something was staged and not armed yet: in the target
    /// slot, or in the temporary file.
    pub fn rot_once_staged(&self, area: Option<Area>, offset: usize) {
        self.parts().rot = Some((area, offset));
    }

    /// Gives the kernel a host name, past the log, as a service does before the daemon starts.
    pub fn name_host(&self, name: &str) {
        name.clone_into(&mut self.parts().hostname);
    }

    /// The power is not cut after all.
    pub fn spare(&self) {
        self.parts().effects_left = None;
    }

    /// Flips a bit of the temporary file on the EFI system partition, likewise.
    pub fn flip_temporary(&self, offset: usize) {
        self.parts().esp.flip_temporary(offset);
    }

    /// What a partition holds on the device, without what was not synced.
    pub fn durable(&self, slot: Slot, area: Area) -> Vec<u8> {
        self.parts().devices[&(slot, area.into())].durable().to_vec()
    }

    /// True when a partition holds these bytes first, on the device.
    pub fn holds(&self, slot: Slot, area: Area, content: &[u8]) -> bool {
        self.parts().devices[&(slot, area.into())].durable().starts_with(content)
    }

    /// Every UKI on the EFI system partition, as the running system sees them.
    pub fn ukis(&self) -> Vec<UkiName> {
        self.parts().esp.names()
    }

    /// Content of a UKI, as the running system sees it.
    pub fn uki(&self, name: UkiName) -> Option<Vec<u8>> {
        self.parts().esp.content(&name)
    }

    /// A document, also while the power is off.
    pub fn document(&self, name: &str) -> Option<Vec<u8>> {
        self.parts().documents.get(name).cloned()
    }

    /// Appends to a document, past the log: what the initrd does with its mark.
    pub fn append(&self, name: &str, text: &str) {
        self.parts().documents.entry(name.to_owned()).or_default().extend(text.as_bytes());
    }

    /// Performs one effect: checks power and faults, logs it, and cuts the power if its time
    /// has come. `act` is told how many bytes a write may move.
    fn perform(
        &self,
        effect: Effect,
        act: impl FnOnce(&mut Parts, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut parts = self.parts();
        parts.check_power()?;
        let fault = parts.disturb.as_mut().and_then(|disturb| disturb(&effect));
        match fault {
            Some(fault @ Fault::Short(bytes)) => {
                act(&mut parts, bytes)?;
                return Err(fault.error());
            }
            Some(Fault::Lies(bit)) => {
                parts.lie = Some(bit);
                let acted = act(&mut parts, usize::MAX);
                parts.lie = None;
                acted?;
            }
            Some(fault) => return Err(fault.error()),
            None => act(&mut parts, usize::MAX)?,
        }
        parts.rot(&effect);
        parts.log.push(effect);
        if let Some(left) = &mut parts.effects_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                parts.cut = true;
                parts.switch_off();
            }
        }
        Ok(())
    }
}

/// Flips a bit.
fn flip(bytes: &mut [u8], bit: usize) {
    if !bytes.is_empty() {
        let place = bit / 8 % bytes.len();
        bytes[place] ^= 1 << (bit % 8);
    }
}

impl Parts {
    fn switch_off(&mut self) {
        self.powered = false;
        self.off.notify_one();
    }

    /// What is staged is synced first, and then noted in the journal of updates.
    fn rot(&mut self, effect: &Effect) {
        match effect {
            Effect::SyncTarget => self.is_staged = true,
            Effect::Save(name) if name == JOURNAL && std::mem::take(&mut self.is_staged) => {
                let other = if self.booted == Slot::A { Slot::B } else { Slot::A };
                match self.rot.take() {
                    Some((Some(area), offset)) => {
                        if let Some(device) = self.devices.get_mut(&(other, area.into())) {
                            device.flip_bit(offset);
                        }
                    }
                    Some((None, offset)) => self.esp.flip_temporary(offset),
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// Whoever reads again and again while no time passes would do so for ever.
    fn check_progress(&mut self) {
        if self.running_since.is_some() {
            let passed = self.passed();
            let (at, readings) = self.spin;
            self.spin = if at == passed { (at, readings + 1) } else { (passed, 0) };
            assert!(self.spin.1 < MOST_READINGS, "the daemon spins");
        }
    }

    fn passed(&self) -> Duration {
        self.running_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// A bit that is to flip in what is written.
    fn falsified(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if let Some(bit) = self.lie {
            flip(&mut bytes, bit);
        }
        bytes
    }

    /// Checks power and faults before something is read; gives a bit that is to flip in it.
    fn begin_reading(&mut self, what: Reading) -> io::Result<Option<usize>> {
        self.check_power()?;
        self.check_progress();
        match self.disturb_reading.as_mut().and_then(|disturb| disturb(what)) {
            Some(Fault::Lies(bit)) => Ok(Some(bit)),
            Some(fault) => Err(fault.error()),
            None => Ok(None),
        }
    }

    fn check_power(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(io::Error::other("the power is off")) }
    }

    fn device(&mut self, slot: Slot, area: Area) -> io::Result<&mut Device> {
        self.devices.get_mut(&(slot, area.into())).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
