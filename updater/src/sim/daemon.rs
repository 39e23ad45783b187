//! The daemon as it ships, started on the fake node.
//!
//! In: the node, what is booted, settings. Out: the conductor with its board, and a way to ask it.
//! **Invariant:** nothing here decides anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::node::api::{Accepted, Action, ApiError, SettingsMode};
use contract::{Architecture, Slot};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::release::Release;
use crate::channel::RunningImage;
use crate::conductor::{Board, Conductor, OperatorRequest, Parts, Places, Who};
use crate::effects::BootedSlot;
use crate::effects::boot::BootFacts;
use crate::effects::fake::FakeNode;
use crate::metrics::Metrics;
use crate::settings::RuntimeFolders;

/// A daemon that runs, and who asks it.
pub struct Daemon {
    /// What it shows.
    pub board: Arc<Board>,
    requests: mpsc::Sender<OperatorRequest>,
}

/// What an operator is answered.
pub type Answer = oneshot::Receiver<Result<Accepted, ApiError>>;

/// Folders of a thread, for what the daemon writes below `/run`.
fn folders(root: &Path) -> RuntimeFolders {
    let folder = |name: &str| root.join(name);
    RuntimeFolders {
        network: folder("network"),
        dhcp: folder("dhcp"),
        time: folder("time"),
        kubelet: folder("kubelet"),
        cni: folder("cni"),
        registries: folder("registries"),
    }
}

impl Daemon {
    /// The daemon of a boot, and what runs it until the power goes.
    pub fn start(
        node: &FakeNode,
        release: &Release,
        slot: Slot,
        run: PathBuf,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let facts = BootFacts {
            slot: BootedSlot::forged_for_a_test(slot),
            root_hash: release.root_hash(),
            version: release.version.clone(),
            boot_id: node.boot_id(),
            disk: "vda".to_owned(),
        };
        // As systemd makes it, and the image.
        std::fs::create_dir_all(run.join("cni")).unwrap();
        let places = Places {
            scratch: run.join("tuf"),
            credentials: None,
            metadata: None,
            node: crate::verdict::NodePrograms {
                containerd: "/run/containerd/containerd.sock".into(),
                kubelet: "http://127.0.0.1:10248/healthz".parse().unwrap(),
            },
            folders: folders(&run),
        };
        let who = Who {
            machine_id: "0".repeat(32),
            image: RunningImage {
                architecture: Architecture::X86_64,
                is_development: false,
                built: Timestamp::UNIX_EPOCH,
            },
            updater: "0.1.0".parse().unwrap(),
        };
        let board = Arc::new(Board::new());
        let conductor = Conductor::new(Parts {
            effects: node.effects(),
            facts,
            places,
            who,
            board: board.clone(),
            metrics: Arc::new(Metrics::new()),
            api: watch::Sender::new(None),
        });
        let (requests, waiting) = mpsc::channel(16);
        (Self { board, requests }, conductor.run(waiting))
    }

    /// Asks as the API does, and does not wait.
    pub fn ask(&self, action: Action) -> Option<Answer> {
        let (answer, waiting) = oneshot::channel();
        self.requests.try_send(OperatorRequest::Act(action, answer)).ok().map(|()| waiting)
    }

    /// Sends settings as the API does, and does not wait.
    pub fn set(&self, document: Vec<u8>) {
        let (answer, _) = oneshot::channel();
        let request = OperatorRequest::Settings(document.into(), SettingsMode::Apply, answer);
        // An operator whose request does not get through would send it again, later.
        drop(self.requests.try_send(request));
    }
}
