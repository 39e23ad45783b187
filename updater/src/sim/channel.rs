//! The node's channel: signed documents and blobs on one mirror, and the settings that name it.
//!
//! In: what is offered. Out: files on the fake web. **Invariant:** every change is signed anew,
//! under the next version of every document.

use std::collections::BTreeSet;

use bytes::Bytes;
use contract::ReleaseVersion;
use contract::channel::targets::{GROUPS_ROLE, RELEASES_ROLE};
use serde_json::{Value, json};

use super::release::{Behaviour, Release, release};
use super::script::{Mode, Script};
use crate::channel::tests::repository::Repository;
use crate::effects::fake::{Files, Web};

/// The host of the mirror.
const MIRROR: &str = "mirror.example.com";
/// The node's name.
pub const HOST: &str = "node-1";

/// A channel.
pub struct Channel {
    repository: Repository,
    blobs: Files,
    /// The version that it offers.
    pub offers: Option<ReleaseVersion>,
    /// Every version that it has an offer of.
    pub published: BTreeSet<ReleaseVersion>,
    floors: Vec<Value>,
    blocked: Vec<Value>,
    /// Why nobody may start an update.
    pub paused: Option<String>,
}

impl Channel {
    /// A channel with release 1 and a group, which drains its nodes when they have a cluster.
    pub fn new(script: &Script) -> Self {
        let mut repository = Repository::new();
        let mut spec = json!({"channel": "stable", "settle": "30s", "deadline": "3m",
            "apiServerGrace": "5m"});
        if script.is_in_cluster {
            spec["drain"] = json!({"deadline": "2m", "then": "wait"});
        }
        let group = json!({"apiVersion": "slipway.dev/v1alpha1", "kind": "NodeGroup",
            "metadata": {"name": "workers"}, "spec": spec});
        repository.add(GROUPS_ROLE, "groups/workers.json", group.to_string());
        let marks = |numbers: &BTreeSet<usize>| -> Vec<Value> {
            let mark = |number| json!({"release": format!("{number}.0.0"), "reason": "a test"});
            numbers.iter().map(mark).collect()
        };
        let mut channel = Self {
            repository,
            blobs: Files::new(),
            offers: None,
            published: BTreeSet::new(),
            floors: marks(&script.floors),
            blocked: marks(&script.blocked),
            paused: None,
        };
        for number in script.floors.iter().filter(|_| script.has_floors) {
            channel.hold(release(*number, script.behaviours[number]));
        }
        channel.point(release(1, Behaviour::Good));
        channel
    }

    /// Offers this release.
    pub fn point(&mut self, release: &Release) {
        self.hold(release);
        self.offers = Some(release.version.clone());
        self.renew();
    }

    /// Publishes this release, and does not point at it.
    fn hold(&mut self, release: &Release) {
        let version = &release.version;
        let name = format!("releases/{version}/x86_64/offer.json");
        self.repository.add(RELEASES_ROLE, &name, release.offer.as_str());
        self.published.insert(version.clone());
        for (digest, blob) in &release.published.blobs {
            self.blobs.insert(format!("blobs/{digest}"), Bytes::from(blob.clone()));
        }
    }

    /// Nobody may start an update, or they may again.
    pub fn pause(&mut self, is_paused: bool) {
        self.paused = is_paused.then(|| "a fault was found".to_owned());
        self.renew();
    }

    fn renew(&mut self) {
        let mut document = json!({"schema": 1, "channel": "stable",
            "release": self.offers.as_ref().map(ToString::to_string),
            "since": "2026-08-01T00:00:00Z"});
        let marks = [("floors", &self.floors), ("blocked", &self.blocked)];
        let used: Vec<_> = marks.into_iter().filter(|(_, marks)| !marks.is_empty()).collect();
        for (name, marks) in &used {
            document[name] = json!(marks);
        }
        if !used.is_empty() {
            document["requires"] = used.iter().map(|(name, _)| *name).collect();
        }
        if let Some(reason) = &self.paused {
            document["paused"] = reason.as_str().into();
        }
        self.repository = self.repository.next();
        self.repository.add("targets", "channels/stable.json", document.to_string());
    }

    /// Puts it on the web.
    pub fn publish(&self, web: &Web) {
        let mut files = self.blobs.clone();
        files.extend(self.repository.files().into_iter().map(|(path, bytes)| (path, bytes.into())));
        web.serve(MIRROR, files);
    }

    /// Settings of a node that follows it.
    pub fn settings(&self, mode: Mode, script: &Script) -> Vec<u8> {
        let mode = match mode {
            Mode::Automatic => "automatic",
            Mode::StagedOnly => "staged-only",
            Mode::Manual => "manual",
        };
        let mut settings = json!({
            "schema": 2,
            "hostname": HOST,
            "mode": mode,
            "channel": {"mirrors": [format!("http://{MIRROR}")],
                "root": self.repository.initial_root(), "group": "workers", "follow": "stable",
                "pollInterval": format!("{}m", script.poll), "jitter": "0s"},
            "health": {"settle": "30s", "deadline": "3m", "apiServerGrace": "5m",
                "probes": [{"kind": "http", "name": "app", "url": "http://127.0.0.1:8080/ready"}]},
        });
        if script.is_in_cluster {
            let authority = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----";
            settings["kubernetes"] = json!({"server": "https://api.example.com:6443", "certificateAuthority": authority});
        }
        settings.to_string().into_bytes()
    }
}
