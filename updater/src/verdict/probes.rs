//! The probes: container runtime, kubelet, the cluster, and what the settings add.
//!
//! In: sockets, addresses and paths. Out: well, or what is missing and where to look.
//! **Invariant:** an answer is read up to a bound, and nothing of it is believed but what is
//! asked for.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contract::node::settings::{self, KubernetesSettings};
use tokio::time::{Instant, timeout};

use super::address::{HttpAddress, InvalidAddress};
use super::probe::{ANSWER_TIMEOUT, API_SERVER, CONTAINERD, NODE_READY, Probe, WORKLOADS};
use crate::cluster::{Cluster, Unanswered, Workload};
use crate::effects::{Effects, Health};
use crate::grpc::messages::RuntimeCondition;

/// Pause between two lists of the node's pods, which are longer than other answers.
const LIST_PAUSE: Duration = Duration::from_secs(5);
/// How long all pages of that list may take, which is less than a probe may.
const LIST_LIMIT: Duration = Duration::from_secs(4);
/// What containerd must say of itself.
const CONDITIONS: [&str; 2] = ["RuntimeReady", "NetworkReady"];

/// Where container runtime and kubelet are.
#[derive(Debug, Clone)]
pub struct NodePrograms {
    /// containerd's socket.
    pub containerd: PathBuf,
    /// kubelet's health address.
    pub kubelet: HttpAddress,
}

/// Every probe of a node, in the order in which causes are looked for.
///
/// # Errors
/// When an address of the settings is none that a probe can ask.
pub fn probes(
    effects: &Effects,
    node: &NodePrograms,
    cluster: Option<&KubernetesSettings>,
    workloads: Vec<Workload>,
    added: &[settings::Probe],
) -> Result<Vec<Box<dyn Probe>>, InvalidAddress> {
    let health = &effects.health;
    let cluster_of = |settings: &KubernetesSettings| Cluster::new(settings.clone(), effects);
    let mut probes: Vec<Box<dyn Probe>> = vec![
        Box::new(ContainerRuntime { health: health.clone(), socket: node.containerd.clone() }),
        Box::new(Status {
            health: health.clone(),
            name: "kubelet".to_owned(),
            address: node.kubelet.clone(),
            expected: 200,
            see: "slipway node logs --unit kubelet".to_owned(),
        }),
    ];
    if let Some(cluster) = cluster {
        probes.push(Box::new(ApiServerUp(cluster_of(cluster))));
        probes.push(Box::new(NodeReady(cluster_of(cluster))));
        if !workloads.is_empty() {
            let cluster = cluster_of(cluster);
            probes.push(Box::new(WorkloadsBack { cluster, workloads, last: Mutex::default() }));
        }
    }
    for probe in added {
        probes.push(match probe {
            settings::Probe::Http { name, url, status } => Box::new(Status {
                health: health.clone(),
                name: name.clone(),
                address: url.to_string().parse()?,
                expected: *status,
                see: "slipway node logs".to_owned(),
            }),
            settings::Probe::File { name, path } => {
                let (health, name) = (health.clone(), name.clone());
                Box::new(Present { health, name, path: PathBuf::from(path) })
            }
        });
    }
    Ok(probes)
}

/// containerd and its pod network.
struct ContainerRuntime {
    health: Arc<dyn Health>,
    socket: PathBuf,
}

#[async_trait]
impl Probe for ContainerRuntime {
    fn name(&self) -> &str {
        CONTAINERD
    }

    async fn ask(&self) -> Result<(), String> {
        let missing = missing_conditions(&conditions(self.health.as_ref(), &self.socket).await?);
        if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
    }
}

/// The API server is there and can work. Apart from the node's own state, because it may be down
/// for everybody; what is wrong with its answers, the question for the Node tells.
struct ApiServerUp(Cluster);

#[async_trait]
impl Probe for ApiServerUp {
    fn name(&self) -> &str {
        API_SERVER
    }

    async fn ask(&self) -> Result<(), String> {
        match self.0.is_ready().await {
            Err(Unanswered::Down(missing)) => Err(missing),
            Ok(()) | Err(Unanswered::Wrong(_)) => Ok(()),
        }
    }
}

