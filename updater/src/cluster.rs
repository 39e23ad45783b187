//! The node's cluster, asked as its kubelet: does the API server answer, which version has it,
//! and is this node Ready, by the word of *this* boot's kubelet?
//!
//! In: the `kubernetes` settings, and the client certificate that kubelet got with them. Out:
//! well, or why not. During a restart the Node stays Ready for a while, so its boot id must be
//! this boot's. **Invariant:** an answer is read up to a bound; the token goes to the API server
//! whose certificate was checked, and into no message.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use release::settings::{KubernetesSettings, Secret};
use reqwest::{Certificate, Client, Identity, Response, StatusCode};
use semver::Version;
use serde::Deserialize;

use crate::http::{self, BodyError, innermost};
use crate::pod_network::PodRange;

/// Client certificate and key, as kubelet keeps them.
const CERTIFICATE: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
/// What kubelet writes for itself once it has credentials, at each start.
const KUBECONFIG: &str = "/run/kubelet/kubeconfig";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Largest answer that is read; a Node with the usual fifty images has 30 KB.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How long a question may take, which is less than a probe may.
const LIMIT: Duration = Duration::from_millis(4500);
const SEE: &str = "see `slipway node logs --unit kubelet`";

/// What a node needs to find itself at its API server.
pub struct Cluster {
    settings: KubernetesSettings,
    certificate: PathBuf,
    kubeconfig: PathBuf,
    boot_id: PathBuf,
    /// kubelet's name for this node.
    name: fn() -> String,
    /// The client for a certificate; another one comes with the next.
    client: Mutex<Option<(Option<Vec<u8>>, Client)>>,
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

/// True when kubelet has a certificate of a cluster, which is for one name in one cluster.
pub fn has_joined() -> bool {
    Path::new(CERTIFICATE).exists()
}

impl Cluster {
    /// The node of this machine.
    pub fn of_this_machine(settings: KubernetesSettings) -> Self {
        Self {
            settings,
            certificate: CERTIFICATE.into(),
            kubeconfig: KUBECONFIG.into(),
            boot_id: BOOT_ID.into(),
            name: || {
                let system = rustix::system::uname();
                system.nodename().to_string_lossy().to_lowercase()
            },
            client: Mutex::default(),
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
        let boot_id = tokio::fs::read_to_string(&self.boot_id).await;
        let boot_id = boot_id.map_err(|error| format!("{}: {error}", self.boot_id.display()))?;
        self.is_of_boot(&node, boot_id.trim())?;
        judge(&node)
    }

    /// Well when the kubelet of this boot has told the cluster of it.
    fn is_of_boot(&self, node: &NodeObject, boot_id: &str) -> Result<(), String> {
        if node.status.node_info.boot_id == boot_id {
            return Ok(());
        }
        Err(match self.kubeconfig.exists() {
            true => format!("kubelet has not reported this boot to the cluster yet; {SEE}"),
            false => format!(
                "kubelet cannot authenticate at the API server: it has found no certificate and \
                 got none; {SEE}"
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
        let certificate = match tokio::fs::read(&self.certificate).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.why_not_joined().await);
            }
            Err(error) => return Err(format!("{}: {error}; {SEE}", self.certificate.display())),
        };
        let name = (self.name)();
        let address = self.address(&format!("/api/v1/nodes/{name}"));
        let client = self.client(Some(certificate)).map_err(|error| error.to_string())?;
        let answer = client.get(address).send().await;
        let answer = answer.map_err(|error| self.unanswered(&error).to_string())?;
        match answer.status() {
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
        let bytes = body(answer).await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes)
            .map_err(|error| format!("the API server's answer is no Node: {error}"))
    }

    /// Why a node has no certificate yet.
    async fn why_not_joined(&self) -> String {
        let Some(token) = &self.settings.bootstrap_token else {
            return format!(
                "the node has no certificate of the cluster, and kubernetes.bootstrapToken is \
                 not set: give one with `slipway node settings set`; {SEE}"
            );
        };
        match self.ask_with_token(token).await {
            Ok(StatusCode::UNAUTHORIZED) => {
                "the API server refuses kubernetes.bootstrapToken: give a valid one with \
                 `slipway node settings set`"
                    .to_owned()
            }
            Ok(StatusCode::OK) => {
                format!(
                    "nobody has signed the node's certificate yet: see `kubectl get csr`; {SEE}"
                )
            }
            Ok(other) => format!("the API server answers {other} to the token; {SEE}"),
            Err(error) => error.to_string(),
        }
    }

    async fn ask_with_token(&self, token: &Secret) -> Result<StatusCode, Unanswered> {
        let request = self.client(None)?.get(self.address("/api")).bearer_auth(token.expose());
        let answer = request.send().await.map_err(|error| self.unanswered(&error))?;
        Ok(answer.status())
    }

    /// What the API server tells everybody. A certificate that it does not know would be refused
    /// even here; one that it knows helps where strangers get no answer.
    async fn ask_anybody(&self, path: &str) -> Result<Vec<u8>, Unanswered> {
        let certificate = tokio::fs::read(&self.certificate).await.ok();
        let mut answer = self.ask_as(certificate.clone(), path).await?;
        if certificate.is_some() && answer.status() == StatusCode::UNAUTHORIZED {
            answer = self.ask_as(None, path).await?;
        }
        let status = answer.status();
        if status == StatusCode::OK {
            return body(answer).await;
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
        let request = self.client(certificate)?.get(self.address(path));
        request.send().await.map_err(|error| self.unanswered(&error))
    }

    fn client(&self, certificate: Option<Vec<u8>>) -> Result<Client, Unanswered> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, client)) = kept.as_ref()
            && *of == certificate
        {
            return Ok(client.clone());
        }
        let client = self.new_client(certificate.as_deref()).map_err(Unanswered::Wrong)?;
        *kept = Some((certificate, client.clone()));
        Ok(client)
    }

