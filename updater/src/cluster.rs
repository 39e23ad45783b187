//! The node's cluster, asked as its kubelet: does the API server answer, which version has it,
//! and is this node Ready, by the word of *this* boot's kubelet? Its parts drain the node.
//!
//! In: the `kubernetes` settings, and the client certificate that kubelet got with them. Out:
//! well, or why not. During a restart the Node stays Ready for a while, so its boot id must be
//! this boot's. **Invariant:** an answer is read up to a bound; token and key go to the API server
//! whose certificate was checked, and into no message.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::node::settings::{Bootstrap, ClientCertificate, KubernetesSettings};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{StatusCode, Url};
use semver::Version;
use serde::Deserialize;

mod contact;
mod cordon;
mod drain;
mod drainer;
mod pod_range;
mod pods;
mod question;
#[cfg(test)]
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;
mod workloads;

pub use contact::Contact;
pub use drain::DrainTerms;
pub use drainer::{Drain, Drainer, Ended};
pub use pod_range::PodRange;
pub use workloads::Workload;

use crate::effects::http::{self, BodyError, innermost};
use crate::effects::{
    ClientError, ConnectionError, Effects, Http, Membership, Network, Request, Response, off_thread,
};

/// Largest answer that is read; a Node with the usual fifty images has 30 KB.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How long a question may take, which is less than a probe may.
const LIMIT: Duration = Duration::from_millis(4500);
/// Characters of a message of the API server that are shown.
const MAX_SAID: usize = 300;
const SEE: &str = "see `slipway node logs --unit kubelet`";

/// What a node needs to find itself at its API server.
pub struct Cluster {
    settings: KubernetesSettings,
    membership: Arc<dyn Membership>,
    network: Arc<dyn Network>,
    client: Mutex<Option<Kept>>,
}

/// The client for a certificate; another one comes with the next.
struct Kept {
    certificate: Option<Vec<u8>>,
    client: Arc<dyn Http>,
}

/// Why the API server did not say what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Nobody is there, or it cannot do its work: it may be down for everybody.
    #[error("{0}")]
    Down(String),
    /// It is there, and something else is wrong.
    #[error("{0}")]
    Wrong(String),
}

/// What is read of a Node.
#[derive(Debug, Deserialize)]
struct NodeObject {
    #[serde(default)]
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
struct NodeSpec {
    /// One for each family of addresses.
    #[serde(default, rename = "podCIDRs")]
    pod_ranges: Vec<PodRange>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeStatus {
    #[serde(default)]
    conditions: Vec<Condition>,
    node_info: NodeInfo,
}

#[derive(Debug, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Deserialize)]
struct NodeInfo {
    #[serde(rename = "bootID")]
    boot_id: String,
}

/// Tries the certificates and the key of settings. Asks nobody.
///
/// # Errors
/// Which of them cannot be used, and why.
pub fn check(settings: &KubernetesSettings, effects: &Effects) -> Result<(), String> {
    let cluster = Cluster::new(settings.clone(), effects);
    cluster.new_client(None)?;
    match &settings.bootstrap {
        Some(Bootstrap::ClientCertificate(own)) => {
            let tried = cluster.new_client(Some(&pem(own)));
            tried
                .map(drop)
                .map_err(|error| format!("kubernetes.bootstrap.clientCertificate: {error}"))
        }
        Some(Bootstrap::Token(_)) | None => Ok(()),
    }
}

/// Certificate and key in one text, as kubelet keeps its own.
fn pem(own: &ClientCertificate) -> Vec<u8> {
    format!("{}\n{}", own.certificate, own.key.expose()).into_bytes()
}

impl Cluster {
    /// The node of a machine.
    pub fn new(settings: KubernetesSettings, effects: &Effects) -> Self {
        Self {
            settings,
            membership: effects.membership.clone(),
            network: effects.network.clone(),
            client: Mutex::default(),
        }
    }

    /// kubelet's name for this node.
    fn name(&self) -> String {
        self.membership.host_name().to_lowercase()
    }

