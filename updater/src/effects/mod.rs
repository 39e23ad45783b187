//! Everything that the daemon does outside itself goes through these traits: partitions, the EFI
//! system partition, the state partition, power, clock, services, other machines. The firmware,
//! kubelet's certificate and what programs say of themselves are only asked for.
//!
//! The real implementations reach the machine; the fake one records every effect in one ordered
//! log and can cut the power after any of them. **Invariant:** nothing outside this module opens a
//! device, mounts, syncs, restarts, speaks to systemd or connects to anybody.

pub mod boot;
pub mod buffer;
pub mod clock;
pub mod esp;
#[cfg(test)]
pub mod fake;
pub mod firmware;
pub mod health;
pub mod hostname;
pub mod http;
pub mod membership;
pub mod network;
pub mod off_thread;
pub mod power;
pub mod random;
pub mod seed;
pub mod services;
pub mod slots;
pub mod state;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contract::UkiName;
use jiff::Timestamp;

use crate::grpc::GrpcError;
use crate::grpc::messages::RuntimeCondition;
use crate::planted::{Planted, is_planted};

pub use boot::{BootedSlot, TargetSlot};
pub use network::{ClientError, ConnectionError, Http, Network, Request, Response};
pub use off_thread::{off_thread, start_off_thread};
pub use seed::SeedError;

/// Speaks to the service manager.
const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// Shows the system journal.
pub(crate) const JOURNALCTL: &str = "/usr/bin/journalctl";
/// Where the kernel shows the firmware's variables.
const EFI_VARIABLES: &str = "/sys/firmware/efi/efivars";

/// Proof that the loader will not boot the target slot: it has no UKI. Only then may the slot
/// be written.
#[derive(Debug)]
#[must_use]
pub struct Disarmed(TargetSlot);

impl Disarmed {
    /// Removes every UKI of the target slot, and returns when they are gone from the device.
    ///
    /// # Errors
    /// When the EFI system partition fails; the slot must then be left as it is.
    pub fn disarm(esp: &dyn Esp, target: TargetSlot) -> io::Result<Self> {
        for name in esp.list()?.into_iter().filter(|name| name.slot == target.slot()) {
            esp.remove(&name)?;
        }
        if !is_planted(Planted::DisarmNotSynced) {
            esp.sync()?;
        }
        Ok(Self(target))
    }

    /// The slot that may be written.
    pub fn target(&self) -> TargetSlot {
        self.0
    }
}

/// One of the two partitions of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Area {
    /// The root file system.
    Root,
    /// Its hash tree.
    Verity,
}

