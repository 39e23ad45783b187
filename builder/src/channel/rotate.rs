//! Other keys for a channel, or a longer life for its root.
//!
//! A key in the root is replaced in three steps, each of which leaves a whole channel: the root
//! names the old key and the new one; the role is signed with the new one; the root names the
//! new one alone. So a reader never meets a role that its root does not know, and no command
//! needs an old key that was lost.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tough::ExpirationEnforcement;
use tough::schema::{RoleType, Root};

use super::ChannelError;
use super::client::Files;
use super::commit::{Change, Lifetimes, Signing, commit, expires, metadata_file, next, trusts};
use super::folder::Folder;
use super::init::{RootKeys, root};
use super::metadata::{self, PublicKey};
use super::roles::TargetsRole;
use super::state::State;
use crate::signing::keys::{ChannelKey, ChannelKeys, KeyError, public_key};
use crate::signing::signer::ReleaseSigner;

/// What is rotated, and which keys are at hand.
#[derive(Debug, Clone)]
pub struct RotateRequest {
    /// The present keys that must sign.
    pub keys: PathBuf,
    /// The folder with the new keys; only with `roles`.
    pub new_keys: Option<PathBuf>,
    /// Keys that are replaced; none only makes a root that lives longer.
    pub roles: BTreeSet<ChannelKey>,
    /// How long what is signed counts.
    pub lifetimes: Lifetimes,
}

/// Replaces keys; gives the version of the root.
///
/// # Errors
/// [`ChannelError`]; the channel is whole in any case, and another run goes on.
pub async fn rotate(
    folder: &Folder,
    request: &RotateRequest,
    now: Timestamp,
) -> Result<u64, ChannelError> {
    let rotation = Rotation { request, folder, now };
    rotation.check_new_keys().await?;
    rotation.check_keys().await?;
    if request.roles.iter().any(|key| rotation.new_role(*key)) {
        rotation.add_keys().await?;
        rotation.sign_roles().await?;
    }
    rotation.finish().await?;
    Ok(rotation.state().await?.root.signed.version.get())
}

struct Rotation<'a> {
    request: &'a RotateRequest,
    folder: &'a Folder,
    now: Timestamp,
}

