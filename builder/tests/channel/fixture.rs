//! Release folders of a few megabytes, keys, and a client with a memory.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use builder::channel::client::{self, ClientError, Files, FolderTransport};
use builder::channel::commit::{Change, Signing, commit};
use builder::channel::roles::TargetsRole;
use builder::channel::{
    self, ChannelError, ChannelSetting, Folder, Lifetimes, MINIMUM_UPDATER, PublishRequest,
    PublishedRelease, State,
};
use builder::formats::tree::digest_reader;
use builder::formats::uki::{self, Sections};
use builder::formats::verity::{self, Options};
use builder::progress::Progress;
use builder::signing::keys::{ChannelKey, ChannelKeys, KeyFolder, KeyPurpose};
use builder::signing::secure_boot::sign_pe;
use contract::{
    Architecture, Component, Digest, FileDescription, ReleaseDocument, RootDescription, Slot,
};
use jiff::Timestamp;
use tempfile::TempDir;
use tough::{ExpirationEnforcement, Repository};
use uuid::Uuid;

/// The keys of this test program, and others of the same kind.
pub fn keys() -> &'static Path {
    static KEYS: OnceLock<TempDir> = OnceLock::new();
    KEYS.get_or_init(|| made(KeyPurpose::Production)).path()
}

pub fn other_keys() -> &'static Path {
    static KEYS: OnceLock<TempDir> = OnceLock::new();
    KEYS.get_or_init(|| made(KeyPurpose::Production)).path()
}

pub fn development_keys() -> &'static Path {
    static KEYS: OnceLock<TempDir> = OnceLock::new();
    KEYS.get_or_init(|| made(KeyPurpose::Development)).path()
}

fn made(purpose: KeyPurpose) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    KeyFolder::create(folder.path(), purpose).unwrap();
    folder
}

/// A folder with some files of another.
pub fn only(keys: &Path, names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        fs::copy(keys.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// A folder for one channel and its releases.
pub struct Bench {
    folder: TempDir,
    keys: PathBuf,
}

impl Bench {
    /// With a channel, and nothing in it.
    pub async fn new() -> Self {
        Self::with_keys(keys()).await
    }

    pub async fn with_keys(keys: &Path) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap(), keys: keys.into() };
        let folder = channel::create(&bench.channel()).unwrap();
        channel::init(&folder, keys, Lifetimes::default(), now()).await.unwrap();
        bench
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn channel(&self) -> PathBuf {
        self.path().join("channel")
    }

    /// The channel, locked.
    pub fn folder(&self) -> Folder {
        channel::open(&self.channel()).unwrap()
    }

    /// A release folder whose content follows from `seed`.
    pub fn release(&self, version: &str, seed: u8) -> PathBuf {
        let folder = self.path().join(format!("release-{version}-{seed}"));
        write_release(&folder, version, &root_content(seed), &self.keys);
        folder
    }

    pub fn request(&self, releases: &[PathBuf]) -> PublishRequest {
        PublishRequest {
            releases: releases.to_vec(),
            keys: self.keys.clone(),
            level: 1,
            minimum_updater: MINIMUM_UPDATER,
            lifetimes: Lifetimes::default(),
        }
    }

    pub async fn publish(
        &self,
        releases: &[PathBuf],
    ) -> Result<Vec<PublishedRelease>, ChannelError> {
        channel::publish(&self.folder(), &self.request(releases), now(), &Progress::hidden()).await
    }

    /// Publishes a new release and points `stable` at it.
    pub async fn move_stable(&self, version: &str, seed: u8) {
        let release = self.release(version, seed);
        self.publish(&[release]).await.unwrap();
        self.set("stable", version).await.unwrap();
    }

    pub async fn set(&self, name: &str, version: &str) -> Result<(), ChannelError> {
        let setting = setting(name, version);
        let lifetimes = Lifetimes::default();
        channel::set_channel(&self.folder(), &setting, &self.keys, lifetimes, now()).await.map(drop)
    }

    pub async fn group(&self, name: &str, spec: &str) -> Result<(), ChannelError> {
        let file = self.path().join("group.yaml");
        fs::write(&file, group_yaml(name, spec)).unwrap();
        let (name, lifetimes) = (name.parse().unwrap(), Lifetimes::default());
        channel::set_group(&self.folder(), &name, &file, &self.keys, lifetimes, now())
            .await
            .map(drop)
    }

    /// A copy of the channel as it is.
    pub fn copy(&self, name: &str) -> PathBuf {
        let to = self.path().join(name);
        copy_folder(&self.channel(), &to);
        to
    }

    /// The initial root of the channel.
    pub fn root(&self) -> Vec<u8> {
        fs::read(self.channel().join("root.json")).unwrap()
    }
}

pub fn setting(name: &str, version: &str) -> ChannelSetting {
    ChannelSetting {
        name: name.parse().unwrap(),
        release: Some(version.parse().unwrap()),
        waves: None,
        since: None,
        pause: None,
        mark: None,
    }
}

pub fn group_yaml(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: slipway.dev/v1alpha1\nkind: NodeGroup\nmetadata:\n  name: {name}\n\
         spec:\n  {spec}\n"
    )
}

/// A node: an initial root and what it has seen.
pub struct Node {
    root: Vec<u8>,
    datastore: TempDir,
}

impl Node {
    pub fn new(root: Vec<u8>) -> Self {
        Self { root, datastore: tempfile::tempdir().unwrap() }
    }

