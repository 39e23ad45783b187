//! The pods of this node, as the API server lists them for its kubelet.
//!
//! In: pages of a list. Out: the pods that have not ended. **Invariant:** pages have a bound, and
//! so has their number; a name that goes into an address is one.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::question::{Answer, Question};
use super::{Cluster, Unanswered};

/// Pods of a page.
const PAGE: usize = 50;
/// Largest page that is read. A usual pod has 10 KB.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// Most pods that a node can be asked to run, twice: those that leave are listed too.
const MAX_PODS: usize = 2000;

/// A pod on this node that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) kind: Kind,
    pub(super) is_ready: bool,
    /// It was deleted, and has not gone yet.
    pub(super) is_ending: bool,
}

/// Who runs a pod, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// kubelet itself, from a file: a mirror pod.
    Static,
    /// A DaemonSet, which would bring it back at once.
    DaemonSet { uid: String, name: String },
    /// Anybody else, who may bring it back elsewhere.
    Other,
}

#[derive(Deserialize)]
struct PodList {
    #[serde(default)]
    metadata: ListMetadata,
    items: Option<Vec<PodObject>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ListMetadata {
    r#continue: String,
}

#[derive(Deserialize)]
struct PodObject {
    metadata: Metadata,
    #[serde(default)]
    status: PodStatus,
}

/// What is read of an object's metadata, of a pod's or a Node's.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    pub(super) resource_version: String,
    deletion_timestamp: Option<IgnoredAny>,
    pub(super) annotations: Annotations,
    owner_references: Vec<Owner>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<IgnoredAny>,
    #[serde(rename = "slipway.dev/cordoned-for")]
    pub(super) cordoned_for: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: String,
    name: String,
    uid: String,
    controller: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    conditions: Vec<PodCondition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodCondition {
    r#type: String,
    status: String,
}

impl Pod {
    /// Its name for people.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl PodObject {
    fn check(self) -> Result<Pod, Unanswered> {
        let Metadata { name, namespace, uid, owner_references, annotations, .. } = self.metadata;
        if !is_name(&name) || !is_name(&namespace) {
            let text = "the API server lists a pod without a name that can be asked for";
            return Err(Unanswered::Wrong(text.to_owned()));
        }
        let daemon_set = owner_references
            .into_iter()
            .find(|owner| owner.controller && owner.kind == "DaemonSet");
        let kind = match (annotations.mirror, daemon_set) {
            (Some(_), _) => Kind::Static,
            (None, Some(Owner { uid, name, .. })) => Kind::DaemonSet { uid, name },
            (None, None) => Kind::Other,
        };
        let ready = |found: &PodCondition| found.r#type == "Ready" && found.status == "True";
        let is_ready = self.status.conditions.iter().any(ready);
        let is_ending = self.metadata.deletion_timestamp.is_some();
        Ok(Pod { namespace, name, uid, kind, is_ready, is_ending })
    }
}

impl Cluster {
    /// Pods of this node that have neither succeeded nor failed. A node may list its own alone.
    pub(super) async fn pods(&self) -> Result<Vec<Pod>, Unanswered> {
        let mut path = format!(
            "/api/v1/pods?limit={PAGE}&fieldSelector=spec.nodeName%3D{}%2Cstatus.phase!%3DSucceeded\
             %2Cstatus.phase!%3DFailed",
            self.name()
        );
        let first = path.len();
        let mut pods = Vec::new();
        loop {
            let question =
                Question { method: Method::GET, path: &path, body: None, most: MAX_PAGE_BYTES };
            let (page, next) = page(&self.ask_as_node(question).await?)?;
            let is_empty = page.is_empty();
            pods.extend(page);
            if next.is_empty() {
                return Ok(pods);
            }
            if is_empty || pods.len() > MAX_PODS {
                let text = format!("the API server lists over {MAX_PODS} pods of this node");
                return Err(Unanswered::Wrong(text));
            }
            path.truncate(first);
            path.push_str("&continue=");
            path.extend(url::form_urlencoded::byte_serialize(next.as_bytes()));
        }
    }
}

/// The pods of a page, and what asks for the next one.
fn page(answer: &Answer) -> Result<(Vec<Pod>, String), Unanswered> {
    if answer.status != StatusCode::OK {
        return Err(answer.refusal("list the node's pods"));
    }
    let list: PodList = serde_json::from_slice(&answer.body).map_err(|error| {
        Unanswered::Wrong(format!("the API server's answer is no list of pods: {error}"))
    })?;
    let pods: Result<_, _> =
        list.items.unwrap_or_default().into_iter().map(PodObject::check).collect();
    Ok((pods?, list.metadata.r#continue))
}

/// True for what Kubernetes takes as a name; it cannot change an address.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let all = text.bytes().all(|byte| allowed(byte) || matches!(byte, b'-' | b'.'));
    all && text.len() <= 253 && text.bytes().next().is_some_and(allowed)
}
