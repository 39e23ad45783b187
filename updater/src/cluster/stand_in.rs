//! A small API server for tests: one Node, its pods, and evictions with budgets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::{Path as Segments, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Cluster;
use super::cordon::MARK;
use crate::effects::HostName;
use crate::effects::fake::{FakeNode, Sizes};

const NODE: &str = "node-a";
const MERGE: &str = "application/merge-patch+json";

/// What stands in the way of an eviction.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Budget {
    /// 429, always.
    Blocks,
    /// 429, so often.
    BlocksTimes(u32),
    /// It is accepted, and the pod never ends.
    EndsNever,
}

#[derive(Default)]
struct Objects {
    pods: Vec<Value>,
    annotations: HashMap<String, String>,
    is_unschedulable: bool,
    version: u64,
    budgets: HashMap<String, Budget>,
    evictions: usize,
    /// Changes by others that come before the next patches.
    meddling: u32,
}

type Shared = Arc<Mutex<Objects>>;

/// The server; it ends with the test.
pub(crate) struct StandIn {
    objects: Shared,
    address: String,
    server: JoinHandle<()>,
}

/// A Ready pod in the namespace `default`.
pub(crate) fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"nodeName": NODE},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// The same, of a DaemonSet.
pub(crate) fn of_daemon_set(name: &str) -> Value {
    let mut found = pod(&format!("{name}-x7k2p"));
    found["metadata"]["ownerReferences"] =
        json!([{"kind": "DaemonSet", "name": name, "uid": name, "controller": true}]);
    found
}

/// The same pod, when it is not Ready.
pub(crate) fn not_ready(mut pod: Value) -> Value {
    pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
    pod
}

