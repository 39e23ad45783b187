//! The node's API: JSON over HTTP/1.1, on a Unix socket and over mutual TLS.
//!
//! In: requests of callers that are known by certificate, or by being root on this node. Out:
//! what [`Node`] answers. **Invariant:** a request without a known caller reaches no handler;
//! a reader changes nothing; every size, time and number of connections is bounded.

mod caller;
mod logs;
mod openapi;
mod reply;
mod routes;
mod serve;
#[cfg(test)]
mod serve_tests;
#[cfg(test)]
pub(crate) mod testing;
mod tls;
pub(crate) mod wording;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;
use contract::node::api::{
    Accepted, Action, ApiError, Depth, Drift, History, SettingsMode, SettingsOutcome, Status, Why,
};
use tokio::sync::Semaphore;

pub use caller::{Caller, Role};
pub use logs::SystemJournal;
pub use openapi::DOCUMENT;
pub use serve::{Limits, bind_unix, serve_tls, serve_unix};
pub use tls::{TlsError, server_config};

/// What the API asks of the node. Its refusals go to the caller as they are.
#[async_trait]
pub trait Node: Send + Sync + 'static {
    /// Everything that the node says of itself.
    async fn status(&self) -> Status;

    /// The rules that hold it where it is.
    async fn why(&self) -> Why;

    /// What happened.
    async fn history(&self) -> History;

    /// The node beside what was signed. A full comparison may take minutes.
    async fn drift(&self, depth: Depth) -> Result<Drift, ApiError>;

    /// The settings in force, without secrets.
    async fn settings(&self) -> Result<serde_json::Value, ApiError>;

    /// Takes a settings document, or only checks it.
    async fn replace_settings(
        &self,
        caller: &Caller,
        document: Bytes,
        mode: SettingsMode,
    ) -> Result<SettingsOutcome, ApiError>;

    /// Starts what an operator wants, and returns before it is done.
    async fn act(&self, caller: &Caller, action: Action) -> Result<Accepted, ApiError>;

    /// All metrics as text (OpenMetrics 1.0).
    async fn metrics(&self) -> Result<String, ApiError>;
}

/// What every handler has at hand.
struct Shared {
    node: Arc<dyn Node>,
    journal: SystemJournal,
    /// A full comparison reads both slots: one at a time.
    full_drift: Semaphore,
}

/// All routes over this node, with its journal.
pub fn router(node: Arc<dyn Node>, journal: SystemJournal) -> Router {
    routes::router(Arc::new(Shared { node, journal, full_drift: Semaphore::new(1) }))
}
