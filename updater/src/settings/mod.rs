//! The settings of this node: where they come from at the first boot, and where they are kept.
//!
//! In: a credential, a seed disk or a cloud's user data, once; later the node's API. Out:
//! [`NodeSettings`], and the files that systemd's network and time services and kubelet read. Each
//! slot has a copy of its own, `settings-a.json` and `settings-b.json`, and reads and writes only
//! that one: a node that falls back has the settings that its old release knew, also when the new
//! ones were what broke it. The copy of the other slot is made when that slot is armed.
//!
//! **Invariant:** what is kept are the bytes as they were given, after a check of all of them: a
//! document of an older schema is brought up to date each time it is read, so that an older release
//! can still read its copy; sources other than the API are asked only by a slot that has no
//! settings.

use std::fmt;
use std::io;

use contract::node::settings::{InvalidSettings, MAX_SETTINGS_BYTES, Settings};
use contract::{Digest, Slot};

use crate::effects::{BootedSlot, SeedError, StateStore};

mod changes;
mod cloud;
mod firmware;
mod hostname;
mod keeper;
mod kubelet;
mod registries;
mod render;
mod sources;

pub use changes::changed_fields;
pub use cloud::{Cloud, MetadataError, MetadataService};
pub use firmware::{CREDENTIALS, FirmwareError, take_credential};
pub use hostname::{HostNameError, apply_hostname};
pub use keeper::{Keeper, Lack, LackKind, Taken};
pub use render::{ConfigureError, RuntimeFolders, Unit, affected, configure_kubelet, render};
pub use sources::{CREDENTIAL, Origin, Sources, USER_DATA_MARK};

/// Checked settings, and the bytes that they came from. The bytes hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeSettings {
    bytes: Vec<u8>,
    schema: u32,
    settings: Settings,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Those that were given.
    #[error("the settings from {origin} are refused: correct them, and restart the node")]
    Given {
        /// Where they came from.
        origin: Origin,
        /// What is wrong.
        #[source]
        source: InvalidSettings,
    },
    /// User data that are for something else.
    #[error("the user data from {origin} are not ours: start them with the line {USER_DATA_MARK}")]
    UserData {
        /// Where they came from.
        origin: Origin,
    },
    /// A cloud's metadata service.
    #[error("{cloud}'s metadata service {problem}")]
    Cloud {
        /// Whose.
        cloud: Cloud,
        /// What it does.
        problem: MetadataError,
    },
    /// Those that were kept.
    #[error(
        "the settings of slot {slot} cannot be used by this release: give new ones with `slipway \
         node settings set`"
    )]
    Kept {
        /// Whose.
        slot: Slot,
        /// What is wrong.
        #[source]
        source: InvalidSettings,
    },
    /// The credential is there and cannot be read.
    #[error("cannot read the credential {CREDENTIAL}")]
    Credential(#[source] io::Error),
    /// The machine gives a credential that cannot be taken.
    #[error("the credential {CREDENTIAL} cannot be taken: {0}: correct it, and restart the node")]
    Refused(String),
    /// The seed disk is there and cannot be read.
    #[error("cannot read the seed disk")]
    Seed(#[source] SeedError),
    /// The state partition.
    #[error("cannot {action} the settings of slot {slot}: check the state partition")]
    State {
        /// What was tried.
        action: &'static str,
        /// Whose.
        slot: Slot,
        /// What the partition says.
        #[source]
        source: io::Error,
    },
}

impl SettingsError {
    /// A thread that worked on the state partition ended before it was done.
    fn ended_early(
        action: &'static str,
        booted: BootedSlot,
        error: tokio::task::JoinError,
    ) -> Self {
        SettingsError::State { action, slot: booted.slot(), source: io::Error::other(error) }
    }

    /// Nobody answered; somebody may soon.
    pub fn is_silence(&self) -> bool {
        matches!(self, SettingsError::Cloud { problem: MetadataError::Silent(_), .. })
    }
}

impl NodeSettings {
    /// Checks a document.
    ///
    /// # Errors
    /// [`InvalidSettings`], with the field and the next step.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, InvalidSettings> {
        let (settings, schema) = (Settings::from_json(&bytes)?, Settings::schema_of(&bytes)?);
        Ok(Self { bytes, schema, settings })
    }

    /// The schema that the document was given in.
    pub fn schema(&self) -> u32 {
        self.schema
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells two documents apart without showing either.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

impl fmt::Debug for NodeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeSettings").field("digest", &self.digest()).finish_non_exhaustive()
    }
}

