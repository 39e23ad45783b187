//! The node's name, at its boot: before the network asks for an address under it, and before
//! kubelet takes it for its node. Only a seed disk may be mounted later than that, because
//! nothing waits for it: then slipwayd has the name set once it has taken the settings.
//!
//! In: the settings of the running slot, or else those that a first boot is given. Out: the
//! kernel's host name. **Invariant:** nothing is kept here; `slipwayd run` takes the settings.

use std::io;

use super::{SettingsError, Sources, present};
use crate::effects::{BootedSlot, HostName, StateStore};

/// Why the host name is not the one of the settings.
#[derive(Debug, thiserror::Error)]
pub enum HostNameError {
    /// There are settings, and they cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The kernel does not take it.
    #[error(
        "cannot set the host name {name}: see `slipway node logs --unit slipway-hostname.service`"
    )]
    Kernel {
        /// The name.
        name: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// Gives the kernel the host name of the settings. Gives back the name if it was another.
///
/// # Errors
/// [`HostNameError`]; the host name is then as it was.
pub fn apply_hostname(
    state: &dyn StateStore,
    booted: BootedSlot,
    sources: &Sources<'_>,
    kernel: &dyn HostName,
) -> Result<Option<String>, HostNameError> {
    let settings = present(state, booted, sources)?;
    let Some(name) = settings.and_then(|settings| settings.settings().hostname.clone()) else {
        return Ok(None);
    };
    if kernel.name() == name {
        return Ok(None);
    }
    match kernel.rename(&name) {
        Ok(()) => Ok(Some(name)),
        Err(source) => Err(HostNameError::Kernel { name, source }),
    }
}