/// The Node is Ready.
struct NodeReady(Cluster);

#[async_trait]
impl Probe for NodeReady {
    fn name(&self) -> &str {
        NODE_READY
    }

    async fn ask(&self) -> Result<(), String> {
        self.0.node_is_ready().await
    }
}

/// What ran on this node alone before the update is Ready again.
struct WorkloadsBack {
    cluster: Cluster,
    workloads: Vec<Workload>,
    /// When the pods were asked for last, and what was missing by the last answer.
    last: Mutex<(Option<Instant>, Option<Vec<String>>)>,
}

#[async_trait]
impl Probe for WorkloadsBack {
    fn name(&self) -> &str {
        WORKLOADS
    }

    async fn ask(&self) -> Result<(), String> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last().0.is_none_or(|asked| asked.elapsed() >= LIST_PAUSE) {
            let listed = self.cluster.missing_workloads(&self.workloads);
            let listed = tokio::time::timeout(LIST_LIMIT, listed).await;
            last().0 = Some(Instant::now());
            // Without an answer, the last one counts: the API server has a probe of its own.
            if let Ok(Ok(missing)) = listed {
                last().1 = Some(missing);
            }
        }
        match last().1.as_deref() {
            Some([]) => Ok(()),
            Some(missing) => Err(format!(
                "Ready before the update and not now: {}; see `kubectl describe pod`",
                missing.join(", ")
            )),
            None => Err("the API server has not listed the node's pods yet".to_owned()),
        }
    }
}

/// An address that answers with a status.
struct Status {
    health: Arc<dyn Health>,
    name: String,
    address: HttpAddress,
    expected: u16,
    see: String,
}

#[async_trait]
impl Probe for Status {
    fn name(&self) -> &str {
        &self.name
    }

    async fn ask(&self) -> Result<(), String> {
        let failed = |reason| format!("{}: {reason}", self.address);
        let answered = status(self.health.as_ref(), &self.address, self.expected, &self.see).await;
        answered.map_err(failed)
    }
}

/// A file that is there.
struct Present {
    health: Arc<dyn Health>,
    name: String,
    path: PathBuf,
}

#[async_trait]
impl Probe for Present {
    fn name(&self) -> &str {
        &self.name
    }

