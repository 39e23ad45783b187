//! A maker of channels for tests: any metadata, signed by any key, in any version.
//!
//! In: a [`Repository`] whose fields a test changes. Out: the files of the channel's folder.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use contract::Digest;
use contract::channel::targets::{
    GROUPS_PATTERN, GROUPS_ROLE, RELEASES_PATTERN, RELEASES_ROLE, file,
};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::{Value, json};

/// Files of a channel's folder by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Roles with one key, in the order in which metadata depends on each other.
pub const ROLES: [&str; 5] = [RELEASES_ROLE, GROUPS_ROLE, "targets", "snapshot", "timestamp"];

/// A channel.
#[derive(Clone)]
pub struct Repository {
    /// Numbers of the root keys; two must sign.
    pub root_keys: Vec<u8>,
    /// Number of the key that the channel lists for each role.
    pub keys: BTreeMap<&'static str, u8>,
    /// Number of the key that signs instead.
    pub forged: BTreeMap<&'static str, u8>,
    pub versions: BTreeMap<&'static str, u64>,
    pub expires: BTreeMap<&'static str, String>,
    /// Targets by the role that lists them.
    pub targets: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
    pub is_development: bool,
    /// Signed roots, from version 1 on.
    pub roots: Vec<Value>,
}

/// The key of a number, the same in every test.
pub fn key(number: u8) -> Arc<KeyPair> {
    static KEYS: Mutex<BTreeMap<u8, Arc<KeyPair>>> = Mutex::new(BTreeMap::new());
    let make = || {
        // Ed25519 in PKCS #8 (RFC 8410, section 7): what is secret are the last 32 bytes.
        let head = [0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 34, 4, 32];
        let document = [&head[..], &[number; 32]].concat();
        Arc::new(KeyPair::try_from(document).unwrap())
    };
    KEYS.lock().unwrap().entry(number).or_insert_with(make).clone()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn public(number: u8) -> Value {
    json!({"keytype": "ed25519", "scheme": "ed25519",
        "keyval": {"public": hex(key(number).der_bytes())}})
}

/// OLPC's canonical JSON, for texts without special characters and numbers without fractions.
fn canonical(value: &Value) -> Vec<u8> {
    canonical_text(value).into_bytes()
}

fn canonical_text(value: &Value) -> String {
    let join = |parts: Vec<String>| parts.join(",");
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            let part = |(key, value)| format!("{}:{}", json!(key), canonical_text(value));
            format!("{{{}}}", join(sorted.into_iter().map(part).collect()))
        }
        Value::Array(list) => format!("[{}]", join(list.iter().map(canonical_text).collect())),
        plain => plain.to_string(),
    }
}

fn key_id(number: u8) -> String {
    Digest::of(&canonical(&public(number))).to_string()
}

/// A signature of Ed25519 follows from key and text (RFC 8032): one that was made is made once.
fn signature(number: u8, text: &[u8]) -> String {
    static MADE: Mutex<BTreeMap<(u8, Digest), String>> = Mutex::new(BTreeMap::new());
    let make = || hex(&key(number).sign(text).unwrap());
    MADE.lock().unwrap().entry((number, Digest::of(text))).or_insert_with(make).clone()
}

fn sign(signed: Value, numbers: &[u8]) -> Value {
    let text = canonical(&signed);
    let signature =
        |number: &u8| json!({"keyid": key_id(*number), "sig": signature(*number, &text)});
    json!({"signatures": numbers.iter().map(signature).collect::<Vec<_>>(), "signed": signed})
}

/// How metadata names other metadata.
fn meta(version: u64, bytes: &[u8]) -> Value {
    json!({"version": version, "length": bytes.len(),
        "hashes": {"sha256": Digest::of(bytes).to_string()}})
}

impl Repository {
    /// An empty channel with one root.
    pub fn new() -> Self {
        let keys = ROLES.into_iter().zip(11..).collect();
        let far = |role| (role, "2027-06-01T00:00:00Z".to_owned());
        let mut repository = Self {
            root_keys: vec![1, 2, 3],
            keys,
            forged: BTreeMap::new(),
            versions: ROLES.into_iter().map(|role| (role, 1)).collect(),
            expires: ROLES.into_iter().chain(["root"]).map(far).collect(),
            targets: BTreeMap::new(),
            is_development: false,
            roots: Vec::new(),
        };
        repository.add_root(&[1, 2]);
        repository
    }

    /// The first root, as settings hold it.
    pub fn initial_root(&self) -> Value {
        self.roots[0].clone()
    }

