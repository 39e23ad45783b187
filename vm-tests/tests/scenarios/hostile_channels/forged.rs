//! Documents of a channel as somebody with the web server, or with some of the keys, would
//! serve them. Each forger changes a copy of the channel's documents in place.

use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

use anyhow::Result;
use builder::channel::commit::{metadata_file, next};
use builder::channel::roles::TargetsRole;
use builder::channel::{State, metadata};
use builder::signing::keys::{ChannelKey, ChannelKeys};
use jiff::{SignedDuration, Timestamp};
use tough::ExpirationEnforcement;
use tough::schema::Targets;
use vm_tests::workspace;

/// The documents that are changed, the keys that an attacker has some of, and the documents
/// as they were before.
pub struct Forger<'a> {
    folder: &'a Path,
    past: &'a Path,
    strangers: &'a Path,
    keys: ChannelKeys,
    state: State,
    before: State,
}

/// An attack: its name, how it is made, and a word of what the node must say.
pub type Attack = (&'static str, fn(&Forger<'_>) -> Result<()>, &'static str);

pub const ATTACKS: [Attack; 8] = [
    ("freeze: the timestamp has expired", |forger| forger.freeze(), "(freeze)"),
    ("below threshold: a root that one of three signed", |forger| forger.lone_root(), "not signed"),
    ("replay: the whole channel of an earlier day", |forger| forger.replay(), "(rollback)"),
    (
        "rollback: an old snapshot under a new timestamp",
        |forger| forger.old_snapshot(),
        "(rollback)",
    ),
    ("mix and match: an old role under a new snapshot", |forger| forger.mix(), "not signed"),
    ("wrong key: a stranger's timestamp", |forger| forger.stranger(), "not signed"),
    ("operators sign a release", |forger| forger.operators_release(), "not signed"),
    ("CI points a channel at a release", |forger| forger.moved_by_ci(), "not signed"),
];

impl<'a> Forger<'a> {
    /// Opens both copies, and the development keys. `strangers` has keys that nobody trusts.
    pub fn open(folder: &'a Path, past: &'a Path, strangers: &'a Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let load =
            |folder: &Path| runtime.block_on(State::load(folder, ExpirationEnforcement::Unsafe));
        let keys = ChannelKeys::open(&workspace().join("keys/dev"), &ChannelKey::ALL)?;
        let (state, before) = (load(folder)?, load(past)?);
        Ok(Self { folder, past, strangers, keys, state, before })
    }

    fn freeze(&self) -> Result<()> {
        let mut timestamp = self.state.timestamp.signed.clone();
        timestamp.version = next(timestamp.version)?;
        timestamp.expires = Timestamp::now() - SignedDuration::from_hours(1);
        let signer = self.keys.signer(ChannelKey::Timestamp)?;
        self.write_timestamp(&metadata::sign(&timestamp, &[signer])?)
    }

    fn replay(&self) -> Result<()> {
        for entry in fs::read_dir(self.past.join("metadata"))? {
            let entry = entry?;
            fs::copy(entry.path(), self.folder.join("metadata").join(entry.file_name()))?;
        }
        Ok(())
    }

    fn old_snapshot(&self) -> Result<()> {
        let version = self.before.snapshot.signed.version;
        let bytes = fs::read(self.past.join(metadata_file("snapshot", version)))?;
        self.sign_timestamp(version, &bytes)
    }

    fn mix(&self) -> Result<()> {
        let old = self.past.join(metadata_file("targets", self.before.targets.version));
        let new = self.folder.join(metadata_file("targets", self.state.targets.version));
        fs::copy(old, new)?;
        Ok(())
    }

    fn stranger(&self) -> Result<()> {
        let mut timestamp = self.state.timestamp.signed.clone();
        timestamp.version = next(timestamp.version)?;
        let strangers = ChannelKeys::open(self.strangers, &[ChannelKey::Timestamp])?;
        let signer = strangers.signer(ChannelKey::Timestamp)?;
        self.write_timestamp(&metadata::sign(&timestamp, &[signer])?)
    }

    fn lone_root(&self) -> Result<()> {
        let mut root = self.state.root.signed.clone();
        root.version = next(root.version)?;
        let bytes = metadata::sign(&root, &[self.keys.signer(ChannelKey::Root1)?])?;
        Ok(fs::write(self.folder.join(metadata_file("root", root.version)), bytes)?)
    }

    fn operators_release(&self) -> Result<()> {
        self.put(TargetsRole::Releases, &self.state.releases, ChannelKey::Groups)
    }

    fn moved_by_ci(&self) -> Result<()> {
        self.put(TargetsRole::Targets, &self.state.targets, ChannelKey::Releases)
    }

    /// Puts a role that `key` has signed below a true snapshot and timestamp. Its version stays:
    /// the node would remember a higher one, and refuse the honest role for it.
    fn put(&self, role: TargetsRole, content: &Targets, key: ChannelKey) -> Result<()> {
        let bytes = metadata::sign(content, &[self.keys.signer(key)?])?;
        fs::write(self.folder.join(metadata_file(role.name(), content.version)), &bytes)?;
        let mut meta = self.state.snapshot.signed.meta.clone();
        let file = metadata::metafile(content.version, &bytes);
        meta.insert(format!("{}.json", role.name()), file);
        let version = next(self.state.snapshot.signed.version)?;
        let snapshot = metadata::snapshot(version, tomorrow(), meta);
        let signer = self.keys.signer(ChannelKey::Snapshot)?;
        let snapshot = metadata::sign(&snapshot, &[signer])?;
        fs::write(self.folder.join(metadata_file("snapshot", version)), &snapshot)?;
        self.sign_timestamp(version, &snapshot)
    }

    /// A true timestamp over a snapshot.
    fn sign_timestamp(&self, version: NonZeroU64, snapshot: &[u8]) -> Result<()> {
        let own = next(self.state.timestamp.signed.version)?;
        let timestamp = metadata::timestamp(own, tomorrow(), version, snapshot);
        let signer = self.keys.signer(ChannelKey::Timestamp)?;
        self.write_timestamp(&metadata::sign(&timestamp, &[signer])?)
    }

    fn write_timestamp(&self, bytes: &[u8]) -> Result<()> {
        Ok(fs::write(self.folder.join("metadata/timestamp.json"), bytes)?)
    }
}

fn tomorrow() -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(24)
}
