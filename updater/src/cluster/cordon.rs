//! Keeping new pods off this node, and letting them on again.
//!
//! In: the Node as it is. Out: the Node unschedulable with this node's mark, or as it was before.
//! **Invariant:** what somebody else cordoned stays cordoned: only a Node with the mark is
//! uncordoned. A change is made to the Node that was read, or not at all.

use contract::ReleaseVersion;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::pods::Metadata;
use super::question::{Answer, Question};
use super::{Cluster, MAX_ANSWER_BYTES, Unanswered};

/// Mark of a Node that this node has cordoned; its value is the version that it was for.
pub(super) const MARK: &str = "slipway.dev/cordoned-for";
/// Tries of a change that others come before; kubelet writes its Node every few minutes.
const TRIES: usize = 5;

/// Who keeps pods off the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cordon {
    /// This node.
    Own,
    /// Somebody else.
    Foreign,
    /// Nobody: the cluster has no such Node.
    NoNode,
}

#[derive(Deserialize)]
struct NodeObject {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    unschedulable: bool,
}

/// What becomes of a Node that was read.
enum NodeChange<'a> {
    /// It stays as it is.
    Keep(Cordon),
    /// It is unschedulable with this mark, or schedulable without one.
    Mark(Option<&'a str>),
}

impl Cluster {
    /// Cordons the node for a release, unless somebody else has.
    ///
    /// # Errors
    /// [`Unanswered`]; the Node may be cordoned then, with the mark.
    pub(super) async fn cordon(&self, release: &ReleaseVersion) -> Result<Cordon, Unanswered> {
        let release = release.to_string();
        let plan = |node: &NodeObject| match (
            &node.metadata.annotations.cordoned_for,
            node.spec.unschedulable,
        ) {
            (None, true) => NodeChange::Keep(Cordon::Foreign),
            (Some(known), true) if *known == release => NodeChange::Keep(Cordon::Own),
            (None | Some(_), _) => NodeChange::Mark(Some(&release)),
        };
        self.change_node(plan).await
    }

    /// Uncordons the node, if it bears this node's own mark; true when it did.
    ///
    /// # Errors
    /// [`Unanswered`]; the mark may still be there.
    pub async fn uncordon(&self) -> Result<bool, Unanswered> {
        let plan = |node: &NodeObject| match node.metadata.annotations.cordoned_for {
            None => NodeChange::Keep(Cordon::Foreign),
            Some(_) => NodeChange::Mark(None),
        };
        Ok(self.change_node(plan).await? == Cordon::Own)
    }

    /// Changes the Node that was read; once more when somebody else came before.
    async fn change_node<'a>(
        &self,
        plan: impl Fn(&NodeObject) -> NodeChange<'a>,
    ) -> Result<Cordon, Unanswered> {
        for _ in 0..TRIES {
            let Some(node) = self.node().await? else {
                return Ok(Cordon::NoNode);
            };
            let mark = match plan(&node) {
                NodeChange::Keep(cordon) => return Ok(cordon),
                NodeChange::Mark(mark) => mark,
            };
            let answer = self.patch(&node.metadata.resource_version, mark).await?;
            match answer.status {
                StatusCode::OK => return Ok(Cordon::Own),
                StatusCode::CONFLICT => {}
                _ => return Err(answer.refusal("change the Node")),
            }
        }
        Err(Unanswered::Wrong("the Node changes faster than this node can".to_owned()))
    }

    async fn node(&self) -> Result<Option<NodeObject>, Unanswered> {
        let path = format!("/api/v1/nodes/{}", self.name());
        let question =
            Question { method: Method::GET, path: &path, body: None, most: MAX_ANSWER_BYTES };
        let answer = self.ask_as_node(question).await?;
        match answer.status {
            StatusCode::OK => serde_json::from_slice(&answer.body).map(Some).map_err(|error| {
                Unanswered::Wrong(format!("the API server's answer is no Node: {error}"))
            }),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(answer.refusal("show the Node")),
        }
    }

    /// The Node must have this resource version still; else the answer is a conflict.
    async fn patch(&self, version: &str, mark: Option<&str>) -> Result<Answer, Unanswered> {
        let path = format!("/api/v1/nodes/{}", self.name());
        let body = json!({
            "metadata": { "resourceVersion": version, "annotations": { MARK: mark } },
            "spec": { "unschedulable": mark.map(|_| true) },
        });
        let body = Some(("application/merge-patch+json", body.to_string()));
        let question =
            Question { method: Method::PATCH, path: &path, body, most: MAX_ANSWER_BYTES };
        self.ask_as_node(question).await
    }
}
