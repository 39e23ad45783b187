//! What must be signed again before it expires.

use std::path::Path;

use jiff::Timestamp;
use tough::ExpirationEnforcement;

use super::ChannelError;
use super::commit::{Change, Lifetimes, Signing, commit};
use super::folder::Folder;
use super::roles::TargetsRole;
use super::state::State;
use crate::signing::keys::{ChannelKey, ChannelKeys};

/// Signs a new timestamp and snapshot, and those roles again that have less than half of
/// their time left and whose keys are in the folder. Gives the names of these roles.
///
/// # Errors
/// [`ChannelError`]; readers see the channel as it was then.
pub async fn refresh(
    folder: &Folder,
    key_folder: &Path,
    lifetimes: Lifetimes,
    now: Timestamp,
) -> Result<Vec<&'static str>, ChannelError> {
    let always = [ChannelKey::Snapshot, ChannelKey::Timestamp];
    let present = ChannelKeys::open_present(key_folder, &TargetsRole::ALL.map(TargetsRole::key))?;
    let wanted = present.signers().map(|(key, _)| key).chain(always);
    let keys = ChannelKeys::open(key_folder, &wanted.collect::<Vec<_>>())?;
    let state = State::load(folder.path(), ExpirationEnforcement::Unsafe).await?;
    let signing = Signing { keys: &keys, lifetimes, now, expiry: ExpirationEnforcement::Unsafe };
    let half = signing.expires(lifetimes.documents / 2)?;
    let mut change = Change::default();
    let mut renewed = Vec::new();
    for role in TargetsRole::ALL {
        if state.role(role).expires < half && keys.signer(role.key()).is_ok() {
            change.role(role, &state);
            renewed.push(role.name());
        }
    }
    commit(folder, &state, change, &signing).await?;
    Ok(renewed)
}
