//! Who this node is, and what its image says of itself.
//!
//! In: files of the root, of `/etc` and of the kernel. Out: [`Identity`]. **Invariant:** nothing
//! here changes while the node runs, but the addresses, which are read anew.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use contract::Architecture;
use jiff::Timestamp;
use semver::Version;

use crate::channel::RunningImage;

/// Interfaces that pods bring with them.
const POD_INTERFACES: [&str; 5] = ["lo", "veth", "cni", "docker", "flannel"];

/// Why a node does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The version of this program.
    #[error("the version of this slipwayd is not SemVer")]
    Updater(#[from] semver::Error),
    /// The time of the image is out of range.
    #[error("the time of the image's os-release is out of range")]
    Built(#[from] jiff::Error),
}

/// Who this node is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Machine id, 32 hexadecimal digits.
    pub machine_id: String,
    /// Name of the image.
    pub image_name: Option<String>,
    /// What policy and the channel ask of the image.
    pub image: RunningImage,
    /// Version of this program.
    pub updater: Version,
}

impl Identity {
    /// Reads it.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn read() -> Result<Self, IdentityError> {
        let os_release = Path::new("/usr/lib/os-release");
        let text = read(os_release)?;
        let built = fs::metadata(os_release)
            .and_then(|metadata| metadata.modified())
            .map_err(|source| IdentityError::Read { path: os_release.into(), source })?;
        Ok(Self {
            machine_id: read(Path::new("/etc/machine-id"))?.trim().to_owned(),
            image_name: value(&text, "IMAGE_ID"),
            image: RunningImage {
                architecture: Architecture::X86_64,
                is_development: value(&text, "VARIANT_ID").as_deref() == Some("development"),
                built: Timestamp::try_from(built)?,
            },
            updater: env!("CARGO_PKG_VERSION").parse()?,
        })
    }

    /// The addresses of this moment, without those of pods.
    pub fn addresses() -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = local_ip_addresses()
            .into_iter()
            .filter(|(name, _)| !POD_INTERFACES.iter().any(|prefix| name.starts_with(prefix)))
            .map(|(_, address)| address)
            .collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }
}

fn local_ip_addresses() -> Vec<(String, IpAddr)> {
    let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten();
    addresses
        .filter_map(|interface| {
            let address = interface.address?;
            let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => IpAddr::V4(v4.ip()),
                (None, Some(v6)) if !v6.ip().is_unicast_link_local() => IpAddr::V6(v6.ip()),
                _ => return None,
            };
            Some((interface.interface_name, ip))
        })
        .collect()
}

fn read(path: &Path) -> Result<String, IdentityError> {
    fs::read_to_string(path).map_err(|source| IdentityError::Read { path: path.into(), source })
}

/// A value of an os-release(5).
fn value(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_with_and_without_quotes() {
        let text = "NAME=x\nIMAGE_ID=\"node\"\nIMAGE_IDENTITY=no\nVARIANT_ID=development\n";
        assert_eq!(value(text, "IMAGE_ID").as_deref(), Some("node"));
        assert_eq!(value(text, "VARIANT_ID").as_deref(), Some("development"));
        assert_eq!(value(text, "IMAGE"), None);
    }

    #[test]
    fn loopback_is_no_address_of_the_node() {
        assert!(Identity::addresses().iter().all(|address| !address.is_loopback()));
    }
}