impl Rotation<'_> {
    async fn state(&self) -> Result<State, ChannelError> {
        State::load(self.folder.path(), ExpirationEnforcement::Unsafe).await
    }

    fn signing<'k>(&self, keys: &'k ChannelKeys) -> Signing<'k> {
        let (lifetimes, now) = (self.request.lifetimes, self.now);
        Signing { keys, lifetimes, now, expiry: ExpirationEnforcement::Unsafe }
    }

    /// True for a key that does not sign roots.
    fn new_role(&self, key: ChannelKey) -> bool {
        self.request.roles.contains(&key) && !ChannelKey::ROOTS.contains(&key)
    }

    /// The folder that holds the key after the rotation.
    fn folder_of(&self, key: ChannelKey) -> &Path {
        match &self.request.new_keys {
            Some(folder) if self.request.roles.contains(&key) => folder,
            _ => &self.request.keys,
        }
    }

    /// Throw-away keys must not get into a real channel unseen, and no key is replaced by itself:
    /// whoever is told to destroy the old one would destroy the only one.
    async fn check_new_keys(&self) -> Result<(), ChannelError> {
        let Some(folder) = &self.request.new_keys else { return Ok(()) };
        let wanted: Vec<_> = self.request.roles.iter().copied().collect();
        if !folder.is_dir() {
            return Err(KeyError::NoFolder { folder: folder.clone(), option: "--new" }.into());
        }
        let new = ChannelKeys::open_present(folder, &wanted)?;
        if new.is_development() != self.state().await?.is_development() {
            return Err(ChannelError::MixedKeys);
        }
        for key in wanted {
            // The old one may be lost.
            let old = public_key(&self.request.keys, key).ok();
            if old == Some(public_key(folder, key)?) {
                return Err(ChannelError::SameKey { name: key.stem() });
            }
        }
        Ok(())
    }

    /// All keys but the root's, which come first, are there and right: a rotation that stops
    /// half-way leaves a root that names the old key and the new one.
    async fn check_keys(&self) -> Result<(), ChannelError> {
        let state = self.state().await?;
        for key in self.request.roles.iter().filter(|key| ChannelKey::ROOTS.contains(key)) {
            let old = public_key(&self.request.keys, *key)?;
            let new = public_key(self.folder_of(*key), *key)?;
            if !trusts(&state, *key, &old)? && !trusts(&state, *key, &new)? {
                return Err(self.wrong_key(*key));
            }
        }
        for key in self.role_signers() {
            let keys = ChannelKeys::open(self.folder_of(key), &[key])?;
            let public = keys.signer(key)?.public_key();
            if !self.new_role(key) && !trusts(&state, key, &public)? {
                return Err(self.wrong_key(key));
            }
        }
        Ok(())
    }

    /// The keys that step 2 signs with; none when only keys of the root are replaced.
    fn role_signers(&self) -> BTreeSet<ChannelKey> {
        let mut signers: BTreeSet<_> =
            self.request.roles.iter().copied().filter(|key| self.new_role(*key)).collect();
        if signers.is_empty() {
            return signers;
        }
        signers.extend([ChannelKey::Snapshot, ChannelKey::Timestamp]);
        if self.new_role(ChannelKey::Releases) || self.new_role(ChannelKey::Groups) {
            signers.insert(ChannelKey::Targets);
        }
        signers
    }

    /// The root's lists of keys that are replaced, each with its new key; but for roots.
    fn renewed<'k>(
        &self,
        keys: &'k mut RootKeys,
    ) -> Result<Vec<(&'k mut Vec<PublicKey>, PublicKey)>, ChannelError> {
        let lists = [
            (ChannelKey::Targets, &mut keys.targets),
            (ChannelKey::Snapshot, &mut keys.snapshot),
            (ChannelKey::Timestamp, &mut keys.timestamp),
        ];
        let renewed = lists.into_iter().filter(|(key, _)| self.new_role(*key));
        renewed.map(|(key, list)| Ok((list, public_key(self.folder_of(key), key)?))).collect()
    }

    /// Step 1: the root names old and new keys.
    async fn add_keys(&self) -> Result<(), ChannelError> {
        let state = self.state().await?;
        let mut keys = present_keys(&state.root.signed);
        for (list, new) in self.renewed(&mut keys)? {
            if !list.contains(&new) {
                list.push(new);
            }
        }
        if keys == present_keys(&state.root.signed) {
            return Ok(());
        }
        let signers = ChannelKeys::open_roots(&self.request.keys)?;
        self.write_root(&state, &keys, &[&signers]).await
    }

    /// Step 2: roles are signed with the new keys. A new key of a delegated role is named by
    /// the top-level targets, which one snapshot puts in place together with the role.
    async fn sign_roles(&self) -> Result<(), ChannelError> {
        let state = self.state().await?;
        let mut change = Change::default();
        for role in TargetsRole::ALL.into_iter().filter(|role| self.new_role(role.key())) {
            change.role(role, &state);
        }
        let delegated = [ChannelKey::Releases, ChannelKey::Groups];
        if delegated.iter().any(|key| self.new_role(*key)) {
            let [releases, groups] = delegated.map(|key| self.delegated_key(&state, key));
            let delegations = metadata::delegations(&releases?, &groups?)?;
            change.role(TargetsRole::Targets, &state).delegations = Some(delegations);
        }
        let signers = self.role_signers().into_iter();
        let keys = ChannelKeys::open_each(signers.map(|key| (key, self.folder_of(key))))?;
        let signing = self.signing(&keys);
        commit(self.folder, &state, change, &signing).await
    }

    /// The key of a delegated role after the rotation.
    fn delegated_key(&self, state: &State, key: ChannelKey) -> Result<PublicKey, ChannelError> {
        if self.new_role(key) {
            return Ok(public_key(self.folder_of(key), key)?);
        }
        let name =
            if key == ChannelKey::Releases { TargetsRole::Releases } else { TargetsRole::Groups };
        let delegations = state.targets.delegations.as_ref();
        let role = delegations.and_then(|all| all.roles.iter().find(|r| r.name == name.name()));
        let found = delegations
            .zip(role)
            .and_then(|(all, role)| role.keyids.iter().find_map(|id| raw_key(all.keys.get(id)?)));
        found.ok_or(ChannelError::NoRole(name.name()))
    }

    /// Step 3: the root names the new keys alone.
    async fn finish(&self) -> Result<(), ChannelError> {
        let state = self.state().await?;
        let mut keys = present_keys(&state.root.signed);
        for (list, new) in self.renewed(&mut keys)? {
            *list = vec![new];
        }
        for key in ChannelKey::ROOTS.into_iter().filter(|key| self.request.roles.contains(key)) {
            let old = public_key(&self.request.keys, key)?;
            let new = public_key(self.folder_of(key), key)?;
            keys.root.iter_mut().filter(|known| **known == old).for_each(|known| *known = new);
            if !keys.root.contains(&new) {
                return Err(self.wrong_key(key));
            }
        }
        let delegated_only = self
            .request
            .roles
            .iter()
            .all(|key| [ChannelKey::Releases, ChannelKey::Groups].contains(key));
        let renew = self.request.roles.is_empty();
        if !renew && (delegated_only || keys == present_keys(&state.root.signed)) {
            return Ok(());
        }
        let old = ChannelKeys::open_roots(&self.request.keys)?;
        let new_roots: Vec<_> =
            ChannelKey::ROOTS.into_iter().filter(|key| self.request.roles.contains(key)).collect();
        match &self.request.new_keys {
            Some(folder) if !new_roots.is_empty() => {
                let new = ChannelKeys::open_present(folder, &new_roots)?;
                self.write_root(&state, &keys, &[&old, &new]).await
            }
            _ => self.write_root(&state, &keys, &[&old]).await,
        }
    }

    fn wrong_key(&self, key: ChannelKey) -> ChannelError {
        ChannelError::WrongKey { folder: self.request.keys.clone(), name: key.stem() }
    }

    /// One file, so that readers have the old root or the new one.
    async fn write_root(
        &self,
        state: &State,
        keys: &RootKeys,
        signers: &[&ChannelKeys],
    ) -> Result<(), ChannelError> {
        let present = &state.root.signed;
        let version = next(present.version)?;
        let expires = expires(self.now, self.request.lifetimes.root)?;
        let content = root(version, expires, keys, state.is_development())?;
        let mut all: Vec<&dyn ReleaseSigner> = Vec::new();
        for (key, signer) in signers.iter().flat_map(|keys| keys.signers()) {
            let public = signer.public_key();
            let counts = keys.root.contains(&public) || trusts(state, key, &public)?;
            if counts && all.iter().all(|known| known.public_key() != public) {
                all.push(signer);
            }
        }
        let name = metadata_file("root", version);
        let bytes = metadata::sign(&content, &all)?;
        let next = Files::from([(name.clone(), bytes.clone())]);
        state.accepts(next, ExpirationEnforcement::Unsafe).await?;
        self.folder.write(&name, &bytes)?;
        self.folder.sync([name.as_str()])
    }
}

/// The public keys that a root names.
fn present_keys(root: &Root) -> RootKeys {
    let of = |role: RoleType| root.keys(role).filter_map(raw_key).collect();
    RootKeys {
        root: of(RoleType::Root),
        targets: of(RoleType::Targets),
        snapshot: of(RoleType::Snapshot),
        timestamp: of(RoleType::Timestamp),
    }
}

fn raw_key(key: &tough::schema::key::Key) -> Option<PublicKey> {
    match key {
        tough::schema::key::Key::Ed25519 { keyval, .. } => keyval.public.as_ref().try_into().ok(),
        _ => None,
    }
}