    pub async fn load(&self, channel: &Path) -> Result<Repository, ClientError> {
        let transport = FolderTransport::new(channel, Files::new());
        let safe = ExpirationEnforcement::Safe;
        client::load(&self.root, transport, self.datastore.path(), safe).await
    }

    /// Which release `stable` is.
    pub async fn stable(&self, channel: &Path) -> Result<String, ClientError> {
        let repository = self.load(channel).await?;
        let bytes = client::read(&repository, "channels/stable.json").await?;
        let document: serde_json::Value = serde_json::from_slice(&bytes.unwrap()).unwrap();
        Ok(document["release"].as_str().unwrap().to_owned())
    }

    /// What the client says when it refuses.
    pub async fn refuses(&self, channel: &Path) -> String {
        match self.load(channel).await {
            Ok(_) => panic!("the node takes {}", channel.display()),
            Err(error) => format!("{error:?}"),
        }
    }
}

pub fn now() -> Timestamp {
    Timestamp::now()
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Two MiB that are in every root, and some blocks that follow from `seed`.
pub fn root_content(seed: u8) -> Vec<u8> {
    let mut state = 1_u32;
    let mut noise = |bytes: usize| -> Vec<u8> {
        let step = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..bytes).map(step).collect()
    };
    let mut root = noise(2 << 20);
    root.extend(noise(5 * 4096).iter().map(|byte| byte ^ seed));
    root
}

/// The smallest PE32+ program with one section and room for more.
fn stub() -> Vec<u8> {
    let mut file = vec![0; 1536];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &64_u32.to_le_bytes());
    put(64, b"PE\0\0");
    put(68, &0x8664_u16.to_le_bytes());
    put(70, &1_u16.to_le_bytes());
    put(84, &240_u16.to_le_bytes());
    put(86, &0x0206_u16.to_le_bytes());
    put(88, &0x20b_u16.to_le_bytes());
    for (at, value) in [(32, 4096_u32), (36, 512), (56, 8192), (60, 1024), (108, 16)] {
        put(88 + at, &value.to_le_bytes());
    }
    put(88 + 68, &10_u16.to_le_bytes());
    put(328, b".text");
    for (at, value) in [(8, 512_u32), (12, 4096), (16, 512), (20, 1024), (36, 0x6000_0020)] {
        put(328 + at, &value.to_le_bytes());
    }
    file
}

/// Writes a release folder as a build would, without a disk image.
pub fn write_release(folder: &Path, version: &str, root: &[u8], keys: &Path) {
    fs::create_dir_all(folder).unwrap();
    let keys = KeyFolder::open(keys).unwrap();
    let options = Options { salt: Digest::of(b"tiny"), uuid: Uuid::from_bytes([7; 16]) };
    let mut tree = Vec::new();
    let bytes = root.len() as u64;
    let root_hash = verity::format(&mut &*root, bytes, &options, &mut tree).unwrap();
    fs::write(folder.join("root.erofs"), root).unwrap();
    let kernel = root[..2 << 20].repeat(2);
    for slot in Slot::ALL {
        let cmdline = builder::assemble::slot_command_line(slot, &root_hash);
        let sections = Sections {
            linux: &kernel,
            initrd: b"initrd",
            cmdline: &cmdline,
            os_release: "ID=slipway\n",
            uname: "6.12.0",
        };
        let signed = sign_pe(&uki::assemble(&stub(), &sections).unwrap(), keys.signer()).unwrap();
        fs::write(folder.join(format!("slipway-{slot}.efi")), signed).unwrap();
    }
    let files = ["root.erofs", "slipway-a.efi", "slipway-b.efi"].map(|name| {
        let (sha256, bytes) = digest_reader(&mut File::open(folder.join(name)).unwrap()).unwrap();
        FileDescription { name: name.into(), bytes, sha256 }
    });
    let document = ReleaseDocument {
        schema: contract::release::document::SCHEMA,
        image: "tiny".into(),
        version: version.parse().unwrap(),
        architecture: Architecture::X86_64,
        development: keys.is_development(),
        components: vec![Component { name: "linux".into(), version: "6.12".into() }],
        root: RootDescription {
            root_hash,
            salt: options.salt,
            verity_uuid: options.uuid,
            bytes,
            verity_bytes: tree.len() as u64,
        },
        files: files.to_vec(),
    };
    sign_document(folder, &document, &keys);
}

/// Writes a document and its signature.
pub fn sign_document(folder: &Path, document: &ReleaseDocument, keys: &KeyFolder) {
    let text = document.to_json().unwrap();
    let signature = keys.release_signer().sign(text.as_bytes()).unwrap();
    let digits: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(folder.join("release.json"), text).unwrap();
    fs::write(folder.join("release.json.sig"), digits).unwrap();
}

/// Signs every role but the root as if that had been done at `time`.
pub async fn expire_all(path: &Path, time: Timestamp) {
    let state = State::load(path, ExpirationEnforcement::Unsafe).await.unwrap();
    let keys = ChannelKeys::open(keys(), &ChannelKey::ALL).unwrap();
    let (lifetimes, expiry) = (Lifetimes::default(), ExpirationEnforcement::Unsafe);
    let signing = Signing { keys: &keys, lifetimes, now: time, expiry };
    let mut change = Change::default();
    for role in TargetsRole::ALL {
        change.role(role, &state);
    }
    let folder = channel::open(path).unwrap();
    commit(&folder, &state, change, &signing).await.unwrap();
}
