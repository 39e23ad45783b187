//! The disk as builder, boot chain and updater know it: slots, labels, types and sizes.
//!
//! Partition types follow the Discoverable Partitions Specification (UAPI group).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes in one MiB.
pub const MIB: u64 = 1 << 20;
/// Size of the EFI system partition: room for two UKIs of each of three generations.
pub const ESP_BYTES: u64 = 1024 * MIB;
/// Size of each root partition; the erofs image must fit.
pub const ROOT_BYTES: u64 = 1024 * MIB;
/// Size of each verity partition: superblock and SHA-256 tree of a full root (1/127) fit.
pub const VERITY_BYTES: u64 = 16 * MIB;
/// dm-verity data and hash block size, and erofs block size, in bytes.
pub const BLOCK_BYTES: u64 = 4096;

/// GPT type of the EFI system partition.
pub const ESP_TYPE: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// PARTLABEL of the EFI system partition.
pub const ESP_LABEL: &str = "esp";
/// PARTLABEL of the state partition, mounted at /var.
pub const STATE_LABEL: &str = "state";
/// GPT type of the state partition (`var`).
pub const STATE_TYPE: &str = "4d21b016-b534-45c2-a9fb-5c16e091fd2d";

/// Folder in which a node's udev names the partitions of the disk that the loader came from, each by
/// its PARTLABEL, and that disk itself as `disk`.
pub const DEVICES: &str = "/dev/disk/slipway";

/// Folder on the ESP that systemd-boot searches for UKIs.
pub const ESP_UKI_DIR: &str = "EFI/Linux";

/// One of the two places that a release can be installed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The slot that an image file carries.
    A,
    /// The slot that the first boot creates.
    B,
}

impl Slot {
    /// Both slots, in the order of the partition table.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// The lower-case letter that names the slot in labels and file names.
    pub fn letter(self) -> char {
        match self {
            Slot::A => 'a',
            Slot::B => 'b',
        }
    }

    /// PARTLABEL of the slot's root partition.
    pub fn root_label(self) -> String {
        format!("root-{}", self.letter())
    }

    /// PARTLABEL of the slot's hash tree partition.
    pub fn verity_label(self) -> String {
        format!("verity-{}", self.letter())
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

/// The processor family that a release runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Architecture {
    /// 64-bit x86, `amd64` to Debian and Go.
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Architecture; 1] = [Architecture::X86_64];

    /// Debian's and Go's name.
    pub fn debian(self) -> &'static str {
        match self {
            Architecture::X86_64 => "amd64",
        }
    }

    /// GPT type of a root partition.
    pub fn root_type(self) -> &'static str {
        match self {
            Architecture::X86_64 => "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
        }
    }

    /// GPT type of a root verity partition.
    pub fn verity_type(self) -> &'static str {
        match self {
            Architecture::X86_64 => "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Architecture::X86_64 => f.write_str("x86_64"),
        }
    }
}