    /// Adds a root with the present keys, signed by these.
    pub fn add_root(&mut self, signers: &[u8]) {
        let single = ["targets", "snapshot", "timestamp"];
        let mut roles = json!({"root": {
            "keyids": self.root_keys.iter().map(|number| key_id(*number)).collect::<Vec<_>>(),
            "threshold": 2}});
        for role in single {
            roles[role] = json!({"keyids": [key_id(self.keys[role])], "threshold": 1});
        }
        let numbers = self.root_keys.iter().copied().chain(single.map(|role| self.keys[role]));
        let keys: BTreeMap<String, Value> =
            numbers.map(|number| (key_id(number), public(number))).collect();
        let mut root = json!({"_type": "root", "spec_version": "1.0.0",
            "consistent_snapshot": true, "version": self.roots.len() + 1,
            "expires": self.expires["root"], "keys": keys, "roles": roles});
        if self.is_development {
            root[contract::channel::targets::DEVELOPMENT_FIELD] = true.into();
        }
        self.roots.push(sign(root, signers));
    }

    /// Puts a target into the list of a role.
    pub fn add(&mut self, role: &'static str, name: &str, bytes: impl Into<Vec<u8>>) {
        self.targets.entry(role).or_default().insert(name.to_owned(), bytes.into());
    }

    /// The next version of every document but the root.
    pub fn next(&self) -> Self {
        let mut next = self.clone();
        next.versions.values_mut().for_each(|version| *version += 1);
        next
    }

    /// The files of the channel's folder.
    pub fn files(&self) -> Files {
        let mut files = Files::new();
        for (index, root) in self.roots.iter().enumerate() {
            files.insert(format!("metadata/{}.root.json", index + 1), canonical(root));
        }
        for targets in self.targets.values() {
            for (name, bytes) in targets {
                let path = format!("targets/{}", file(name, &Digest::of(bytes)));
                files.insert(path, bytes.clone());
            }
        }
        let mut snapshot = json!({});
        for role in [RELEASES_ROLE, GROUPS_ROLE, "targets"] {
            let bytes = canonical(&self.signed(role, self.target_list(role)));
            let version = self.versions[role];
            snapshot[format!("{role}.json")] = meta(version, &bytes);
            files.insert(format!("metadata/{version}.{role}.json"), bytes);
        }
        let snapshot = canonical(&self.signed("snapshot", json!({"meta": snapshot})));
        let version = self.versions["snapshot"];
        let timestamp = json!({"meta": {"snapshot.json": meta(version, &snapshot)}});
        files.insert(format!("metadata/{version}.snapshot.json"), snapshot);
        let timestamp = canonical(&self.signed("timestamp", timestamp));
        files.insert("metadata/timestamp.json".to_owned(), timestamp);
        files
    }

    fn target_list(&self, role: &str) -> Value {
        let targets = self.targets.get(role).cloned().unwrap_or_default();
        let entry = |bytes: &[u8]| json!({"length": bytes.len(), "hashes": {"sha256": Digest::of(bytes).to_string()}});
        let targets: BTreeMap<&String, Value> =
            targets.iter().map(|(name, bytes)| (name, entry(bytes))).collect();
        let mut content = json!({"targets": targets});
        if role == "targets" {
            let delegate = |role: &str, pattern: &str| {
                json!({"name": role, "keyids": [key_id(self.keys[role])], "threshold": 1,
                    "paths": [pattern], "terminating": true})
            };
            let keys: BTreeMap<String, Value> = [RELEASES_ROLE, GROUPS_ROLE]
                .map(|role| (key_id(self.keys[role]), public(self.keys[role])))
                .into();
            content["delegations"] = json!({"keys": keys, "roles": [
                delegate(RELEASES_ROLE, RELEASES_PATTERN), delegate(GROUPS_ROLE, GROUPS_PATTERN)]});
        }
        content
    }

    fn signed(&self, role: &'static str, mut content: Value) -> Value {
        let is_standard = matches!(role, "targets" | "snapshot" | "timestamp");
        content["_type"] = if is_standard { role } else { "targets" }.into();
        content["spec_version"] = "1.0.0".into();
        content["version"] = self.versions[role].into();
        content["expires"] = self.expires[role].clone().into();
        let signer = self.forged.get(role).unwrap_or(&self.keys[role]);
        // A forger writes the id of the right key beside a signature of another one.
        let mut signed = sign(content, &[*signer]);
        signed["signatures"][0]["keyid"] = key_id(self.keys[role]).into();
        signed
    }
}
