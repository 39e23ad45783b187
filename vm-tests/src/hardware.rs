//! What a machine is made of beyond disk, network card and console, as QEMU's arguments.
//!
//! **Invariant:** nothing in here reaches the host beyond files of the machine's folder and
//! loopback.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use testbed::metadata::Cloud;

/// What a guest does when it resets itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnReset {
    /// Boots again, as hardware does.
    #[default]
    Boot,
    /// QEMU exits, so that a test can tell.
    Exit,
}

/// Reads or writes of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads fail.
    Read,
    /// Writes fail.
    Write,
}

/// A sector of the disk that gives an I/O error, each time.
#[derive(Debug, Clone, Copy)]
pub struct BadSector {
    /// Byte offset on the disk.
    pub offset: u64,
    /// What fails.
    pub access: Access,
}

/// A network card in the network that machines of one scenario share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedNetworkCard {
    /// Last byte of its address; each machine has another.
    pub host: u8,
}

impl SharedNetworkCard {
    /// Name that the guest gives the card, by the slot that it is in.
    pub const INTERFACE: &str = "enp0s16";

    /// The machine's address; settings must give it, because nobody else does.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 56, self.host)
    }

    /// A card that speaks by multicast on the scenario's loopback.
    fn arguments(self) -> [String; 4] {
        let device = format!(
            "virtio-net-pci,netdev=shared,romfile=,addr=0x10,mac=52:54:00:00:56:{:02x}",
            self.host
        );
        let network = "socket,id=shared,mcast=230.0.0.1:5600,localaddr=127.0.0.1";
        ["-netdev".to_owned(), network.to_owned(), "-device".to_owned(), device]
    }
}

/// Everything that a scenario may change about its machine.
#[derive(Debug, Clone, Default)]
pub struct Hardware {
    /// What a reset does.
    pub on_reset: OnReset,
    /// The node's settings, handed over as an SMBIOS string of systemd's form for the credential
    /// `slipway.settings`.
    pub settings: Option<String>,
    /// Strings of SMBIOS that the host gives beside the settings.
    pub smbios: Vec<String>,
    /// Items of fw_cfg, by name, that the host gives.
    pub fw_cfg: Vec<(String, String)>,
    /// More NVMe disks, as raw images; the guest cannot write to them.
    pub other_disks: Vec<PathBuf>,
    /// What the firmware says that the machine is in; without it, QEMU.
    pub cloud: Option<Cloud>,
    /// A disk with the label `cidata`, as clouds attach it.
    pub seed: Option<PathBuf>,
    /// Time of the hardware clock at power-on, such as `1970-01-01T00:00:00`.
    pub clock: Option<String>,
    /// An i6300esb watchdog that resets the machine.
    pub watchdog: bool,
    /// Address of the scenario's loopback at which the guest's ports are; 127.0.0.1, when absent.
    pub ports_at: Option<Ipv4Addr>,
    /// An address of the scenario's loopback, under which the API server reaches kubelet.
    pub kubelet_address: Option<String>,
    /// A second network card, in a network with all machines of the scenario that have one.
    pub second_card: Option<SharedNetworkCard>,
    /// Sectors that fail.
    pub bad_sectors: Vec<BadSector>,
    /// What the guest flushes outlives QEMU, so that it may be killed.
    pub durable: bool,
}

impl From<OnReset> for Hardware {
    fn from(on_reset: OnReset) -> Self {
        Self { on_reset, ..Self::default() }
    }
}

impl Hardware {
    /// QEMU's arguments; writes the files that they name into the machine's `folder`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn arguments(&self, folder: &Path) -> Result<Vec<String>> {
        let mut arguments = self.disk(folder)?;
        let mut add = |words: [&str; 2]| arguments.extend(words.map(str::to_owned));
        if self.on_reset == OnReset::Exit {
            add(["-action", "reboot=shutdown"]);
        }
        if let Some(settings) = &self.settings {
            let file = folder.join("smbios");
            fs::write(&file, format!("io.systemd.credential:slipway.settings={settings}"))?;
            add(["-smbios", &format!("type=11,path={}", file.display())]);
        }
        for (number, disk) in self.other_disks.iter().enumerate() {
            let disk = fs::canonicalize(disk).with_context(|| format!("{}", disk.display()))?;
            let drive =
                format!("if=none,id=other{number},format=raw,snapshot=on,file={}", disk.display());
            add(["-drive", &drive]);
            add(["-device", &format!("nvme,serial=other{number},drive=other{number}")]);
        }
        for string in &self.smbios {
            add(["-smbios", &format!("type=11,value={}", string.replace(',', ",,"))]);
        }
        for (name, value) in &self.fw_cfg {
            let value = value.replace(',', ",,");
            add(["-fw_cfg", &format!("name={name},string={value}")]);
        }
        if let Some(cloud) = self.cloud {
            add(["-smbios", cloud.smbios()]);
        }
        if let Some(seed) = &self.seed {
            let seed = fs::canonicalize(seed).with_context(|| format!("{}", seed.display()))?;
            let drive = format!("if=none,id=seed,format=raw,readonly=on,file={}", seed.display());
            add(["-drive", &drive]);
            add(["-device", "virtio-blk-pci,drive=seed"]);
        }
        if let Some(clock) = &self.clock {
            add(["-rtc", &format!("base={clock},clock=vm")]);
        }
        if self.watchdog {
            add(["-device", "i6300esb"]);
            add(["-action", "watchdog=reset"]);
        }
        if let Some(card) = self.second_card {
            arguments.extend(card.arguments());
        }
        Ok(arguments)
    }

    /// The NVMe disk, behind QEMU's fault injection when sectors are to fail.
    fn disk(&self, folder: &Path) -> Result<Vec<String>> {
        let image = folder.join("disk.qcow2").display().to_string();
        let cache = if self.durable { "writeback" } else { "unsafe" };
        let mut drive = format!("if=none,id=disk,format=qcow2,cache={cache},file={image}");
        if !self.bad_sectors.is_empty() {
            let file = folder.join("blkdebug.conf");
            fs::write(&file, self.bad_sectors.iter().map(BadSector::rule).collect::<String>())?;
            drive = format!(
                "if=none,id=disk,driver=blkdebug,cache={cache},config={},image.driver=qcow2,\
                 image.file.driver=file,image.file.filename={image}",
                file.display()
            );
        }
        let device = "nvme,serial=slipway,drive=disk";
        Ok(["-drive", &drive, "-device", device].map(str::to_owned).into())
    }
}

impl BadSector {
    /// A rule of blkdebug that is in force from the start (`docs/devel/blkdebug.rst` of QEMU).
    fn rule(&self) -> String {
        let kind = match self.access {
            Access::Read => "read",
            Access::Write => "write",
        };
        format!(
            "[inject-error]\nevent = \"none\"\niotype = \"{kind}\"\nsector = \"{}\"\n\
             errno = \"5\"\nonce = \"off\"\n\n",
            self.offset / 512
        )
    }
}
