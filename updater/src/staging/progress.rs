//! What staging tells while it runs.

use std::sync::Mutex;

use tokio::sync::watch;

use super::error::{KnownWay, Part};
use super::hash::lock;

/// Where staging is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// What is being done.
    pub phase: StagingPhase,
    /// To which part; `None` before the first.
    pub part: Option<Part>,
    /// On which way; `None` before the first.
    pub way: Option<KnownWay>,
    /// Bytes of this part that came from the network on this way.
    pub bytes_done: u64,
    /// Bytes of this part that must come from the network on this way, as far as is known.
    pub bytes_total: u64,
    /// Bytes of all parts that came from the network.
    pub bytes_moved: u64,
}

/// What staging is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StagingPhase {
    /// Nothing yet.
    #[default]
    Starting,
    /// Finding what is there, and fetching the rest.
    Assembling,
    /// Reading back.
    Verifying,
    /// All parts are verified.
    Staged,
}

/// Keeps a [`Progress`] and sends it.
pub struct Tracker<'a> {
    sender: &'a watch::Sender<Progress>,
    progress: Mutex<Progress>,
}

impl<'a> Tracker<'a> {
    /// Starts from nothing.
    pub fn new(sender: &'a watch::Sender<Progress>) -> Self {
        Self { sender, progress: Mutex::default() }
    }

    /// A way begins.
    pub fn begin(&self, part: Part, way: KnownWay) {
        self.change(|progress| {
            progress.phase = StagingPhase::Assembling;
            (progress.part, progress.way) = (Some(part), Some(way));
            (progress.bytes_done, progress.bytes_total) = (0, 0);
        });
    }

    /// The phase changes.
    pub fn phase(&self, phase: StagingPhase) {
        self.change(|progress| progress.phase = phase);
    }

    /// So many bytes more are to come.
    pub fn expect(&self, bytes: u64) {
        self.change(|progress| progress.bytes_total = progress.bytes_done + bytes);
    }

    /// So many bytes came.
    pub fn arrived(&self, bytes: u64) {
        self.change(|progress| {
            progress.bytes_done += bytes;
            progress.bytes_moved += bytes;
        });
    }

    /// Bytes of all parts that came from the network.
    pub fn moved(&self) -> u64 {
        lock(&self.progress).bytes_moved
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = lock(&self.progress);
        change(&mut progress);
        // Without a listener the value is kept all the same.
        self.sender.send_replace(progress.clone());
    }
}
