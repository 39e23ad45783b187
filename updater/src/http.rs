//! The HTTP clients of the node: one made from its network settings, and [`direct`] ones.
//!
//! In: proxy, certificates. Out: a [`reqwest::Client`] for metadata and blobs. **Invariant:**
//! no environment variable has a say, and no redirect changes the scheme: a mirror with TLS
//! cannot send the node to one without.

use std::time::Duration;

use release::settings::{ChannelSettings, NetworkSettings};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy, Response, Url};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time without a byte.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Most redirects for one request.
const MAX_REDIRECTS: usize = 5;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A certificate of the settings.
    #[error("network.certificates[{index}] cannot be used: give PEM certificates of authorities")]
    Certificate {
        /// Place in the list.
        index: usize,
        /// What the parser says.
        #[source]
        source: reqwest::Error,
    },
    /// The proxy of the settings.
    #[error("network.proxy cannot be used: give its address as http://HOST:PORT")]
    Proxy(#[source] reqwest::Error),
    /// Anything else.
    #[error("cannot set up HTTP with the certificates of the settings and of the image")]
    Client(#[source] reqwest::Error),
}

/// Why an answer was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than it may be.
    #[error("the answer has over {0} bytes")]
    TooLarge(usize),
    /// The connection ended before it.
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
}

/// A client for somebody who is asked directly: no proxy, no redirect, and `limit` for each answer
/// with its body.
pub fn direct(limit: Duration) -> ClientBuilder {
    Client::builder().no_proxy().referer(false).redirect(Policy::none()).timeout(limit)
}

/// The body of an answer, of at most `most` bytes.
///
/// # Errors
/// [`BodyError`].
pub async fn bounded_body(mut answer: Response, most: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > most {
            return Err(BodyError::TooLarge(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The cause at the end of a chain, which says most: "Connection refused".
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// Makes the client.
///
/// # Errors
/// [`HttpError`], with the field of the settings.
pub fn client(network: &NetworkSettings) -> Result<Client, HttpError> {
    let mut certificates = Vec::new();
    for (index, text) in network.certificates.iter().enumerate() {
        let parsed = Certificate::from_pem_bundle(text.as_bytes())
            .map_err(|source| HttpError::Certificate { index, source })?;
        certificates.extend(parsed);
    }
    let builder = || -> Result<ClientBuilder, HttpError> {
        let builder = Client::builder()
            .user_agent(concat!("slipwayd/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(Policy::custom(redirect))
            // Metadata names the file; a Referer would tell a mirror where the node was before.
            .referer(false)
            .no_proxy();
        Ok(match proxy(network)? {
            Some(proxy) => builder.proxy(proxy),
            None => builder,
        })
    };
    // An image without certificates is no reason to give up: a channel may well be reached
    // without TLS, because nothing in it is believed for where it came from.
    match builder()?.tls_certs_merge(certificates.clone()).build() {
        Ok(client) => Ok(client),
        Err(_) => builder()?.tls_certs_only(certificates).build().map_err(HttpError::Client),
    }
}

/// Addresses of the channel's folder, best first; each ends with `/`.
pub fn mirrors(settings: &ChannelSettings) -> Vec<Url> {
    let parse = |text: &str| Url::parse(&format!("{}/", text.trim_end_matches('/')));
    // `HttpUrl` is stricter than `Url`: none is lost.
    settings.mirrors.iter().filter_map(|mirror| parse(mirror.as_str()).ok()).collect()
}

fn proxy(network: &NetworkSettings) -> Result<Option<Proxy>, HttpError> {
    let Some(settings) = &network.proxy else { return Ok(None) };
    let mut proxy = Proxy::all(settings.url.as_str()).map_err(HttpError::Proxy)?;
    if let Some(user) = &settings.user {
        let password = settings.password.as_ref().map_or("", |password| password.expose());
        proxy = proxy.basic_auth(user, password);
    }
    Ok(Some(proxy.no_proxy(NoProxy::from_string(&settings.except.join(",")))))
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let same_scheme =
        attempt.previous().last().is_none_or(|from| from.scheme() == attempt.url().scheme());
    if !same_scheme {
        return attempt.error("the server redirects to another scheme");
    }
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("the server redirects too often");
    }
    attempt.follow()
}
