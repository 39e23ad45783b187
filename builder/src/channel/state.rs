//! What a channel folder holds, as a client has verified it: the roles and their documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use contract::channel::group::{InvalidGroupJson, MAX_GROUP_BYTES};
use contract::channel::{InvalidChannel, MAX_CHANNEL_BYTES, targets};
use contract::release::offer::{InvalidOffer, MAX_OFFER_BYTES};
use contract::{
    Architecture, ChannelDocument, ChannelName, Digest, GroupName, NodeGroup, Offer, ReleaseVersion,
};
use tempfile::TempDir;
use tough::ExpirationEnforcement;
use tough::schema::{Root, Signed, Snapshot, Target, Targets, Timestamp};

use super::ChannelError;
use super::client::{self, Files, FolderTransport};
use super::folder::read_bounded;
use super::roles::TargetsRole;
use super::strict;

/// The initial root, which a node's settings take, below the channel's folder.
pub const INITIAL_ROOT: &str = "root.json";
/// The file that makes everything else visible.
pub const TIMESTAMP_FILE: &str = "metadata/timestamp.json";
/// Largest `root.json` that is read, in bytes.
pub const MAX_ROOT_BYTES: u64 = 1 << 20;

/// What an offer is named by: a version, and what it runs on.
pub type OfferName = (ReleaseVersion, Architecture);

/// A verified channel.
pub struct State {
    /// The initial root, as bytes.
    pub initial_root: Vec<u8>,
    /// The current root.
    pub root: Signed<Root>,
    /// The timestamp.
    pub timestamp: Signed<Timestamp>,
    /// The snapshot.
    pub snapshot: Signed<Snapshot>,
    /// The top-level targets, without the content of its delegations.
    pub targets: Targets,
    /// The delegated role of offers.
    pub releases: Targets,
    /// The delegated role of node groups.
    pub groups: Targets,
    folder: PathBuf,
    /// What a client of this state remembers.
    datastore: TempDir,
}

impl State {
    /// Loads and verifies a folder. Expiry is left out with [`ExpirationEnforcement::Unsafe`]:
    /// what has expired must still be renewed.
    ///
    /// # Errors
    /// [`ChannelError::NotAChannel`], or [`ChannelError::Refused`] when a node would refuse it.
    pub async fn load(folder: &Path, expiry: ExpirationEnforcement) -> Result<Self, ChannelError> {
        if !folder.join(TIMESTAMP_FILE).is_file() {
            return Err(ChannelError::NotAChannel(folder.into()));
        }
        let initial_root = read_bounded(&folder.join(INITIAL_ROOT), MAX_ROOT_BYTES)?;
        Self::load_from(folder, initial_root, expiry).await
    }

    /// The same from an initial root that is not the folder's own.
    ///
    /// # Errors
    /// As [`State::load`]; [`ChannelError::Expired`] when nothing else is wrong.
    pub async fn load_from(
        folder: &Path,
        initial_root: Vec<u8>,
        expiry: ExpirationEnforcement,
    ) -> Result<Self, ChannelError> {
        match Self::verified(folder, initial_root.clone(), expiry).await {
            Err(ChannelError::Refused { source, .. }) if source.is_expiry() => {
                let late =
                    Self::verified(folder, initial_root, ExpirationEnforcement::Unsafe).await?;
                Err(late.first_expired())
            }
            result => result,
        }
    }

    /// The role that expires first, of a state in which one has expired.
    fn first_expired(&self) -> ChannelError {
        let others = [
            ("root", self.root.signed.expires),
            ("timestamp", self.timestamp.signed.expires),
            ("snapshot", self.snapshot.signed.expires),
        ];
        let first = TargetsRole::ALL.map(|role| (role.name(), self.role(role).expires));
        let first = first.into_iter().chain(others).min_by_key(|(_, expires)| *expires);
        let (role, expired) = first.unwrap_or(others[0]);
        ChannelError::Expired { folder: self.folder.clone(), role, expired }
    }

    async fn verified(
        folder: &Path,
        initial_root: Vec<u8>,
        expiry: ExpirationEnforcement,
    ) -> Result<Self, ChannelError> {
        let datastore =
            tempfile::tempdir().map_err(|error| ChannelError::Io(folder.into(), error))?;
        let transport = FolderTransport::new(folder, Files::new());
        let repository = client::load(&initial_root, transport, datastore.path(), expiry).await;
        let repository =
            repository.map_err(|source| ChannelError::Refused { folder: folder.into(), source })?;
        let mut targets = repository.targets().signed.clone();
        let mut delegated = |name| {
            let mut roles = targets.delegations.iter_mut().flat_map(|all| &mut all.roles);
            let role = roles.find(|role| role.name == name).and_then(|role| role.targets.take());
            role.map(|role| role.signed).ok_or(ChannelError::NoRole(name))
        };
        Ok(Self {
            releases: delegated(targets::RELEASES_ROLE)?,
            groups: delegated(targets::GROUPS_ROLE)?,
            root: repository.root().clone(),
            timestamp: repository.timestamp().clone(),
            snapshot: repository.snapshot().clone(),
            targets,
            initial_root,
            folder: folder.into(),
            datastore,
        })
    }

    /// Asks the client that has seen this state whether it would take the next one.
    ///
    /// # Errors
    /// [`ChannelError::WouldBeRefused`].
    pub async fn accepts(
        &self,
        next: Files,
        expiry: ExpirationEnforcement,
    ) -> Result<(), ChannelError> {
        let transport = FolderTransport::new(&self.folder, next);
        accepts(&self.initial_root, transport, self.datastore.path(), expiry).await
    }

    /// True when the channel's keys are throw-away ones.
    pub fn is_development(&self) -> bool {
        self.root.signed._extra.get(targets::DEVELOPMENT_FIELD) == Some(&true.into())
    }

