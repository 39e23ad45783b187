//! The node's cluster, asked with kubelet's own certificate: is the node Ready, by the word of
//! *this* boot's kubelet, and which version has the API server?
//!
//! In: the `kubernetes` settings, and the client certificate that kubelet got with them. Out:
//! well, or why not; and the API server's version. During a restart the Node stays Ready for a while, so its boot id must be
//! this boot's. **Invariant:** the answer is read up to a bound; the token goes to the API
//! server whose certificate was checked, and into no message.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use release::settings::{KubernetesSettings, Secret};
use reqwest::{Certificate, Client, Identity, Response, StatusCode};
use semver::Version;
use serde::Deserialize;

/// Client certificate and key, as kubelet keeps them.
const CERTIFICATE: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Largest answer that is read; a Node with the usual fifty images has 30 KB.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How long a question may take; a probe has half a second more.
const LIMIT: Duration = Duration::from_millis(4500);
const SEE: &str = "see `slipway node logs --unit kubelet`";

/// What a node needs to find itself at its API server.
pub struct Cluster {
    settings: KubernetesSettings,
    certificate: PathBuf,
    boot_id: PathBuf,
    /// kubelet's name for this node.
    name: fn() -> String,
}

/// What is read of a Node.
#[derive(Debug, Deserialize)]
struct Node {
    status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
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

impl Cluster {
    /// The node of this machine.
    pub fn of_this_machine(settings: KubernetesSettings) -> Self {
        Self {
            settings,
            certificate: CERTIFICATE.into(),
            boot_id: BOOT_ID.into(),
            name: || {
                let system = rustix::system::uname();
                system.nodename().to_string_lossy().to_lowercase()
            },
        }
    }

    fn client(&self, identity: Option<Identity>) -> Result<Client, String> {
        let text = self.settings.certificate_authority.as_bytes();
        let unusable = |error| format!("kubernetes.certificateAuthority cannot be used: {error}");
        let authorities = Certificate::from_pem_bundle(text).map_err(unusable)?;
        let builder = Client::builder()
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(LIMIT)
            .tls_certs_only(authorities);
        let builder = match identity {
            Some(identity) => builder.identity(identity),
            None => builder,
        };
        builder.build().map_err(|error| format!("cannot ask the API server: {error}"))
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.settings.server.as_str().trim_end_matches('/'))
    }

    /// Asks whether the node is Ready.
    ///
    /// # Errors
    /// What is missing, with the next step.
    pub async fn node_is_ready(&self) -> Result<(), String> {
        let certificate = match tokio::fs::read(&self.certificate).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.why_not_joined().await);
            }
            Err(error) => return Err(format!("{}: {error}", self.certificate.display())),
        };
        let identity = Identity::from_pem(&certificate)
            .map_err(|error| format!("{}: {error}", self.certificate.display()))?;
        let name = (self.name)();
        let address = self.address(&format!("/api/v1/nodes/{name}"));
        let answer = self.client(Some(identity))?.get(address).send().await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(format!("the cluster has no node {name} yet; {SEE}"));
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(format!(
                    "the API server refuses the node's certificate ({}); {SEE}",
                    answer.status()
                ));
            }
            other => return Err(format!("the API server answers {other}")),
        }
        let body = bounded_body(answer).await?;
        let node: Node = serde_json::from_slice(&body)
            .map_err(|error| format!("the API server's answer is no Node: {error}"))?;
        let boot_id = tokio::fs::read_to_string(&self.boot_id).await;
        let boot_id = boot_id.map_err(|error| format!("{}: {error}", self.boot_id.display()))?;
        judge(&node, boot_id.trim())
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
            Ok(_) => format!("the API server has not signed the node's certificate yet; {SEE}"),
            Err(error) => error,
        }
    }

    /// The API server's version, which it tells everybody.
    ///
    /// # Errors
    /// Why it is not known, without a full stop.
    pub async fn version(&self) -> Result<Version, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Info {
            git_version: String,
        }
        let identity = tokio::fs::read(&self.certificate).await.ok();
        let identity = identity.and_then(|bytes| Identity::from_pem(&bytes).ok());
        let answer = self.client(identity)?.get(self.address("/version")).send().await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the API server answers {} to /version", answer.status()));
        }
        let body = bounded_body(answer).await?;
        let info: Info = serde_json::from_slice(&body)
            .map_err(|error| format!("the API server's answer is no version: {error}"))?;
        let version = info.git_version.strip_prefix('v').unwrap_or(&info.git_version);
        version.parse().map_err(|error| format!("the API server's version is none: {error}"))
    }

    async fn ask_with_token(&self, token: &Secret) -> Result<StatusCode, String> {
        let request = self.client(None)?.get(self.address("/api")).bearer_auth(token.expose());
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        Ok(answer.status())
    }

    fn unreachable(&self, error: &reqwest::Error) -> String {
        let cause = innermost(error);
        format!("the API server {} does not answer: {cause}", self.settings.server)
    }
}

/// The cause at the end of a chain, which says most: "Connection refused".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

async fn bounded_body(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER_BYTES => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => {
                return Err(format!(
                    "the API server's answer has more than {MAX_ANSWER_BYTES} bytes"
                ));
            }
            Ok(None) => return Ok(body),
            Err(error) => return Err(format!("the API server broke off: {error}")),
        }
    }
}

/// Well when this boot's kubelet has said that it is Ready.
fn judge(node: &Node, boot_id: &str) -> Result<(), String> {
    if node.status.node_info.boot_id != boot_id {
        return Err(format!("kubelet has not reported this boot to the cluster yet; {SEE}"));
    }
    let ready = node.status.conditions.iter().find(|condition| condition.r#type == "Ready");
    match ready {
        Some(condition) if condition.status == "True" => Ok(()),
        Some(condition) => {
            let message: String = condition.message.chars().take(300).collect();
            Err(format!("the node is not Ready: {message}"))
        }
        None => Err("the node has no condition Ready yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str, boot_id: &str) -> Node {
        let text = format!(
            r#"{{"kind": "Node", "status": {{"nodeInfo": {{"bootID": "{boot_id}", "x": 1}},
                "conditions": [{{"type": "MemoryPressure", "status": "False"}},
                {{"type": "Ready", "status": "{ready}", "message": "cni plugin missing"}}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn only_this_boots_kubelet_counts() {
        assert_eq!(judge(&node("True", "b"), "b"), Ok(()));
        assert!(judge(&node("True", "a"), "b").unwrap_err().contains("this boot"));
        assert!(judge(&node("False", "b"), "b").unwrap_err().contains("cni plugin missing"));
        let bare: Node =
            serde_json::from_str(r#"{"status": {"nodeInfo": {"bootID": "b"}}}"#).unwrap();
        assert!(judge(&bare, "b").unwrap_err().contains("no condition"));
    }

    fn cluster(folder: &std::path::Path, more: &str) -> Cluster {
        let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let authority = serde_json::to_string(&authority.cert.pem()).unwrap();
        let text = format!(
            r#"{{"server": "https://127.0.0.1:1", "certificateAuthority": {authority}{more}}}"#
        );
        Cluster {
            settings: serde_json::from_str(&text).unwrap(),
            certificate: folder.join("client.pem"),
            boot_id: folder.join("boot_id"),
            name: || "node-a".to_owned(),
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
        std::fs::write(folder.path().join("client.pem"), "nonsense").unwrap();
        let broken = cluster(folder.path(), token).node_is_ready().await.unwrap_err();
        assert!(broken.contains("client.pem"), "{broken}");
    }
}