    fn new_client(&self, certificate: Option<&[u8]>) -> Result<Client, String> {
        let text = self.settings.certificate_authority.as_bytes();
        let unusable = |error| format!("kubernetes.certificateAuthority cannot be used: {error}");
        let authorities = Certificate::from_pem_bundle(text).map_err(unusable)?;
        let mut builder = http::direct(LIMIT).tls_certs_only(authorities);
        if let Some(pem) = certificate {
            let identity = Identity::from_pem(pem)
                .map_err(|error| format!("{}: {error}; {SEE}", self.certificate.display()))?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(|error| format!("cannot ask the API server: {error}; {SEE}"))
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.settings.server.as_str().trim_end_matches('/'))
    }

    fn unanswered(&self, error: &reqwest::Error) -> Unanswered {
        let (server, cause) = (&self.settings.server, innermost(error));
        // rustls says so of every certificate that one of the two does not take.
        if cause.to_lowercase().contains("certificate") {
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

async fn body(answer: Response) -> Result<Vec<u8>, Unanswered> {
    http::bounded_body(answer, MAX_ANSWER_BYTES).await.map_err(|error| match error {
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
            let message: String = condition.message.chars().take(300).collect();
            Err(format!("the node is not Ready: {message}; {SEE}"))
        }
        None => Err(format!("the node has no condition Ready yet; {SEE}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str) -> NodeObject {
        let text = format!(
            r#"{{"kind": "Node", "status": {{"nodeInfo": {{"bootID": "b", "x": 1}},
                "conditions": [{{"type": "MemoryPressure", "status": "False"}},
                {{"type": "Ready", "status": "{ready}", "message": "cni plugin missing"}}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        assert_eq!(judge(&node("True")), Ok(()));
        assert!(judge(&node("False")).unwrap_err().contains("cni plugin missing"));
        let bare: NodeObject =
            serde_json::from_str(r#"{"status": {"nodeInfo": {"bootID": "b"}}}"#).unwrap();
        assert!(judge(&bare).unwrap_err().contains("no condition"));
    }

    #[test]
    fn only_this_boots_kubelet_counts() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = cluster(folder.path(), "");
        assert_eq!(cluster.is_of_boot(&node("True"), "b"), Ok(()));
        let stranger = cluster.is_of_boot(&node("True"), "a").unwrap_err();
        assert!(stranger.contains("cannot authenticate"), "{stranger}");
        std::fs::write(folder.path().join("kubeconfig"), "").unwrap();
        let late = cluster.is_of_boot(&node("True"), "a").unwrap_err();
        assert!(late.contains("this boot"), "{late}");
    }

    #[test]
    fn a_node_may_have_addresses_for_its_pods() {
        let text = r#"{"spec": {"podCIDRs": ["10.244.1.0/24"]},
            "status": {"nodeInfo": {"bootID": "b"}}}"#;
        let found: NodeObject = serde_json::from_str(text).unwrap();
        let ranges: Vec<String> = found.spec.pod_ranges.into_iter().map(String::from).collect();
        assert_eq!(ranges, ["10.244.1.0/24"]);
        assert!(node("True").spec.pod_ranges.is_empty());
    }

    fn cluster(folder: &Path, more: &str) -> Cluster {
        let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let authority = serde_json::to_string(&authority.cert.pem()).unwrap();
        let text = format!(
            r#"{{"server": "https://127.0.0.1:1", "certificateAuthority": {authority}{more}}}"#
        );
        Cluster {
            settings: serde_json::from_str(&text).unwrap(),
            certificate: folder.join("client.pem"),
            kubeconfig: folder.join("kubeconfig"),
            boot_id: folder.join("boot_id"),
            name: || "node-a".to_owned(),
            client: Mutex::default(),
        }
    }

    #[tokio::test]
    async fn a_node_that_has_not_joined_says_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let without = cluster(folder.path(), "").node_is_ready().await.unwrap_err();
        assert!(without.contains("kubernetes.bootstrapToken"), "{without}");
        let token = r#", "bootstrapToken": "abcdef.0123456789abcdef""#;
        let unreachable = cluster(folder.path(), token).node_is_ready().await.unwrap_err();
        assert!(unreachable.contains("https://127.0.0.1:1 does not answer"), "{unreachable}");
        assert!(!unreachable.contains("0123456789abcdef"), "{unreachable}");
        let silent = cluster(folder.path(), token).version().await.unwrap_err();
        assert!(matches!(silent, Unanswered::Down(_)), "{silent}");
        std::fs::write(folder.path().join("client.pem"), "nonsense").unwrap();
        let broken = cluster(folder.path(), token).node_is_ready().await.unwrap_err();
        assert!(broken.contains("client.pem"), "{broken}");
    }

    #[tokio::test]
    async fn a_stranger_in_the_api_servers_place_is_not_silence() {
        let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![stranger.cert.der().clone()],
                stranger.signing_key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(tls));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                assert!(acceptor.accept(stream).await.is_err(), "the node trusts a stranger");
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = cluster(folder.path(), "");
        cluster.settings.server = format!("https://127.0.0.1:{port}").parse().unwrap();
        let error = cluster.is_ready().await.unwrap_err();
        assert!(matches!(&error, Unanswered::Wrong(_)), "{error}");
        assert!(error.to_string().contains("kubernetes.certificateAuthority"), "{error}");
    }
}