    async fn ask(&self) -> Result<(), String> {
        let found = self.health.file(&self.path).await;
        found.map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// Whether kubelet says that it is well.
pub async fn kubelet_is_healthy(health: &dyn Health, node: &NodePrograms) -> bool {
    matches!(timeout(ANSWER_TIMEOUT, status(health, &node.kubelet, 200, "")).await, Ok(Ok(())))
}

/// What containerd says of itself.
async fn conditions(health: &dyn Health, socket: &Path) -> Result<Vec<RuntimeCondition>, String> {
    match timeout(ANSWER_TIMEOUT, health.runtime(socket)).await {
        Ok(Ok(conditions)) => Ok(conditions),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer; see `slipway node logs --unit containerd`".to_owned()),
    }
}

fn is_true(conditions: &[RuntimeCondition], name: &str) -> bool {
    conditions.iter().any(|condition| condition.r#type == name && condition.status)
}

/// What containerd lacks, in its own words.
fn missing_conditions(conditions: &[RuntimeCondition]) -> Vec<String> {
    let missing = CONDITIONS.iter().filter(|name| !is_true(conditions, name));
    missing
        .map(|name| match conditions.iter().find(|condition| condition.r#type == *name) {
            Some(condition) => {
                let text = format!("{}: {}", condition.reason, condition.message);
                format!("{name} of containerd ({})", text.chars().take(300).collect::<String>())
            }
            None => format!("{name} of containerd (it says nothing of it)"),
        })
        .collect()
}

/// Asks an address, which must answer with the status. `see` is where an operator looks next.
async fn status(
    health: &dyn Health,
    address: &HttpAddress,
    expected: u16,
    see: &str,
) -> Result<(), String> {
    match health.http_status(address.host(), address.path()).await {
        Ok(Some(status)) if status == expected => Ok(()),
        Ok(Some(other)) => Err(format!("HTTP status {other}; see `{see}`")),
        Ok(None) => Err("the answer is not HTTP".to_owned()),
        Err(error) => Err(format!("{error}; see `{see}`")),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::cluster::stand_in::{StandIn, not_ready, of_daemon_set};
    use crate::effects::fake::{FakeNode, Sizes};
    use crate::effects::health::Programs;
    use crate::grpc::GrpcError;

    fn condition(name: &str, status: bool) -> RuntimeCondition {
        RuntimeCondition {
            r#type: name.into(),
            status,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let found = missing_conditions(&[
            condition("RuntimeReady", true),
            condition("NetworkReady", false),
            condition("Unknown", false),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("cni plugin not initialized"), "{found:?}");
        assert_eq!(missing_conditions(&[]).len(), 2);
    }

    /// Gives this status.
    struct Says(Option<u16>);

    #[async_trait]
    impl Health for Says {
        async fn runtime(&self, _: &Path) -> Result<Vec<RuntimeCondition>, GrpcError> {
            Ok(Vec::new())
        }

        async fn http_status(&self, host: &str, path: &str) -> io::Result<Option<u16>> {
            assert_eq!((host, path), ("127.0.0.1:8080", "/ready"));
            Ok(self.0)
        }

        async fn file(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn only_the_expected_status_is_well() {
        let address = "http://127.0.0.1:8080/ready".parse().unwrap();
        let ask = async |says| status(&Says(says), &address, 204, "journalctl -u x").await;
        assert_eq!(ask(Some(204)).await, Ok(()));
        let error = ask(Some(200)).await.unwrap_err();
        assert!(error.contains("200") && error.contains("journalctl -u x"), "{error}");
        assert!(ask(None).await.unwrap_err().contains("not HTTP"));
    }

    #[tokio::test]
    async fn what_does_not_come_back_holds_the_boot_and_so_does_what_nobody_has_seen() {
        let stand_in = StandIn::start(vec![of_daemon_set("agent")]).await;
        let workloads = stand_in.cluster().ready_workloads().await.unwrap();
        let probe = || WorkloadsBack {
            cluster: stand_in.cluster(),
            workloads: workloads.clone(),
            last: Mutex::default(),
        };
        assert_eq!(probe().ask().await, Ok(()));
        stand_in.replace(vec![not_ready(of_daemon_set("agent"))]);
        let told = probe();
        let missing = told.ask().await.unwrap_err();
        assert!(missing.contains("DaemonSet default/agent"), "{missing}");
        stand_in.stop().await;
        assert_eq!(told.ask().await, Err(missing));
        assert!(probe().ask().await.unwrap_err().contains("not listed"));
    }

    #[tokio::test]
    async fn probes_of_the_settings_come_after_runtime_and_kubelet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        let added = serde_json::json!([
            {"kind": "http", "name": "ingress", "url": "http://127.0.0.1:8080/ready"},
            {"kind": "file", "name": "disk", "path": path}
        ]);
        let added: Vec<settings::Probe> = serde_json::from_value(added).unwrap();
        let node = NodePrograms {
            containerd: "/nonexistent".into(),
            kubelet: "http://127.0.0.1:1/healthz".parse().unwrap(),
        };
        let cluster = r#"{"server": "https://127.0.0.1:1", "certificateAuthority": ""}"#;
        let cluster: KubernetesSettings = serde_json::from_str(cluster).unwrap();
        let effects = FakeNode::new(0, Sizes::default()).effects();
        let effects = Effects { health: Arc::new(Programs), ..effects };
        let probes = probes(&effects, &node, Some(&cluster), Vec::new(), &added).unwrap();
        let names: Vec<&str> = probes.iter().map(|probe| probe.name()).collect();
        assert_eq!(names, ["containerd", "kubelet", "api-server", "node-ready", "ingress", "disk"]);
        assert!(probes[0].ask().await.unwrap_err().contains("containerd"));
        let missing = probes[5].ask().await.unwrap_err();
        assert!(missing.contains(path.to_str().unwrap()), "{missing}");
        std::fs::write(&path, "").unwrap();
        assert_eq!(probes[5].ask().await, Ok(()));
    }
}
