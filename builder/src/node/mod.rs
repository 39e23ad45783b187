//! Asking nodes: a client of the API that `slipwayd` serves.
//!
//! In: an address, and a folder with a certificate. Out: the answers of `contract::api`.
//! **Invariant:** only the authority of the access folder vouches for a node; answers are
//! bounded; no proxy sees a request.

mod address;
pub mod bundle;
mod follow;
mod redact;
pub mod text;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::node::api::{
    Accepted, Action, ApiError, ClearBody, LogsQuery, MAX_ANSWER_BYTES, PinBody, SettingsMode,
    SettingsOutcome, paths,
};
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::signing::keys::access::{AUTHORITY, CLIENT_CERTIFICATE, CLIENT_KEY};

pub use address::{InvalidAddress, NodeAddress};
pub use follow::{Aim, Ended, follow};
pub use redact::Redactor;

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// How long an answer may take; a full comparison reads both slots.
const ANSWER_LIMIT: Duration = Duration::from_secs(40);
/// How long the comparison of every byte may take.
const DRIFT_LIMIT: Duration = Duration::from_secs(620);
/// Largest file of an access folder that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Why a node gave no answer, or none of use.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// An https address without a certificate to show.
    #[error(
        "{0} needs a certificate: give its folder with --access DIR, made by `slipway keys access issue`"
    )]
    NoAccess(NodeAddress),
    /// A file of the access folder cannot be read.
    #[error("cannot read {}: give the folder that `slipway keys access issue` made with --access", .0.display())]
    Access(PathBuf, #[source] io::Error),
    /// A file of the access folder is not what it should be.
    #[error("{} holds no usable certificate and key: make them anew with `slipway keys access issue`", .0.display())]
    Certificate(PathBuf, #[source] reqwest::Error),
    /// No connection, or it broke.
    #[error(
        "cannot reach the node at {0}: is it up, does it have an `api` in its settings, and is --access of the same authority?"
    )]
    Unreachable(NodeAddress, #[source] reqwest::Error),
    /// The node refused.
    #[error("{}", .0)]
    Refused(ApiError),
    /// Not an answer of this API.
    #[error(
        "the answer of {0} is not one of a node's API: is a `slipwayd` of a fitting version there?"
    )]
    NotAnAnswer(NodeAddress, #[source] Option<serde_json::Error>),
    /// An answer without end.
    #[error("the answer of {0} has more than {MAX_ANSWER_BYTES} bytes: is a `slipwayd` there?")]
    TooLarge(NodeAddress),
}

impl NodeError {
    /// True when the node may only be restarting.
    pub fn may_pass(&self) -> bool {
        matches!(self, NodeError::Unreachable(..))
    }

    /// True when nobody answers at the address.
    pub fn is_connect(&self) -> bool {
        matches!(self, NodeError::Unreachable(_, error) if error.is_connect())
    }
}

/// A client of one node.
#[derive(Debug)]
pub struct NodeClient {
    http: Client,
    base: String,
    address: NodeAddress,
}