fn document(slot: Slot) -> String {
    format!("settings-{slot}.json")
}

/// The settings of the running slot; none when it never had any.
///
/// # Errors
/// [`SettingsError::Kept`] or [`SettingsError::State`].
pub fn load(
    state: &dyn StateStore,
    booted: BootedSlot,
) -> Result<Option<NodeSettings>, SettingsError> {
    let slot = booted.slot();
    match state.load(&document(slot)) {
        Ok(Some(bytes)) => NodeSettings::from_bytes(bytes)
            .map(Some)
            .map_err(|source| SettingsError::Kept { slot, source }),
        Ok(None) => Ok(None),
        Err(source) => Err(SettingsError::State { action: "read", slot, source }),
    }
}

/// Replaces the settings of the running slot. Does not put them into force.
///
/// # Errors
/// [`SettingsError::State`]; the old settings are then still there.
pub fn save(
    state: &dyn StateStore,
    booted: BootedSlot,
    settings: &NodeSettings,
) -> Result<(), SettingsError> {
    let slot = booted.slot();
    state.save(&document(slot), &settings.bytes).map_err(|source| SettingsError::State {
        action: "keep",
        slot,
        source,
    })
}

/// The settings of the running slot or, when it has none, those of the sources, which are
/// then kept. None when nobody gave any.
///
/// # Errors
/// [`SettingsError`]. A source is never passed over because it is wrong.
pub fn load_or_take(
    state: &dyn StateStore,
    booted: BootedSlot,
    sources: &Sources<'_>,
) -> Result<Option<(NodeSettings, Origin)>, SettingsError> {
    if let Some(settings) = load(state, booted)? {
        return Ok(Some((settings, Origin::Kept)));
    }
    let Some((settings, origin)) = sources.first()? else { return Ok(None) };
    save(state, booted, &settings)?;
    Ok(Some((settings, origin)))
}

/// The settings of the running slot or, when it has none, those of the sources. Keeps nothing.
///
/// # Errors
/// [`SettingsError`].
fn present(
    state: &dyn StateStore,
    booted: BootedSlot,
    sources: &Sources<'_>,
) -> Result<Option<NodeSettings>, SettingsError> {
    match load(state, booted)? {
        Some(settings) => Ok(Some(settings)),
        None => Ok(sources.first()?.map(|(settings, _)| settings)),
    }
}

/// Gives the target slot the settings of the running one, before the target is armed. They are
/// copied as they are, also when this release cannot read them.
///
/// # Errors
/// [`SettingsError::State`]; the target must then not be armed.
pub fn copy_for_target(state: &dyn StateStore, booted: BootedSlot) -> Result<(), SettingsError> {
    let (from, to) = (booted.slot(), booted.target().slot());
    let failed = |action, slot| move |source| SettingsError::State { action, slot, source };
    match state.load(&document(from)).map_err(failed("read", from))? {
        // Over the bound it could not be read back: keep the slot without settings.
        Some(bytes) if bytes.len() as u64 <= MAX_SETTINGS_BYTES => {
            state.save(&document(to), &bytes).map_err(failed("keep", to))
        }
        // Settings of an installation long ago are worse than none.
        _ => state.remove(&document(to)).map_err(failed("remove", to)),
    }
}

#[cfg(test)]
mod tests;
