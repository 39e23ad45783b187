//! Emptying this node before it restarts, by the eviction API: budgets for disruptions hold.
//!
//! In: how long pods have. Out: a cordoned node without pods that could run elsewhere, or what has
//! not left. **Invariant:** pods are evicted, never deleted; mirror pods and those of DaemonSets
//! stay. Nothing is asked any more once nobody listens.

use std::time::Duration;

use contract::ReleaseVersion;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::cordon::Cordon;
use super::pods::{Kind, Pod};
use super::question::Question;
use super::{Cluster, MAX_ANSWER_BYTES, Unanswered};

/// Pause between two rounds over the pods that have not left.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a drain may take.
#[derive(Debug, Clone, Copy)]
pub struct DrainTerms {
    deadline: Duration,
    pause: Duration,
}

impl DrainTerms {
    /// Until `deadline` from the beginning on.
    pub fn new(deadline: Duration) -> Self {
        Self { deadline, pause: PAUSE }
    }
}

impl Cluster {
    /// Cordons the node and evicts its pods, again and again, until they are gone. What it waits
    /// for goes to `says`; when nobody listens there any more it ends, as after the deadline.
    ///
    /// # Errors
    /// What had not left at the deadline, and why.
    pub async fn drain(
        &self,
        release: &ReleaseVersion,
        terms: DrainTerms,
        says: &watch::Sender<String>,
    ) -> Result<(), String> {
        let until = Instant::now() + terms.deadline;
        let mut is_cordoned = false;
        while !says.is_closed() {
            match self.drain_once(release, &mut is_cordoned, until, says).await {
                Ok(None) => return Ok(()),
                Ok(Some(waiting)) => says.send_replace(waiting),
                Err(error) => says.send_replace(error.to_string()),
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            tokio::select! {
                () = sleep(terms.pause.min(left)) => {}
                () = says.closed() => {}
            }
        }
        Err(says.borrow().clone())
    }

    /// One round: what has not left, if anything.
    async fn drain_once(
        &self,
        release: &ReleaseVersion,
        is_cordoned: &mut bool,
        until: Instant,
        says: &watch::Sender<String>,
    ) -> Result<Option<String>, Unanswered> {
        // Before: else what is evicted comes back. No deadline cuts it off: whether the Node is
        // cordoned must be known to whoever comes next.
        if !*is_cordoned {
            match self.cordon(release).await? {
                // Whatever ran here has no node, and is taken away by the cluster.
                Cordon::NoNode => return Ok(None),
                Cordon::Own => tracing::info!("slipway: the node is cordoned, and is drained"),
                Cordon::Foreign => {
                    tracing::info!(
                        "slipway: somebody else has cordoned the node, which is drained"
                    );
                }
            }
            *is_cordoned = true;
        }
        let round = timeout_at(until, self.evict_all(says)).await;
        // Cut off by the deadline: what the round before waited for says most.
        round.unwrap_or_else(|_| Ok(Some(says.borrow().clone())))
    }

    async fn evict_all(&self, says: &watch::Sender<String>) -> Result<Option<String>, Unanswered> {
        let pods = self.pods().await?;
        let staying: Vec<Pod> = pods.into_iter().filter(|pod| pod.kind == Kind::Other).collect();
        let mut reason = None;
        for pod in staying.iter().filter(|pod| !pod.is_ending) {
            if says.is_closed() {
                break;
            }
            if let Some(refusal) = self.evict(pod).await? {
                reason.get_or_insert_with(|| format!("{}: {refusal}", pod.full_name()));
            }
        }
        let Some(first) = staying.first() else {
            return Ok(None);
        };
        let reason = reason.unwrap_or_else(|| format!("{} is ending", first.full_name()));
        Ok(Some(match staying.len() {
            1 => reason,
            count => format!("{count} pods, among them {reason}"),
        }))
    }

    /// Asks for the eviction of a pod. Gives what speaks against it at present, such as a budget.
    async fn evict(&self, pod: &Pod) -> Result<Option<Unanswered>, Unanswered> {
        let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", pod.namespace, pod.name);
        let body = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": { "name": pod.name, "namespace": pod.namespace },
            // Another pod may have got the name meanwhile.
            "deleteOptions": { "preconditions": { "uid": pod.uid } },
        });
        let body = Some(("application/json", body.to_string()));
        let question = Question { method: Method::POST, path: &path, body, most: MAX_ANSWER_BYTES };
        let answer = self.ask_as_node(question).await?;
        Ok(match answer.status {
            status if status.is_success() => None,
            // It has gone, or another has its name: the next round knows.
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => None,
            _ => Some(answer.refusal("evict it")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::stand_in::{Budget, StandIn, pod};
    use super::*;

    fn terms(deadline: Duration) -> DrainTerms {
        DrainTerms { deadline, pause: Duration::from_millis(10) }
    }

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(200);

    fn release() -> ReleaseVersion {
        "1.1.0".parse().unwrap()
    }

    async fn drain(stand_in: &StandIn, deadline: Duration) -> Result<(), String> {
        let (says, _heard) = watch::channel(String::new());
        stand_in.cluster().drain(&release(), terms(deadline), &says).await
    }

    #[tokio::test]
    async fn only_what_can_run_elsewhere_is_evicted() {
        let mut pods: Vec<_> = (0..PAGES_OF_PODS).map(|it| pod(&format!("web-{it}"))).collect();
        let mut mirror = pod("etcd-node-a");
        mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x".into();
        let mut daemon = pod("proxy-x");
        daemon["metadata"]["ownerReferences"] =
            json!([{"kind": "DaemonSet", "name": "proxy", "uid": "u", "controller": true}]);
        pods.extend([mirror, daemon]);
        let stand_in = StandIn::start(pods).await;
        assert_eq!(drain(&stand_in, LONG).await, Ok(()));
        assert_eq!(stand_in.pod_names(), ["etcd-node-a", "proxy-x"]);
        assert!(stand_in.is_cordoned_for("1.1.0"));
        assert!(stand_in.cluster().uncordon().await.unwrap());
        assert!(!stand_in.is_unschedulable());
        assert!(!stand_in.cluster().uncordon().await.unwrap(), "there is nothing left to undo");
    }

    /// More than a page holds.
    const PAGES_OF_PODS: usize = 120;

    #[tokio::test]
    async fn a_budget_holds_until_it_frees() {
        let stand_in = StandIn::start(vec![pod("web"), pod("other")]).await;
        stand_in.limit("web", Budget::BlocksTimes(3));
        assert_eq!(drain(&stand_in, LONG).await, Ok(()));
        assert!(stand_in.pod_names().is_empty());
        assert_eq!(stand_in.evictions(), 3 + 2);
    }

    #[tokio::test]
    async fn what_has_not_left_at_the_deadline_is_named_with_its_budget() {
        let stand_in = StandIn::start(vec![pod("web"), pod("other")]).await;
        stand_in.limit("web", Budget::Blocks);
        let waiting = drain(&stand_in, SHORT).await.unwrap_err();
        assert!(waiting.contains("default/web"), "{waiting}");
        assert!(waiting.contains("the budget web-budget needs 1 healthy pods"), "{waiting}");
        assert_eq!(stand_in.pod_names(), ["web"]);
    }

    #[tokio::test]
    async fn an_accepted_pod_is_waited_for() {
        let stand_in = StandIn::start(vec![pod("web")]).await;
        stand_in.limit("web", Budget::EndsNever);
        let waiting = drain(&stand_in, SHORT).await.unwrap_err();
        assert!(waiting.contains("default/web is ending"), "{waiting}");
        assert_eq!(stand_in.evictions(), 1, "it was evicted twice");
    }

    #[tokio::test]
    async fn somebody_elses_cordon_is_neither_taken_nor_undone() {
        let stand_in = StandIn::start(vec![pod("web")]).await;
        stand_in.cordon_by_hand();
        assert_eq!(drain(&stand_in, LONG).await, Ok(()));
        assert!(stand_in.pod_names().is_empty());
        assert!(!stand_in.is_cordoned_for("1.1.0"));
        assert!(!stand_in.cluster().uncordon().await.unwrap());
        assert!(stand_in.is_unschedulable(), "an operator's cordon is gone");
    }

    #[tokio::test]
    async fn a_node_that_changes_meanwhile_is_read_again() {
        let stand_in = StandIn::start(Vec::new()).await;
        stand_in.change_before_patches(2);
        assert_eq!(drain(&stand_in, LONG).await, Ok(()));
        assert!(stand_in.is_cordoned_for("1.1.0"));
        // An older cordon of its own is for the new release from here on.
        let (says, _heard) = watch::channel(String::new());
        let newer = "1.2.0".parse().unwrap();
        stand_in.cluster().drain(&newer, terms(LONG), &says).await.unwrap();
        assert!(stand_in.is_cordoned_for("1.2.0"));
    }

    #[tokio::test]
    async fn an_api_server_that_is_gone_has_the_same_deadline() {
        let stand_in = StandIn::start(vec![pod("web")]).await;
        let cluster = stand_in.cluster();
        stand_in.stop().await;
        let (says, _heard) = watch::channel(String::new());
        let waiting = cluster.drain(&release(), terms(SHORT), &says).await.unwrap_err();
        assert!(waiting.contains("does not answer"), "{waiting}");
    }

    #[tokio::test]
    async fn a_drain_that_nobody_waits_for_ends() {
        let stand_in = StandIn::start(vec![pod("web")]).await;
        stand_in.limit("web", Budget::Blocks);
        let (says, heard) = watch::channel(String::new());
        drop(heard);
        let ended = stand_in.cluster().drain(&release(), terms(LONG), &says).await;
        assert!(ended.is_err() && stand_in.pod_names() == ["web"]);
    }
}