    /// kubelet's certificate with its key; none before it has joined.
    async fn certificate(&self) -> Result<Option<Vec<u8>>, String> {
        let membership = self.membership.clone();
        match off_thread(move || membership.certificate()).await {
            Ok(read) => read.map_err(|error| format!("{error}; {SEE}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The API server is ready, its store included.
    ///
    /// # Errors
    /// [`Unanswered`], with where to look.
    pub async fn is_ready(&self) -> Result<(), Unanswered> {
        self.ask_anybody("/readyz").await.map(drop)
    }

    /// The version of an API server that is ready.
    ///
    /// # Errors
    /// [`Unanswered`], without a full stop.
    pub async fn version(&self) -> Result<Version, Unanswered> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Info {
            git_version: String,
        }
        self.is_ready().await?;
        let body = self.ask_anybody("/version").await?;
        let info: Info = serde_json::from_slice(&body).map_err(|error| {
            Unanswered::Wrong(format!("the API server's answer is no version: {error}"))
        })?;
        let version = info.git_version.strip_prefix('v').unwrap_or(&info.git_version);
        version.parse().map_err(|error| {
            Unanswered::Wrong(format!("the API server's version is none: {error}"))
        })
    }

    /// Asks whether the node is Ready.
    ///
    /// # Errors
    /// What is missing, with the next step.
    pub async fn node_is_ready(&self) -> Result<(), String> {
        let node = self.own_node().await?;
        let boot_id = self.membership.boot_id().map_err(|error| error.to_string())?;
        self.is_of_boot(&node, &boot_id)?;
        judge(&node)
    }

    /// Well when the kubelet of this boot has told the cluster of it.
    fn is_of_boot(&self, node: &NodeObject, boot_id: &str) -> Result<(), String> {
        if node.status.node_info.boot_id == boot_id {
            return Ok(());
        }
        Err(match self.membership.has_credentials() {
            Ok(true) => format!("kubelet has not reported this boot to the cluster yet; {SEE}"),
            Ok(false) => format!(
                "kubelet cannot authenticate at the API server: it has found no certificate and \
                 got none; {SEE}"
            ),
            Err(error) => format!(
                "kubelet has not reported this boot to the cluster, and whether it has found a \
                 certificate cannot be read: {error}; {SEE}"
            ),
        })
    }

    /// The addresses that the cluster gave this node for its pods; none when it gives none.
    ///
    /// # Errors
    /// Why the Node cannot be asked, or that a range is none.
    pub async fn pod_ranges(&self) -> Result<Vec<PodRange>, String> {
        Ok(self.own_node().await?.spec.pod_ranges)
    }

    async fn own_node(&self) -> Result<NodeObject, String> {
        let Some(certificate) = self.certificate().await? else {
            return Err(self.why_not_joined().await);
        };
        let name = self.name();
        let asked = self.ask_as(Some(certificate), &format!("/api/v1/nodes/{name}")).await;
        let answer = asked.map_err(|error| error.to_string())?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(format!("the cluster has no node {name} yet; {SEE}"));
            }
            refused @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(format!(
                    "the API server refuses the node's certificate ({refused}): it has ended, or is \
                     of another cluster or name; {SEE}"
                ));
            }
            other => return Err(format!("the API server answers {other} to the node; {SEE}")),
        }
        let bytes =
            bounded_body(answer, MAX_ANSWER_BYTES).await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes)
            .map_err(|error| format!("the API server's answer is no Node: {error}"))
    }

    /// Why a node has no certificate yet.
    async fn why_not_joined(&self) -> String {
        let Some(bootstrap) = &self.settings.bootstrap else {
            return format!(
                "the node has no certificate of the cluster, and kubernetes.bootstrap is not set: \
                 give a token with `slipway node settings set`; {SEE}"
            );
        };
        let field = match bootstrap {
            Bootstrap::Token(_) => "kubernetes.bootstrap.token",
            Bootstrap::ClientCertificate(_) => "kubernetes.bootstrap.clientCertificate",
        };
        match self.ask_with(bootstrap).await {
            Ok(StatusCode::UNAUTHORIZED) => {
                format!(
                    "the API server refuses {field}: give a valid one with `slipway node settings \
                     set`"
                )
            }
            Ok(StatusCode::OK) => {
                format!(
                    "nobody has signed the node's certificate yet: see `kubectl get csr`, and \
                     whether {field} may ask for one; {SEE}"
                )
            }
            Ok(other) => format!("the API server answers {other} to {field}; {SEE}"),
            Err(error) => error.to_string(),
        }
    }

