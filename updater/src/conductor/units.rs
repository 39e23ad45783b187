//! The services that read what is made from the settings.
//!
//! In: settings. Out: files below `/run`, and the services that were restarted for them.
//! **Invariant:** a service is restarted only when what it reads is another; kubelet is not waited
//! for.

use std::io;

use contract::node::settings::Settings;

use crate::effects::{Effects, UnitOrder};
use crate::settings::{self, RuntimeFolders, Unit};

/// Gives the kernel the host name of the settings: this program may not.
const HOSTNAME_UNIT: &str = "slipway-hostname.service";

/// Writes what network and time services and kubelet read, and restarts those that must read it
/// again, which it gives.
///
/// # Errors
/// When a file cannot be written; nothing is restarted then.
pub async fn adjust(
    effects: &Effects,
    folders: &RuntimeFolders,
    settings: &Settings,
) -> io::Result<Vec<Unit>> {
    let units = settings::render(folders, settings)?;
    let renamed = renames(effects, settings);
    let restarts = with_kubelet(units.clone(), renamed);
    let mut orders = Vec::new();
    if renamed {
        orders.push((UnitOrder::Restart, HOSTNAME_UNIT));
    }
    let (kubelet, others): (Vec<_>, Vec<_>) =
        units.into_iter().partition(|unit| *unit == Unit::Kubelet);
    orders.extend(others.into_iter().map(|unit| (UnitOrder::TryRestart, unit.name())));
    // kubelet did not start when the settings before these could not be used. It waits for much
    // itself, so it is not waited for.
    let is_same = kubelet.is_empty() && !renamed;
    let order = if is_same { UnitOrder::BeginStart } else { UnitOrder::BeginRestart };
    orders.push((order, Unit::Kubelet.name()));
    for (order, name) in orders {
        let verb = order.verb();
        match effects.services.order(order, name).await {
            Ok(()) => tracing::info!(unit = name, "slipway: {verb} for the settings"),
            Err(error) => tracing::error!(unit = name, %error, "cannot {verb}"),
        }
    }
    Ok(restarts)
}

/// The services that [`adjust`] would restart. Changes nothing.
///
/// # Errors
/// When what they read cannot be read.
pub fn affected(
    effects: &Effects,
    folders: &RuntimeFolders,
    settings: &Settings,
) -> io::Result<Vec<Unit>> {
    let units = settings::affected(folders, settings)?;
    Ok(with_kubelet(units, renames(effects, settings)))
}

/// True when the settings give the node another name than it has.
fn renames(effects: &Effects, settings: &Settings) -> bool {
    let name = effects.membership.host_name();
    settings.hostname.as_ref().is_some_and(|wanted| *wanted != name)
}

/// Another name for the node restarts kubelet too.
fn with_kubelet(mut units: Vec<Unit>, renamed: bool) -> Vec<Unit> {
    if renamed && !units.contains(&Unit::Kubelet) {
        units.push(Unit::Kubelet);
    }
    units
}
