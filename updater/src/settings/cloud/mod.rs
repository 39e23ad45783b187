//! The cloud that a machine is in, and what its metadata service has for it.
//!
//! In: what the firmware says (SMBIOS, which the kernel shows as DMI). Out: a [`Cloud`], and its
//! [`MetadataService`]. **Invariant:** a machine whose firmware names none of these clouds asks
//! nobody: its network may have anything at the address of such services.

use std::fmt;
use std::fs;
use std::path::Path;

mod metadata;
#[cfg(test)]
mod tests;

pub use metadata::{MetadataError, MetadataService};

/// Where the kernel shows what the firmware says.
const DMI: &str = "/sys/class/dmi/id";

/// A cloud whose metadata service is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon EC2, on machines of its Nitro system.
    AmazonEc2,
    /// Google Compute Engine.
    GoogleComputeEngine,
    /// Microsoft Azure.
    Azure,
    /// OpenStack, under whatever name it is sold.
    OpenStack,
}

/// Files below [`DMI`] and the values that tell a cloud, as cloud-init's `ds-identify` has them;
/// that of EC2 is Amazon's ("Detect whether a host is an EC2 instance").
const SIGNS: [(Cloud, &str, &str); 10] = [
    (Cloud::AmazonEc2, "sys_vendor", "Amazon EC2"),
    (Cloud::GoogleComputeEngine, "product_name", "Google Compute Engine"),
    (Cloud::Azure, "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
    (Cloud::OpenStack, "product_name", "OpenStack Nova"),
    (Cloud::OpenStack, "product_name", "OpenStack Compute"),
    (Cloud::OpenStack, "chassis_asset_tag", "OpenStack Nova"),
    (Cloud::OpenStack, "chassis_asset_tag", "OpenStack Compute"),
    (Cloud::OpenStack, "chassis_asset_tag", "OpenTelekomCloud"),
    (Cloud::OpenStack, "chassis_asset_tag", "SAP CCloud VM"),
    (Cloud::OpenStack, "chassis_asset_tag", "HUAWEICLOUD"),
];

impl Cloud {
    /// The cloud of this machine, if it is in one.
    pub fn of_this_machine() -> Option<Self> {
        Self::named_in(Path::new(DMI))
    }

    /// The cloud that the files of `folder` name. One that cannot be read names none.
    fn named_in(folder: &Path) -> Option<Self> {
        let says = |file: &str, value: &str| {
            fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim() == value)
        };
        SIGNS.iter().find(|(_, file, value)| says(file, value)).map(|(cloud, ..)| *cloud)
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cloud::AmazonEc2 => "Amazon EC2",
            Cloud::GoogleComputeEngine => "Google Compute Engine",
            Cloud::Azure => "Azure",
            Cloud::OpenStack => "OpenStack",
        })
    }
}
