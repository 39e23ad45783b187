//! The client against real servers on the loopback, with good channels and hostile ones. Each
//! look is made by a new client, as after a restart; only the state partition stays.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use contract::channel::targets::{GROUPS_ROLE, RELEASES_ROLE};
use contract::release::offer::{Blob, FRAME_BYTES, Frame, LEAF_BYTES, Payload, Way};
use contract::{Digest, Offer, ReleaseDocument, RootDescription, Slot};
use jiff::Timestamp;

use super::*;
use crate::effects::Network;
use crate::effects::fake::{FakeNode, Sizes};
use crate::effects::http::Internet;

mod attacks;
mod documents;
mod memory;
mod mirrors;
pub(crate) mod repository;

use repository::{Files, Repository as Maker};

const NOW: &str = "2026-11-27T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A web server whose files a test exchanges.
struct Server {
    address: SocketAddr,
    files: Arc<Mutex<Files>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(files: Files) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let files = Arc::new(Mutex::new(files));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (served, log) = (files.clone(), asked.clone());
        let answer = async move |uri: Uri| -> Response {
            let path = uri.path().trim_start_matches('/').to_owned();
            log.lock().unwrap().push(path.clone());
            if let Some(place) = path.strip_prefix("elsewhere/") {
                return Redirect::temporary(&format!("https://{address}/{place}")).into_response();
            }
            if path.starts_with("broken/") {
                let later = [(header::RETRY_AFTER, "120")];
                return (StatusCode::SERVICE_UNAVAILABLE, later).into_response();
            }
            match served.lock().unwrap().get(&path) {
                Some(bytes) => {
                    ([(header::CONTENT_TYPE, "application/json")], bytes.clone()).into_response()
                }
                None => StatusCode::NOT_FOUND.into_response(),
            }
        };
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, files, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn serve(&self, files: Files) {
        *self.files.lock().unwrap() = files;
    }
}

/// A node whose state partition outlives its clients.
struct Node {
    state: Arc<FakeNode>,
    scratch: tempfile::TempDir,
    mirrors: Vec<String>,
    root: serde_json::Value,
    reading: ClockReading,
    image: RunningImage,
    running: ReleaseVersion,
    pin: Option<ReleaseVersion>,
}

impl Node {
    fn new(mirrors: &[&Server], root: serde_json::Value) -> Self {
        let architecture = Architecture::X86_64;
        Self {
            state: Arc::new(FakeNode::new(0, Sizes::default())),
            scratch: tempfile::tempdir().unwrap(),
            mirrors: mirrors.iter().map(|server| server.url()).collect(),
            root,
            reading: ClockReading { now: at(NOW), is_synchronized: true, rtc: None },
            image: RunningImage {
                architecture,
                is_development: false,
                built: at("2026-11-01T00:00:00Z"),
            },
            running: "1.0.0".parse().unwrap(),
            pin: None,
        }
    }

    fn client(&self) -> ChannelClient {
        let settings = serde_json::json!({"schema": 1, "channel": {
            "mirrors": self.mirrors, "root": self.root, "group": "workers", "follow": "stable"}});
        let settings = Settings::from_json(settings.to_string().as_bytes()).unwrap();
        let surroundings = Surroundings {
            http: Internet.mirrors(&settings.network).unwrap(),
            state: self.state.clone(),
            scratch: self.scratch.path().join("tuf"),
            image: self.image,
        };
        ChannelClient::new(&settings, surroundings).unwrap()
    }

    async fn look(&self) -> Result<Found, ChannelError> {
        self.client().look(&self.reading, &self.running, self.pin.as_ref()).await
    }

    async fn version(&self) -> String {
        self.look().await.unwrap().offer.expect("an offer").release.version.to_string()
    }

    async fn error(&self) -> ChannelError {
        self.look().await.expect_err("the channel must not be believed")
    }
}

/// As if a channel `stable` that points at `version`, with a group of this spec, had been believed.
pub(crate) fn found(version: &str, group: &str) -> Found {
    let group = format!(
        r#"{{"apiVersion": "slipway.dev/v1alpha1", "kind": "NodeGroup",
            "metadata": {{"name": "workers"}}, "spec": {group}}}"#
    );
    let channel = format!(
        r#"{{"schema": 1, "channel": "stable", "release": "{version}",
            "since": "2026-07-20T00:00:00Z"}}"#
    );
    let mut offer = offer_of(version);
    // What the fake node's EFI system partition has room for.
    offer.esp_bytes = 1 << 16;
    Found {
        marks: Marks::default(),
        unmet: Vec::new(),
        mirror: "http://127.0.0.1:1/".parse().unwrap(),
        group: Some(Verified(serde_json::from_str(&group).unwrap())),
        channel: Some(Verified(serde_json::from_str(&channel).unwrap())),
        offer: Some(Verified(offer)),
        expires: at("2027-06-01T00:00:00Z"),
        is_memory_damaged: false,
    }
}

/// A channel `stable` that points at `version`, with a group and that one offer.
fn channel(version: &str) -> Maker {
    let mut maker = Maker::new();
    point(&mut maker, version);
    let group = r#"{"apiVersion": "slipway.dev/v1alpha1", "kind": "NodeGroup",
        "metadata": {"name": "workers"}, "spec": {"channel": "stable"}}"#;
    maker.add(GROUPS_ROLE, "groups/workers.json", group);
    maker
}

fn point(maker: &mut Maker, version: &str) {
    let document = format!(
        r#"{{"schema": 1, "channel": "stable", "release": "{version}",
            "since": "2026-11-20T00:00:00Z"}}"#
    );
    maker.add("targets", "channels/stable.json", document);
    let name = format!("releases/{version}/x86_64/offer.json");
    maker.add(RELEASES_ROLE, &name, offer_of(version).to_json().unwrap());
}

fn offer_of(version: &str) -> Offer {
    let payload = |bytes: u64| {
        let frames = bytes.div_ceil(u64::from(FRAME_BYTES));
        let blob = |bytes| Blob { sha256: Digest::of(b"x"), bytes };
        Payload {
            bytes,
            sha256: Digest::of(b"x"),
            container: blob(frames * 100),
            frame_bytes: FRAME_BYTES,
            frames: vec![Frame { bytes: 100, sha256: Digest::of(b"y") }; frames as usize],
            ways: vec![Way::Blocks { leaves: blob(bytes.div_ceil(4096) * LEAF_BYTES) }],
        }
    };
    let root = RootDescription {
        root_hash: [7; 32].into(),
        salt: Digest::of(b"salt"),
        verity_uuid: uuid::Uuid::from_bytes([3; 16]),
        bytes: 8192,
        verity_bytes: 8192,
    };
    Offer {
        schema: contract::release::offer::SCHEMA,
        release: ReleaseDocument {
            schema: contract::release::document::SCHEMA,
            image: "node".into(),
            version: version.parse().unwrap(),
            architecture: Architecture::X86_64,
            development: false,
            components: Vec::new(),
            root,
            files: Vec::new(),
        },
        minimum_updater: semver::Version::new(0, 1, 0),
        esp_bytes: 1 << 20,
        root: payload(8192),
        ukis: Slot::ALL.into_iter().map(|slot| (slot, payload(1 << 20))).collect(),
    }
}
