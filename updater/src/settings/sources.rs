//! Where settings come from when a slot has none.
//!
//! In: the folder with the machine's credential, a seed disk. Out: checked settings and their
//! [`Origin`]. Clouds are asked by [`MetadataService`](super::MetadataService), once the network
//! is up. A virtual machine gives the credential as an SMBIOS string of type 11,
//! `io.systemd.credential:slipway.settings=…` (or `io.systemd.credential.binary:…` in Base64), or by
//! QEMU's fw_cfg, see [`take_credential`](super::take_credential); the seed disk is one of cloud-init's NoCloud form, whose `user-data` starts with
//! [`USER_DATA_MARK`] and goes on with the settings. **Invariant:** the credential goes first,
//! and each source is read up to the bound of settings and no further.

use std::fmt;
use std::path::PathBuf;

use contract::node::settings::MAX_SETTINGS_BYTES;

use super::{Cloud, NodeSettings, SettingsError};
use crate::effects::SeedDisk;
use crate::effects::seed::read_bounded;

/// Name of the credential.
pub const CREDENTIAL: &str = "slipway.settings";
/// Beside it, or in its place: why it cannot be taken.
pub(super) const REFUSAL: &str = "refusal";
/// First line of user data that are for Slipway.
pub const USER_DATA_MARK: &str = "#slipway-settings";
/// Longest user data that are read: settings, with the mark and its line end on top.
pub(super) const MAX_USER_DATA_BYTES: usize =
    MAX_SETTINGS_BYTES as usize + USER_DATA_MARK.len() + "\r\n".len();

/// Where settings came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The state partition.
    Kept,
    /// The machine's credential.
    Credential,
    /// A seed disk.
    SeedDisk,
    /// A cloud's metadata service.
    Cloud(Cloud),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Kept => f.write_str("the state partition"),
            Origin::Credential => f.write_str("the credential slipway.settings"),
            Origin::SeedDisk => f.write_str("the seed disk"),
            Origin::Cloud(cloud) => write!(f, "{cloud}'s metadata service"),
        }
    }
}

/// What can give settings.
pub struct Sources<'a> {
    /// Folder with the machine's credential, when one is looked for.
    pub credentials: Option<PathBuf>,
    /// The seed disk.
    pub seed: &'a dyn SeedDisk,
}

impl Sources<'_> {
    /// The settings of the first source that has any.
    ///
    /// # Errors
    /// [`SettingsError`] when a source is there and cannot be read, or is refused.
    pub fn first(&self) -> Result<Option<(NodeSettings, Origin)>, SettingsError> {
        let (given, origin) = match self.credential()? {
            Some(bytes) => (bytes, Origin::Credential),
            None => match self.seed.user_data().map_err(SettingsError::Seed)? {
                Some(bytes) => (behind_mark(&bytes, Origin::SeedDisk)?.to_vec(), Origin::SeedDisk),
                None => return Ok(None),
            },
        };
        settings_of(given, origin).map(|settings| Some((settings, origin)))
    }

    fn credential(&self) -> Result<Option<Vec<u8>>, SettingsError> {
        let Some(folder) = &self.credentials else { return Ok(None) };
        let read = |name| read_bounded(&folder.join(name)).map_err(SettingsError::Credential);
        if let Some(reason) = read(REFUSAL)? {
            return Err(SettingsError::Refused(String::from_utf8_lossy(&reason).into_owned()));
        }
        read(CREDENTIAL)
    }
}

/// Checks what a source gave.
pub(super) fn settings_of(bytes: Vec<u8>, origin: Origin) -> Result<NodeSettings, SettingsError> {
    NodeSettings::from_bytes(bytes).map_err(|source| SettingsError::Given { origin, source })
}

/// What stands behind the first line of user data, which is the mark.
pub(super) fn behind_mark(bytes: &[u8], origin: Origin) -> Result<&[u8], SettingsError> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (first, rest) = bytes.split_at(end);
    if rest.is_empty() || first.trim_ascii_end() != USER_DATA_MARK.as_bytes() {
        return Err(SettingsError::UserData { origin });
    }
    Ok(rest)
}