    /// A role that lists documents.
    pub fn role(&self, role: TargetsRole) -> &Targets {
        match role {
            TargetsRole::Targets => &self.targets,
            TargetsRole::Releases => &self.releases,
            TargetsRole::Groups => &self.groups,
        }
    }

    /// Releases that are there, in order.
    pub fn releases(&self) -> BTreeSet<OfferName> {
        names(&self.releases, targets::parse_offer).into_keys().collect()
    }

    /// Offers of all releases.
    ///
    /// # Errors
    /// [`ChannelError::Document`] for the first that is missing or wrong.
    pub fn offers(&self) -> Result<BTreeMap<OfferName, Offer>, ChannelError> {
        let read = |id: &OfferName, bytes: &[u8]| {
            let offer = Offer::from_json(bytes)?;
            if (&offer.release.version, offer.release.architecture) != (&id.0, id.1) {
                return Err(Wrong::Broken("it is the offer of another release".into()));
            }
            Ok(offer)
        };
        self.documents(&self.releases, MAX_OFFER_BYTES, targets::parse_offer, read)
    }

    /// Documents of all channels.
    ///
    /// # Errors
    /// [`ChannelError::Document`] for the first that is missing or wrong.
    pub fn channels(&self) -> Result<BTreeMap<ChannelName, ChannelDocument>, ChannelError> {
        let read = |name: &ChannelName, bytes: &[u8]| Ok(ChannelDocument::from_json(name, bytes)?);
        self.documents(&self.targets, MAX_CHANNEL_BYTES, targets::parse_channel, read)
    }

    /// The document of one channel, to be changed and written again.
    ///
    /// # Errors
    /// [`ChannelError::Later`] when it has a field that would get lost.
    pub fn channel_to_change(
        &self,
        name: &ChannelName,
    ) -> Result<Option<ChannelDocument>, ChannelError> {
        let this = |target: &str| targets::parse_channel(target).filter(|found| found == name);
        let read = |name: &ChannelName, bytes: &[u8]| {
            let mut json = serde_json::Deserializer::from_slice(bytes);
            match strict::read::<ChannelDocument, _>(&mut json).1.first() {
                Some(unknown) => Err(Wrong::Later(unknown.to_string().into())),
                None => Ok(ChannelDocument::from_json(name, bytes)?),
            }
        };
        Ok(self.documents(&self.targets, MAX_CHANNEL_BYTES, this, read)?.remove(name))
    }

    /// All node groups.
    ///
    /// # Errors
    /// [`ChannelError::Document`] for the first that is missing or wrong.
    pub fn groups(&self) -> Result<BTreeMap<GroupName, NodeGroup>, ChannelError> {
        let read = |name: &GroupName, bytes: &[u8]| Ok(NodeGroup::from_json(name, bytes)?);
        self.documents(&self.groups, MAX_GROUP_BYTES, targets::parse_group, read)
    }

    fn documents<K: Ord, T>(
        &self,
        role: &Targets,
        limit: u64,
        parse: impl Fn(&str) -> Option<K>,
        read: impl Fn(&K, &[u8]) -> Result<T, Wrong>,
    ) -> Result<BTreeMap<K, T>, ChannelError> {
        let mut found = BTreeMap::new();
        for (key, (name, target)) in names(role, parse) {
            let wrong = |source| ChannelError::Document { name: name.to_owned(), source };
            let sha256 = target_digest(target).ok_or_else(|| wrong("no SHA-256".into()))?;
            let file = self.folder.join(targets::TARGETS_DIR).join(targets::file(name, &sha256));
            let bytes = read_bounded(&file, limit).map_err(|error| wrong(error.into()))?;
            if bytes.len() as u64 != target.length || Digest::of(&bytes) != sha256 {
                return Err(wrong("it is not what the metadata says".into()));
            }
            let value = read(&key, &bytes).map_err(|error| match error {
                Wrong::Broken(source) => wrong(source),
                Wrong::Later(source) => ChannelError::Later { name: name.to_owned(), source },
            })?;
            found.insert(key, value);
        }
        Ok(found)
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What is wrong with a document whose digest is right.
enum Wrong {
    Broken(Source),
    /// It is meant for a later generation of this program.
    Later(Source),
}

macro_rules! wrong_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Wrong {
            fn from(error: $error) -> Self {
                match error.unmet() {
                    Some(_) => Wrong::Later(error.into()),
                    None => Wrong::Broken(error.into()),
                }
            }
        }
    )*};
}

wrong_from!(InvalidOffer, InvalidChannel, InvalidGroupJson);

/// The digest of a target.
pub fn target_digest(target: &Target) -> Option<Digest> {
    let bytes: &[u8] = &target.hashes.sha256;
    Some(<[u8; 32]>::try_from(bytes).ok()?.into())
}

/// The targets of a role whose names have a meaning, by that.
fn names<K: Ord>(
    role: &Targets,
    parse: impl Fn(&str) -> Option<K>,
) -> BTreeMap<K, (&str, &Target)> {
    let targets = role.targets.iter().map(|(name, target)| (name.raw(), target));
    targets.filter_map(|(name, target)| Some((parse(name)?, (name, target)))).collect()
}

/// Asks a client that remembers `datastore` whether it would take what `transport` gives.
///
/// # Errors
/// [`ChannelError::WouldBeRefused`].
pub async fn accepts(
    initial_root: &[u8],
    transport: FolderTransport,
    datastore: &Path,
    expiry: ExpirationEnforcement,
) -> Result<(), ChannelError> {
    client::load(initial_root, transport, datastore, expiry)
        .await
        .map(drop)
        .map_err(ChannelError::WouldBeRefused)
}
