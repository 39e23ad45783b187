//! Where settings come from when a slot has none.
//!
//! In: systemd's credentials folder, a seed disk. Out: checked settings and their
//! [`Origin`]. A virtual machine gets the credential as an SMBIOS string of type 11,
//! `io.systemd.credential:slipway.settings=…` (or `io.systemd.credential.binary:…` in Base64);
//! the seed disk is one of cloud-init's NoCloud form, whose `user-data` starts with
//! [`USER_DATA_MARK`] and goes on with the settings. **Invariant:** the credential goes first,
//! and each source is read up to the bound of settings and no further.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use release::settings::MAX_SETTINGS_BYTES;

use super::{NodeSettings, SeedDisk, SettingsError};

/// Name of the credential.
pub const CREDENTIAL: &str = "slipway.settings";
/// First line of a seed disk's `user-data`.
pub const USER_DATA_MARK: &str = "#slipway-settings";

/// Where settings came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The state partition.
    Kept,
    /// A credential of systemd.
    Credential,
    /// A seed disk.
    SeedDisk,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Kept => "the state partition",
            Origin::Credential => "the credential slipway.settings",
            Origin::SeedDisk => "the seed disk",
        })
    }
}

/// What can give settings.
pub struct Sources<'a> {
    /// Value of `$CREDENTIALS_DIRECTORY`, when it is set.
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
        let path = self.credentials.as_ref().map(|folder| folder.join(CREDENTIAL));
        let credential = path.as_deref().map_or(Ok(None), read_bounded);
        if let Some(bytes) = credential.map_err(SettingsError::Credential)? {
            return checked(bytes, Origin::Credential);
        }
        let Some(bytes) = self.seed.user_data().map_err(SettingsError::Seed)? else {
            return Ok(None);
        };
        checked(user_data(bytes)?, Origin::SeedDisk)
    }
}

fn checked(
    bytes: Vec<u8>,
    origin: Origin,
) -> Result<Option<(NodeSettings, Origin)>, SettingsError> {
    match NodeSettings::from_bytes(bytes) {
        Ok(settings) => Ok(Some((settings, origin))),
        Err(source) => Err(SettingsError::Given { origin, source }),
    }
}

/// What stands behind the first line.
fn user_data(bytes: Vec<u8>) -> Result<Vec<u8>, SettingsError> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(SettingsError::UserData)?;
    let (first, rest) = bytes.split_at(end);
    if first.trim_ascii_end() != USER_DATA_MARK.as_bytes() {
        return Err(SettingsError::UserData);
    }
    Ok(rest.to_vec())
}

/// The content of a file, cut off one byte behind the bound so that its check notices; `None`
/// when there is no such file.
pub(super) fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // The mark of a seed disk comes on top.
    let bound = MAX_SETTINGS_BYTES + USER_DATA_MARK.len() as u64 + 2;
    let mut bytes = Vec::new();
    file.take(bound + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
