//! What a probe is, and the names of those that every node has.

use std::time::Duration;

use async_trait::async_trait;

/// Name of the probe of the container runtime, its network of pods included.
pub(super) const CONTAINERD: &str = "containerd";
/// Name of the probe that asks the API server.
pub(super) const API_SERVER: &str = "api-server";
/// Name of the probe that asks for the Node.
pub(super) const NODE_READY: &str = "node-ready";
/// Name of the probe that asks for workloads.
pub(super) const WORKLOADS: &str = "workloads";
/// How long one probe may take to answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// One thing that must hold.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Its name in messages.
    fn name(&self) -> &str;

    /// Asks once.
    ///
    /// # Errors
    /// What is missing, with the next step.
    async fn ask(&self) -> Result<(), String>;
}
