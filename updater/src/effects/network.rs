//! HTTP as a node asks others: the mirrors of its channel, its API server, a metadata service.
//!
//! In: a request. Out: status and headers, and a body that comes in chunks. **Invariant:** who asks
//! bounds what is read; who gives a client bounds redirects, and says below how long an answer may
//! take.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use contract::node::settings::NetworkSettings;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// Where.
    pub url: Url,
    /// Beside those that every request has.
    pub headers: HeaderMap,
    /// Content.
    pub body: Vec<u8>,
}

impl Request {
    /// Asks for what is there.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// A request without content.
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Vec::new() }
    }

    /// The same with a header.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// An answer whose body was not read yet.
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Box<dyn Body>,
}

/// A body that is being read.
#[async_trait]
pub trait Body: Send {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the connection ends before the body, or is silent for longer than it may be.
    async fn chunk(&mut self) -> Result<Option<Bytes>, ConnectionError>;
}

/// Somebody to ask.
#[async_trait]
pub trait Http: fmt::Debug + Send + Sync {
    /// Sends a request, and waits for the head of the answer.
    ///
    /// # Errors
    /// When nobody answers, or not in HTTP, or somebody who is not trusted.
    async fn send(&self, request: Request) -> Result<Response, ConnectionError>;
}

/// What failed between this machine and another one, without the address.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ConnectionError(Box<dyn std::error::Error + Send + Sync>);

impl ConnectionError {
    /// From what the connection says.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(source.into())
    }

    /// Whether one of the two did not take the other's certificate.
    pub fn is_distrust(&self) -> bool {
        let mut next: Option<&(dyn Error + 'static)> = Some(self.0.as_ref());
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return is_about_certificates(error);
            }
            // What is inside is the error itself, and not its source.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match inner {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        false
    }
}

/// What TLS says of a certificate that one of the two has not taken, or has missed.
fn is_about_certificates(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => true,
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            Alert::BadCertificate
                | Alert::NoCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::CertificateRequired
        ),
        _ => false,
    }
}

/// The network that a machine is in.
pub trait Network: Send + Sync {
    /// A client for mirrors: with the proxy and the authorities of the settings.
    ///
    /// # Errors
    /// [`ClientError`], with the field of the settings.
    fn mirrors(&self, settings: &NetworkSettings) -> Result<Arc<dyn Http>, ClientError>;

    /// A client for the API server: asked directly, trusted by these authorities alone, shown this
    /// certificate with its key. An answer with its body may take `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    fn api_server(
        &self,
        authorities: &str,
        identity: Option<&[u8]>,
        limit: Duration,
    ) -> Result<Arc<dyn Http>, ClientError>;

    /// A client for a metadata service: asked directly, without TLS. An answer with its body may
    /// take `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    fn metadata(&self, limit: Duration) -> Result<Arc<dyn Http>, ClientError>;
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A certificate of the settings.
    #[error("network.certificates[{index}] cannot be used: give PEM certificates of authorities")]
    Certificate {
        /// Place in the list.
        index: usize,
        /// What the parser says.
        #[source]
        source: ConnectionError,
    },
    /// The proxy of the settings.
    #[error("network.proxy cannot be used: give its address as http://HOST:PORT")]
    Proxy(#[source] ConnectionError),
    /// The authorities of an API server.
    #[error("kubernetes.certificateAuthority cannot be used")]
    Authorities(#[source] ConnectionError),
    /// A client certificate, or its key.
    #[error("the client certificate cannot be used")]
    Identity(#[source] ConnectionError),
    /// Anything else.
    #[error("cannot set up HTTP with the certificates of the settings and of the image")]
    Client(#[source] ConnectionError),
}