impl NodeClient {
    /// A client for this address, with the certificate of the access folder.
    ///
    /// # Errors
    /// [`NodeError`] when the folder is missing or malformed; nothing is connected yet.
    pub fn open(address: &NodeAddress, access: Option<&Path>) -> Result<Self, NodeError> {
        let builder = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT);
        let (builder, base) = match address {
            NodeAddress::Unix(path) => {
                (builder.unix_socket(path.as_path()), "http://node".to_owned())
            }
            NodeAddress::Https(base) => {
                let folder = access.ok_or_else(|| NodeError::NoAccess(address.clone()))?;
                let unusable = |error| NodeError::Certificate(folder.into(), error);
                let mut identity = read(&folder.join(CLIENT_CERTIFICATE))?;
                identity.extend_from_slice(&read(&folder.join(CLIENT_KEY))?);
                let identity = Identity::from_pem(&identity).map_err(unusable)?;
                let authority = read(&folder.join(AUTHORITY))?;
                let authority = Certificate::from_pem(&authority).map_err(unusable)?;
                let builder = builder
                    .https_only(true)
                    .tls_version_min(reqwest::tls::Version::TLS_1_3)
                    .identity(identity)
                    .tls_certs_only([authority]);
                (builder, base.clone())
            }
        };
        let http = builder.build().map_err(|error| {
            NodeError::Certificate(access.unwrap_or(Path::new("")).into(), error)
        })?;
        Ok(Self { http, base, address: address.clone() })
    }

    /// Whom it asks.
    pub fn address(&self) -> &NodeAddress {
        &self.address
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let limit = if path.starts_with(paths::DRIFT) { DRIFT_LIMIT } else { ANSWER_LIMIT };
        self.http.request(method, format!("{}{path}", self.base)).timeout(limit)
    }

    /// Reads a document, such as the status.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, NodeError> {
        self.parse(&self.send(self.request(Method::GET, path)).await?)
    }

    /// Reads a text: the metrics.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn read_text(&self, path: &str) -> Result<String, NodeError> {
        let bytes = self.send(self.request(Method::GET, path)).await?;
        String::from_utf8(bytes).map_err(|_| NodeError::NotAnAnswer(self.address.clone(), None))
    }

    /// Asks the node to do something. It goes on after the answer.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn act(&self, action: &Action) -> Result<Accepted, NodeError> {
        let body = match action {
            Action::Pin(version) => serde_json::to_vec(&PinBody { version: version.clone() }),
            Action::Clear(version) => serde_json::to_vec(&ClearBody { version: version.clone() }),
            Action::Check | Action::Stage | Action::Update | Action::Rollback | Action::Unpin => {
                Ok(b"{}".to_vec())
            }
        };
        let not_json = |error| NodeError::NotAnAnswer(self.address.clone(), Some(error));
        let request = self.request(Method::POST, action.path()).body(body.map_err(not_json)?);
        self.parse(&self.send(request).await?)
    }

    /// Sends a settings document.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn send_settings(
        &self,
        document: Vec<u8>,
        mode: SettingsMode,
    ) -> Result<SettingsOutcome, NodeError> {
        let dry_run = mode == SettingsMode::DryRun;
        let path = format!("{}?dry-run={dry_run}", paths::SETTINGS);
        let request = self.request(Method::PUT, &path).body(document);
        self.parse(&self.send(request).await?)
    }

    /// Opens the stream of journal entries, a JSON object on each line.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn open_logs(&self, query: &LogsQuery) -> Result<Response, NodeError> {
        let url = format!("{}{}{}", self.base, paths::LOGS, query_text(query));
        let response = self.http.get(url).send().await;
        let response = response.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refusal(response).await)
        }
    }

    /// Reads journal entries to their end, of which there is one: the query must not follow. At
    /// most `limit` bytes; what comes later is left out.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn read_logs(&self, query: &LogsQuery, limit: usize) -> Result<Vec<u8>, NodeError> {
        let mut response = self.open_logs(query).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            let room = limit.saturating_sub(bytes.len());
            bytes.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if bytes.len() >= limit {
                break;
            }
        }
        Ok(bytes)
    }

    /// An error of the connection.
    pub fn unreachable(&self, error: reqwest::Error) -> NodeError {
        NodeError::Unreachable(self.address.clone(), error.without_url())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>, NodeError> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            self.body(response).await
        } else {
            Err(self.refusal(response).await)
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, NodeError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(NodeError::TooLarge(self.address.clone()));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// What an answer that is no success says.
    async fn refusal(&self, response: Response) -> NodeError {
        let bytes = match self.body(response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        match self.parse(&bytes) {
            Ok(error) => NodeError::Refused(error),
            Err(error) => error,
        }
    }

    fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, NodeError> {
        serde_json::from_slice(bytes)
            .map_err(|error| NodeError::NotAnAnswer(self.address.clone(), Some(error)))
    }
}

/// The query behind the path; unit names have characters that an address cannot hold.
fn query_text(query: &LogsQuery) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    let mut append = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            pairs.append_pair(name, &value);
        }
    };
    append("unit", query.unit.clone());
    append("since", query.since.map(|seconds| seconds.to_string()));
    append("lines", query.lines.map(|lines| lines.to_string()));
    append("follow", query.follow.map(|follow| follow.to_string()));
    append("boot", query.boot.map(|boot| boot.to_string()));
    let text = pairs.finish();
    if text.is_empty() { text } else { format!("?{text}") }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, NodeError> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| NodeError::Access(path.into(), error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_escaped() {
        let query =
            LogsQuery { unit: Some(r"a\x2d@0&b".into()), boot: Some(-1), ..LogsQuery::default() };
        assert_eq!(query_text(&query), "?unit=a%5Cx2d%400%26b&boot=-1");
        assert_eq!(query_text(&LogsQuery::default()), "");
    }

    #[test]
    fn an_https_address_needs_an_access_folder() {
        let address: NodeAddress = "https://10.0.2.15".parse().unwrap();
        let error = NodeClient::open(&address, None).unwrap_err().to_string();
        assert!(error.contains("--access"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let error = NodeClient::open(&address, Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("client.pem"), "{error}");
    }
}