impl StandIn {
    pub(crate) async fn start(pods: Vec<Value>) -> Self {
        let objects = Shared::new(Mutex::new(Objects { pods, ..Objects::default() }));
        let router = Router::new()
            .route("/api/v1/nodes/node-a", get(read_node).patch(patch_node))
            .route("/api/v1/pods", get(list))
            .route("/api/v1/namespaces/default/pods/{name}/eviction", post(evict))
            .with_state(objects.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { objects, address, server }
    }

    /// A client, with a certificate as kubelet keeps it.
    pub(crate) fn cluster(&self) -> Cluster {
        let own = rcgen::generate_simple_self_signed([NODE.to_owned()]).unwrap();
        let machine = FakeNode::new(0, Sizes::default());
        machine.rename(NODE).unwrap();
        machine.join((own.cert.pem() + &own.signing_key.serialize_pem()).as_bytes());
        let text = json!({"server": self.address, "certificateAuthority": own.cert.pem()});
        Cluster::new(serde_json::from_value(text).unwrap(), &machine.effects())
    }

    pub(crate) async fn stop(&self) {
        self.server.abort();
        while !self.server.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn limit(&self, pod: &str, budget: Budget) {
        lock(&self.objects).budgets.insert(pod.to_owned(), budget);
    }

    pub(crate) fn replace(&self, pods: Vec<Value>) {
        lock(&self.objects).pods = pods;
    }

    pub(crate) fn cordon_by_hand(&self) {
        lock(&self.objects).is_unschedulable = true;
    }

    pub(crate) fn change_before_patches(&self, times: u32) {
        lock(&self.objects).meddling = times;
    }

    pub(crate) fn is_unschedulable(&self) -> bool {
        lock(&self.objects).is_unschedulable
    }

    pub(crate) fn is_cordoned_for(&self, release: &str) -> bool {
        let objects = lock(&self.objects);
        objects.is_unschedulable && objects.annotations.get(MARK).is_some_and(|it| it == release)
    }

    pub(crate) fn evictions(&self) -> usize {
        lock(&self.objects).evictions
    }

    pub(crate) fn pod_names(&self) -> Vec<String> {
        let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
        lock(&self.objects).pods.iter().map(name).collect()
    }
}

fn lock(objects: &Shared) -> MutexGuard<'_, Objects> {
    objects.lock().unwrap()
}

async fn read_node(State(objects): State<Shared>) -> String {
    let objects = lock(&objects);
    let spec = if objects.is_unschedulable { json!({"unschedulable": true}) } else { json!({}) };
    let mut node = json!({
        "metadata": {"name": NODE, "resourceVersion": objects.version.to_string()},
        "spec": spec,
    });
    if !objects.annotations.is_empty() {
        node["metadata"]["annotations"] = json!(objects.annotations);
    }
    node.to_string()
}

async fn patch_node(State(objects): State<Shared>, headers: HeaderMap, body: String) -> StatusCode {
    let mut objects = lock(&objects);
    assert_eq!(headers["content-type"], MERGE);
    let patch: Value = serde_json::from_str(&body).unwrap();
    if objects.meddling > 0 {
        objects.meddling -= 1;
        objects.version += 1;
    }
    let known = objects.version.to_string();
    if patch["metadata"]["resourceVersion"].as_str() != Some(&known) {
        return StatusCode::CONFLICT;
    }
    objects.version += 1;
    objects.is_unschedulable = patch["spec"]["unschedulable"].as_bool().unwrap_or_default();
    match patch["metadata"]["annotations"][MARK].as_str() {
        Some(mark) => objects.annotations.insert(MARK.to_owned(), mark.to_owned()),
        None => objects.annotations.remove(MARK),
    };
    StatusCode::OK
}

async fn list(
    State(objects): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
) -> String {
    let selector = "spec.nodeName=node-a,status.phase!=Succeeded,status.phase!=Failed";
    assert_eq!(query["fieldSelector"], selector, "a node may list its own pods alone");
    let pods = &lock(&objects).pods;
    let limit: usize = query["limit"].parse().unwrap();
    let start =
        query.get("continue").map_or(0, |it| it.strip_prefix("+ =").unwrap().parse().unwrap());
    let end = pods.len().min(start + limit);
    let mut answer = json!({"metadata": {}, "items": pods[start.min(end)..end]});
    if end < pods.len() {
        answer["metadata"]["continue"] = format!("+ ={end}").into();
    }
    answer.to_string()
}

async fn evict(
    State(objects): State<Shared>,
    Segments(name): Segments<String>,
    body: String,
) -> (StatusCode, String) {
    let mut objects = lock(&objects);
    let eviction: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(eviction["kind"], "Eviction");
    let uid = &eviction["deleteOptions"]["preconditions"]["uid"];
    let Some(place) = objects.pods.iter().position(|pod| pod["metadata"]["name"] == name) else {
        return (StatusCode::NOT_FOUND, String::new());
    };
    assert_eq!(*uid, objects.pods[place]["metadata"]["uid"]);
    objects.evictions += 1;
    match objects.budgets.get_mut(&name) {
        Some(Budget::BlocksTimes(0)) | None => drop(objects.pods.remove(place)),
        Some(Budget::BlocksTimes(left)) => {
            *left -= 1;
            return (StatusCode::TOO_MANY_REQUESTS, blocked(&name));
        }
        Some(Budget::Blocks) => return (StatusCode::TOO_MANY_REQUESTS, blocked(&name)),
        Some(Budget::EndsNever) => {
            objects.pods[place]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
    }
    (StatusCode::CREATED, json!({"kind": "Status", "status": "Success"}).to_string())
}

/// As the API server words it.
fn blocked(name: &str) -> String {
    let cause = format!("the budget {name}-budget needs 1 healthy pods and has 1 currently");
    json!({
        "kind": "Status",
        "status": "Failure",
        "message": "Cannot evict pod as it would violate the pod's disruption budget.",
        "reason": "TooManyRequests",
        "details": {"causes": [{"reason": "DisruptionBudget", "message": cause}]},
        "code": 429,
    })
    .to_string()
}
