//! What runs on this node and on no other: static pods, and pods of DaemonSets.
//!
//! In: the pods of this node. Out: those of them that are Ready, for the boot that comes next; and
//! in that boot, those that are not Ready again. **Invariant:** one that the cluster has on this
//! node no more is not missed.

use serde::{Deserialize, Serialize};

use super::pods::{Kind, Pod};
use super::{Cluster, Unanswered};

/// Most workloads that are remembered.
const MAX_WORKLOADS: usize = 100;

/// Something that runs on this node alone. It is known by `key`; people know it by `name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    key: String,
    name: String,
}

impl Workload {
    fn of(pod: &Pod) -> Option<Self> {
        match &pod.kind {
            // Its name stays, while each start of kubelet makes another mirror.
            Kind::Static => {
                let name = pod.full_name();
                Some(Self { key: name.clone(), name: format!("static pod {name}") })
            }
            Kind::DaemonSet { uid, name } => {
                let name = format!("DaemonSet {}/{name}", pod.namespace);
                Some(Self { key: uid.clone(), name })
            }
            Kind::Other => None,
        }
    }
}

impl Cluster {
    /// What is Ready on this node.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ready_workloads(&self) -> Result<Vec<Workload>, Unanswered> {
        let mut ready: Vec<Workload> = Vec::new();
        for pod in self.pods().await?.iter().filter(|pod| pod.is_ready && !pod.is_ending) {
            if let Some(workload) = Workload::of(pod)
                && ready.len() < MAX_WORKLOADS
                && !ready.contains(&workload)
            {
                ready.push(workload);
            }
        }
        Ok(ready)
    }

    /// Those of `wanted` that have pods on this node of which none is Ready, by name.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn missing_workloads(&self, wanted: &[Workload]) -> Result<Vec<String>, Unanswered> {
        let pods = self.pods().await?;
        let here: Vec<(Workload, bool)> =
            pods.iter().filter_map(|pod| Some((Workload::of(pod)?, pod.is_ready))).collect();
        let is_missing = |wanted: &&Workload| {
            let mut own = here.iter().filter(|(known, _)| known.key == wanted.key).peekable();
            own.peek().is_some() && own.all(|(_, is_ready)| !is_ready)
        };
        Ok(wanted.iter().filter(is_missing).map(|missing| missing.name.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stand_in::{StandIn, not_ready, of_daemon_set, pod};

    #[tokio::test]
    async fn what_was_ready_must_be_ready_again_while_it_is_there() {
        let mut mirror = pod("etcd-node-a");
        mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x".into();
        let sick = not_ready(of_daemon_set("sick"));
        let pods = vec![of_daemon_set("proxy"), mirror.clone(), pod("web"), sick.clone()];
        let stand_in = StandIn::start(pods).await;
        let cluster = stand_in.cluster();
        let ready = cluster.ready_workloads().await.unwrap();
        assert_eq!(ready.len(), 2, "{ready:?}");
        assert!(cluster.missing_workloads(&ready).await.unwrap().is_empty());

        // kubelet's new mirror has another uid, and a DaemonSet's new pod another name.
        let mut renewed = of_daemon_set("proxy");
        renewed["metadata"]["name"] = "proxy-new".into();
        mirror["metadata"]["uid"] = "another".into();
        stand_in.replace(vec![renewed.clone(), mirror.clone(), sick.clone()]);
        assert!(cluster.missing_workloads(&ready).await.unwrap().is_empty());

        stand_in.replace(vec![not_ready(renewed), not_ready(mirror.clone()), sick.clone()]);
        let missing = cluster.missing_workloads(&ready).await.unwrap();
        assert_eq!(missing, ["DaemonSet default/proxy", "static pod default/etcd-node-a"]);

        // The DaemonSet was deleted meanwhile.
        stand_in.replace(vec![mirror, sick]);
        assert!(cluster.missing_workloads(&ready).await.unwrap().is_empty());
    }
}