/// The partitions of both slots. Offsets and sizes are bytes.
pub trait Slots: Send + Sync {
    /// Reads from the running slot, past dm-verity: the caller checks what it gets.
    ///
    /// # Errors
    /// As the device gives them.
    fn read_booted(&self, area: Area, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Reads from the target slot, from the device and not from a cache.
    ///
    /// # Errors
    /// As the device gives them.
    fn read_target(
        &self,
        target: TargetSlot,
        area: Area,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<()>;

    /// Writes whole blocks of 4096 bytes to the target slot; `sync_target` makes it last.
    ///
    /// # Errors
    /// As the device gives them.
    fn write_target(
        &self,
        target: TargetSlot,
        area: Area,
        offset: u64,
        bytes: &[u8],
    ) -> io::Result<()>;

    /// Returns when everything written to the target slot is on the device.
    ///
    /// # Errors
    /// As the device gives them.
    fn sync_target(&self, target: TargetSlot) -> io::Result<()>;
}

/// The EFI system partition, as far as UKIs go. One file that no loader looks at, the
/// *temporary* one, receives a UKI until [`Esp::rename_temporary`] gives it its name. UKIs are
/// read and written in pieces, because a node has not the memory to hold two.
pub trait Esp: Send + Sync {
    /// Has the partition mounted, if it is not: on a slow machine its device may come after the
    /// system has given up waiting for it.
    ///
    /// # Errors
    /// When it cannot be mounted.
    fn mount(&self) -> io::Result<()>;

    /// Every UKI whose name is ours.
    ///
    /// # Errors
    /// When the partition cannot be mounted or read.
    fn list(&self) -> io::Result<Vec<UkiName>>;

    /// Size of a UKI in bytes.
    ///
    /// # Errors
    /// When it is missing.
    fn uki_bytes(&self, name: &UkiName) -> io::Result<u64>;

    /// Reads a part of a UKI, from a byte offset on.
    ///
    /// # Errors
    /// When it is missing, ends before the buffer is full, or cannot be read.
    fn read(&self, name: &UkiName, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Free room in bytes, with that of the temporary file counted as free.
    ///
    /// # Errors
    /// When the partition cannot be mounted.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Makes the temporary file anew with this size in bytes; what it holds is of no meaning.
    ///
    /// # Errors
    /// When the partition is full or fails.
    fn create_temporary(&self, bytes: u64) -> io::Result<()>;

    /// Size of the temporary file in bytes; `None` when there is none.
    ///
    /// # Errors
    /// When the partition cannot be mounted or read.
    fn temporary_bytes(&self) -> io::Result<Option<u64>>;

    /// Writes a part of the temporary file, within its size; `sync` makes it last.
    ///
    /// # Errors
    /// When there is no temporary file, or the partition fails.
    fn write_temporary(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads a part of the temporary file, from the device and not from a cache.
    ///
    /// # Errors
    /// When there is none, it ends before the buffer is full, or cannot be read.
    fn read_temporary(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Gives the temporary file its name; `sync` makes it last.
    ///
    /// # Errors
    /// When there is no temporary file, or the partition fails.
    fn rename_temporary(&self, name: &UkiName) -> io::Result<()>;

    /// Renames a UKI in one step; `sync` makes it last.
    ///
    /// # Errors
    /// When it is missing, or the partition fails.
    fn rename(&self, from: &UkiName, to: &UkiName) -> io::Result<()>;

    /// Removes a UKI; `sync` makes it last. One that is not there is not an error.
    ///
    /// # Errors
    /// When the partition fails.
    fn remove(&self, name: &UkiName) -> io::Result<()>;

    /// Returns when everything above is on the device.
    ///
    /// # Errors
    /// As the device gives them.
    fn sync(&self) -> io::Result<()>;
}

/// Small named documents on the state partition.
pub trait StateStore: Send + Sync {
    /// A document, or `None` when it was never saved.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Replaces a document in one step, and returns when it will outlast a power cut.
    ///
    /// # Errors
    /// When the partition is full or fails; the old document is then still there.
    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes a document; one that is not there is not an error.
    ///
    /// # Errors
    /// When the partition fails.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// The machine's power.
pub trait Power: Send + Sync {
    /// Starts a restart, and returns before it happens.
    ///
    /// # Errors
    /// When the system manager refuses.
    fn reboot(&self) -> io::Result<()>;
}

/// What Secure Boot goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variable {
    /// One byte: is it on?
    SecureBoot,
    /// Signature lists: what may boot.
    Db,
    /// Signature lists: what may not.
    Dbx,
}

/// The firmware's variables. Nothing here writes one.
pub trait Firmware: Send + Sync {
    /// What a variable holds, without its attributes; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn variable(&self, variable: Variable) -> io::Result<Option<Vec<u8>>>;
}

/// The host name. Apart from [`Effects`], because the daemon has not the right to change it.
pub trait HostName: Send + Sync {
    /// The name of this moment.
    fn name(&self) -> String;

    /// Changes it until the next restart.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn rename(&self, name: &str) -> io::Result<()>;
}

/// Time.
pub trait Clock: Send + Sync {
    /// The system's clock, right or wrong.
    fn now(&self) -> Timestamp;

    /// Time since the kernel started.
    fn uptime(&self) -> Duration;

    /// True once a time server has set the clock in this boot.
    fn is_synchronized(&self) -> bool;

    /// The machine's own clock, when it has one that runs.
    fn rtc(&self) -> Option<Timestamp>;
}

/// What systemd is told to do with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitOrder {
    /// Restart it, and wait.
    Restart,
    /// Restart it if it runs, and wait.
    TryRestart,
    /// Start it if it does not run, without waiting.
    BeginStart,
    /// Restart it without waiting.
    BeginRestart,
}

impl UnitOrder {
    /// systemctl's word for it.
    pub fn verb(self) -> &'static str {
        match self {
            UnitOrder::Restart | UnitOrder::BeginRestart => "restart",
            UnitOrder::TryRestart => "try-restart",
            UnitOrder::BeginStart => "start",
        }
    }
}

/// What systemd says of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitState {
    /// Number of its process.
    pub process: Option<u32>,
    /// It ended, and is to be started again.
    pub has_failed: bool,
}

/// The service manager.
#[async_trait]
pub trait Services: Send + Sync {
    /// Has a unit started or restarted.
    ///
    /// # Errors
    /// What the service manager says.
    async fn order(&self, order: UnitOrder, unit: &str) -> io::Result<()>;

    /// How a unit is.
    ///
    /// # Errors
    /// When the service manager does not say.
    async fn state(&self, unit: &str) -> io::Result<UnitState>;

    /// What a unit wrote to the journal in the last half minute.
    ///
    /// # Errors
    /// When the journal cannot be read.
    async fn log(&self, unit: &str) -> io::Result<String>;
}

/// This machine as its cluster knows it.
pub trait Membership: Send + Sync {
    /// The kernel's host name of this moment.
    fn host_name(&self) -> String;

    /// The id of this boot, as kubelet reports it.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn boot_id(&self) -> io::Result<String>;

    /// True when kubelet has a certificate of a cluster, which is for one name in one cluster.
    ///
    /// # Errors
    /// When that cannot be known.
    fn has_joined(&self) -> io::Result<bool>;

    /// That certificate and its key; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn certificate(&self) -> io::Result<Option<Vec<u8>>>;

    /// The certificate that the kubelet of this boot has chosen is there.
    ///
    /// # Errors
    /// When that cannot be known.
    fn has_credentials(&self) -> io::Result<bool>;
}

/// What programs on this machine say of themselves.
#[async_trait]
pub trait Health: Send + Sync {
    /// The conditions of the container runtime behind this socket.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    async fn runtime(&self, socket: &Path) -> Result<Vec<RuntimeCondition>, GrpcError>;

    /// The status with which `host`, with its port, answers for a path; `None` when the answer is
    /// not HTTP.
    ///
    /// # Errors
    /// When nobody answers.
    async fn http_status(&self, host: &str, path: &str) -> io::Result<Option<u16>>;

    /// Succeeds when there is such a file.
    ///
    /// # Errors
    /// When there is none, or that cannot be known.
    async fn file(&self, path: &Path) -> io::Result<()>;
}

/// A disk that may be there at the first boot.
pub trait SeedDisk: Send + Sync {
    /// Its `user-data`; none when there is no such disk, or no such file on it.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    fn user_data(&self) -> Result<Option<Vec<u8>>, SeedError>;
}

/// Chance.
pub trait Random: Send + Sync {
    /// A number from 0 to 1.
    fn chance(&self) -> f64;
}

/// Everything that the daemon may do outside itself.
#[derive(Clone)]
pub struct Effects {
    /// Partitions of both slots.
    pub slots: Arc<dyn Slots>,
    /// EFI system partition.
    pub esp: Arc<dyn Esp>,
    /// State partition.
    pub state: Arc<dyn StateStore>,
    /// Power.
    pub power: Arc<dyn Power>,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// The firmware's variables.
    pub firmware: Arc<dyn Firmware>,
    /// The service manager.
    pub services: Arc<dyn Services>,
    /// This machine as its cluster knows it.
    pub membership: Arc<dyn Membership>,
    /// What programs say of themselves.
    pub health: Arc<dyn Health>,
    /// Other machines.
    pub network: Arc<dyn Network>,
    /// A disk with settings for a first boot.
    pub seed: Arc<dyn SeedDisk>,
    /// Chance.
    pub random: Arc<dyn Random>,
}

impl Effects {
    /// Those of the machine that this program runs on. `esp` is where the EFI system partition
    /// is mounted, `state` the folder of documents on the state partition.
    pub fn of_this_machine(facts: &boot::BootFacts, esp: &Path, state: &Path) -> Self {
        let synchronized = Path::new("/run/systemd/timesync/synchronized");
        Self {
            slots: Arc::new(slots::DiskSlots::new(Path::new("/"), facts)),
            esp: Arc::new(esp::MountedEsp::new(esp, Path::new(SYSTEMCTL))),
            state: Arc::new(state::StateFolder::new(state)),
            power: Arc::new(power::Systemd::new(Path::new(SYSTEMCTL))),
            clock: Arc::new(clock::SystemClock::new(synchronized)),
            firmware: Arc::new(firmware::EfiVariables::new(Path::new(EFI_VARIABLES))),
            services: Arc::new(services::Manager::new(Path::new(SYSTEMCTL), Path::new(JOURNALCTL))),
            membership: Arc::new(membership::Kubelet::new(Path::new("/"))),
            health: Arc::new(health::Programs),
            network: Arc::new(http::Internet),
            seed: Arc::new(seed::MountedSeed { folder: seed::FOLDER.into() }),
            random: Arc::new(random::KernelRandom),
        }
    }
}