    async fn ask_with(&self, bootstrap: &Bootstrap) -> Result<StatusCode, Unanswered> {
        let mut request = Request::get(self.address("/api")?);
        let client = match bootstrap {
            Bootstrap::Token(token) => {
                let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
                let mut value = value.map_err(|error| Unanswered::Wrong(error.to_string()))?;
                value.set_sensitive(true);
                request = request.with(AUTHORIZATION, value);
                self.client(None)?
            }
            Bootstrap::ClientCertificate(own) => self.client(Some(pem(own)))?,
        };
        let answer = client.send(request).await.map_err(|error| self.unanswered(&error))?;
        Ok(answer.status)
    }

    /// What the API server tells everybody. A certificate that it does not know would be refused
    /// even here; one that it knows helps where strangers get no answer.
    async fn ask_anybody(&self, path: &str) -> Result<Vec<u8>, Unanswered> {
        let certificate = self.certificate().await.map_err(Unanswered::Wrong)?;
        let mut answer = self.ask_as(certificate.clone(), path).await?;
        if certificate.is_some() && answer.status == StatusCode::UNAUTHORIZED {
            answer = self.ask_as(None, path).await?;
        }
        let status = answer.status;
        if status == StatusCode::OK {
            return bounded_body(answer, MAX_ANSWER_BYTES).await;
        }
        let text = format!("the API server answers {status} to {path}: look at its control plane");
        Err(match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            true => Unanswered::Down(text),
            false => Unanswered::Wrong(text),
        })
    }

    async fn ask_as(
        &self,
        certificate: Option<Vec<u8>>,
        path: &str,
    ) -> Result<Response, Unanswered> {
        let request = Request::get(self.address(path)?);
        let answer = self.client(certificate)?.send(request).await;
        answer.map_err(|error| self.unanswered(&error))
    }

    fn client(&self, certificate: Option<Vec<u8>>) -> Result<Arc<dyn Http>, Unanswered> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.certificate == certificate) {
            return Ok(kept.client.clone());
        }
        let client = self.new_client(certificate.as_deref()).map_err(Unanswered::Wrong)?;
        *kept = Some(Kept { certificate, client: client.clone() });
        Ok(client)
    }

    fn new_client(&self, certificate: Option<&[u8]>) -> Result<Arc<dyn Http>, String> {
        let authorities = &self.settings.certificate_authority;
        let client = self.network.api_server(authorities, certificate, LIMIT);
        client.map_err(|error| match &error {
            ClientError::Authorities(cause) => format!("{error}: {cause}"),
            ClientError::Identity(cause) => format!("{error}: {}; {SEE}", innermost(cause)),
            ClientError::Certificate { .. } | ClientError::Proxy(_) | ClientError::Client(_) => {
                format!("cannot ask the API server: {}; {SEE}", innermost(&error))
            }
        })
    }

    fn address(&self, path: &str) -> Result<Url, Unanswered> {
        let text = format!("{}{path}", self.settings.server.as_str().trim_end_matches('/'));
        text.parse().map_err(|error| Unanswered::Wrong(format!("{text} is no address: {error}")))
    }

    fn unanswered(&self, error: &ConnectionError) -> Unanswered {
        let (server, cause) = (&self.settings.server, innermost(error));
        if error.is_distrust() {
            return Unanswered::Wrong(format!(
                "no trust between the node and {server} ({cause}): see whether the server's \
                 certificate is of kubernetes.certificateAuthority, for this address and in date"
            ));
        }
        Unanswered::Down(format!(
            "the API server {server} does not answer ({cause}): check the address and the network"
        ))
    }
}

async fn bounded_body(answer: Response, most: usize) -> Result<Vec<u8>, Unanswered> {
    http::bounded_body(answer, most).await.map_err(|error| match error {
        BodyError::TooLarge(most) => {
            Unanswered::Wrong(format!("the API server's answer has over {most} bytes"))
        }
        BodyError::Broken(error) => Unanswered::Down(format!("the API server broke off: {error}")),
    })
}

/// Well when kubelet has said that it is Ready.
fn judge(node: &NodeObject) -> Result<(), String> {
    let ready = node.status.conditions.iter().find(|condition| condition.r#type == "Ready");
    match ready {
        Some(condition) if condition.status == "True" => Ok(()),
        Some(condition) => {
            let message: String = condition.message.chars().take(MAX_SAID).collect();
            Err(format!("the node is not Ready: {message}; {SEE}"))
        }
        None => Err(format!("the node has no condition Ready yet; {SEE}")),
    }
}
