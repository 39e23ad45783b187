//! A small API server in memory: its version, one Node, the Node's pods and their evictions.
//!
//! In: requests of the node. Out: answers as Kubernetes words them. **Invariant:** a patch is made
//! to the Node that was read, or not at all.

use std::sync::{Arc, Mutex, MutexGuard};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::web::whole;
use crate::effects::{ConnectionError, Request, Response};

struct State {
    is_silent: bool,
    version: String,
    /// The boot that kubelet has reported, once it has.
    boot_id: Option<String>,
    is_ready: bool,
    is_unschedulable: bool,
    annotations: Value,
    resource_version: u64,
    pods: Vec<Value>,
    /// Evictions are refused so often.
    budget: usize,
}

/// The API server. Clones are the same one.
#[derive(Clone)]
pub struct ApiServer(Arc<Mutex<State>>);

impl Default for ApiServer {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            is_silent: false,
            version: "v1.35.0".to_owned(),
            boot_id: None,
            is_ready: false,
            is_unschedulable: false,
            annotations: json!({}),
            resource_version: 1,
            pods: Vec::new(),
            budget: 0,
        })))
    }
}

impl ApiServer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Nobody hears it, or it answers again.
    pub fn set_silent(&self, is_silent: bool) {
        self.lock().is_silent = is_silent;
    }

    /// True while nobody hears it.
    pub fn is_silent(&self) -> bool {
        self.lock().is_silent
    }

    /// What kubelet reports of a boot.
    pub fn report(&self, boot_id: &str, is_ready: bool) {
        let mut state = self.lock();
        state.boot_id = Some(boot_id.to_owned());
        state.is_ready = is_ready;
    }

    /// Puts a pod on the node; the next so many evictions are refused.
    pub fn run_pod(&self, name: &str, refusals: usize) {
        let mut state = self.lock();
        state.budget = refusals;
        state.pods.push(json!({
            "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }));
    }

    /// True when the node has been cordoned.
    pub fn is_cordoned(&self) -> bool {
        self.lock().is_unschedulable
    }

    /// Answers a request of the node.
    pub(super) async fn answer(&self, request: &Request) -> Result<Response, ConnectionError> {
        if self.is_silent() {
            return std::future::pending().await;
        }
        let mut state = self.lock();
        let (status, body) = state.answer(request);
        Ok(whole(status, body.to_string()))
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> (StatusCode, Value) {
        let path = request.url.path();
        match path {
            "/readyz" => return (StatusCode::OK, json!("ok")),
            "/version" => return (StatusCode::OK, json!({"gitVersion": self.version})),
            "/api/v1/pods" => {
                return (StatusCode::OK, json!({"metadata": {}, "items": self.pods}));
            }
            _ => {}
        }
        if path.starts_with("/api/v1/nodes/") {
            return match request.method {
                Method::PATCH => self.patch(&request.body),
                _ => (StatusCode::OK, self.node()),
            };
        }
        let eviction = path.strip_suffix("/eviction").and_then(|path| path.rsplit('/').next());
        match eviction {
            Some(name) => self.evict(name),
            None => (StatusCode::NOT_FOUND, json!({"message": "no such thing"})),
        }
    }

    fn node(&self) -> Value {
        let ready = if self.is_ready { "True" } else { "False" };
        json!({
            "metadata": {"name": "node", "annotations": self.annotations,
                "resourceVersion": self.resource_version.to_string()},
            "spec": {"unschedulable": self.is_unschedulable, "podCIDRs": ["10.244.1.0/24"]},
            "status": {
                "nodeInfo": {"bootID": self.boot_id.clone().unwrap_or_default()},
                "conditions": [{"type": "Ready", "status": ready, "message": "see kubelet"}],
            },
        })
    }

    /// RFC 7396, as far as the node uses it.
    fn patch(&mut self, body: &[u8]) -> (StatusCode, Value) {
        let patch: Value = serde_json::from_slice(body).unwrap();
        let known = patch["metadata"]["resourceVersion"].as_str();
        if known != Some(&self.resource_version.to_string()) {
            return (StatusCode::CONFLICT, json!({"message": "the object has been modified"}));
        }
        self.resource_version += 1;
        self.is_unschedulable = patch["spec"]["unschedulable"].as_bool().unwrap_or_default();
        let changes = patch["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        for (key, value) in changes {
            match value {
                Value::Null => drop(self.annotations.as_object_mut().unwrap().remove(&key)),
                value => self.annotations[key] = value,
            }
        }
        (StatusCode::OK, json!({}))
    }

    fn evict(&mut self, name: &str) -> (StatusCode, Value) {
        if self.budget > 0 {
            self.budget -= 1;
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            return (StatusCode::TOO_MANY_REQUESTS, json!({"message": message}));
        }
        self.pods.retain(|pod| pod["metadata"]["name"] != name);
        (StatusCode::CREATED, json!({"status": "Success"}))
    }
}
