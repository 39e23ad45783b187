//! The HTTP clients of the node: one made from its network settings, and those for who is asked
//! directly.
//!
//! In: proxy, certificates. Out: an [`Http`]. **Invariant:** no environment variable has a say, and
//! no redirect changes the scheme: a mirror with TLS cannot send the node to one without.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use contract::node::settings::{ChannelSettings, NetworkSettings};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, Identity, NoProxy, Proxy, Url};

use super::network::{Body, ClientError, ConnectionError, Http, Network, Request, Response};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time without a byte.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Most redirects for one request.
const MAX_REDIRECTS: usize = 5;

/// The network as the kernel gives it.
#[derive(Debug, Clone, Copy)]
pub struct Internet;

impl Network for Internet {
    fn mirrors(&self, settings: &NetworkSettings) -> Result<Arc<dyn Http>, ClientError> {
        Ok(Arc::new(client(settings)?))
    }

    fn api_server(
        &self,
        authorities: &str,
        identity: Option<&[u8]>,
        limit: Duration,
    ) -> Result<Arc<dyn Http>, ClientError> {
        let authorities = Certificate::from_pem_bundle(authorities.as_bytes())
            .map_err(|error| ClientError::Authorities(connection(error)))?;
        let mut builder = direct(limit).tls_certs_only(authorities);
        if let Some(pem) = identity {
            let identity = Identity::from_pem(pem);
            builder = builder
                .identity(identity.map_err(|error| ClientError::Identity(connection(error)))?);
        }
        Ok(Arc::new(built(builder)?))
    }

    fn metadata(&self, limit: Duration) -> Result<Arc<dyn Http>, ClientError> {
        // Nothing there is TLS; without this the authorities of the image would be read.
        Ok(Arc::new(built(direct(limit).tls_certs_only([]))?))
    }
}

fn built(builder: ClientBuilder) -> Result<Client, ClientError> {
    builder.build().map_err(|error| ClientError::Client(connection(error)))
}

/// Addresses may hold a password, and stay out of messages.
fn connection(error: reqwest::Error) -> ConnectionError {
    ConnectionError::new(error.without_url())
}

#[async_trait]
impl Http for Client {
    async fn send(&self, request: Request) -> Result<Response, ConnectionError> {
        let Request { method, url, headers, body } = request;
        let mut builder = self.request(method, url).headers(headers);
        if !body.is_empty() {
            builder = builder.body(body);
        }
        let mut answer = builder.send().await.map_err(connection)?;
        let headers = std::mem::take(answer.headers_mut());
        Ok(Response { status: answer.status(), headers, body: Box::new(answer) })
    }
}

#[async_trait]
impl Body for reqwest::Response {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        reqwest::Response::chunk(self).await.map_err(connection)
    }
}

/// Why an answer was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than it may be.
    #[error("the answer has over {0} bytes")]
    TooLarge(usize),
    /// The connection ended before it.
    #[error("the answer broke off")]
    Broken(#[source] ConnectionError),
}

/// A client for somebody who is asked directly: no proxy, no redirect, and `limit` for each answer
/// with its body.
fn direct(limit: Duration) -> ClientBuilder {
    Client::builder().no_proxy().referer(false).redirect(Policy::none()).timeout(limit)
}

/// The body of an answer, of at most `most` bytes.
///
/// # Errors
/// [`BodyError`].
pub async fn bounded_body(mut answer: Response, most: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.body.chunk().await.map_err(BodyError::Broken)? {
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

fn client(network: &NetworkSettings) -> Result<Client, ClientError> {
    let mut certificates = Vec::new();
    for (index, text) in network.certificates.iter().enumerate() {
        let parsed = Certificate::from_pem_bundle(text.as_bytes())
            .map_err(|source| ClientError::Certificate { index, source: connection(source) })?;
        certificates.extend(parsed);
    }
    let builder = || -> Result<ClientBuilder, ClientError> {
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
        Err(_) => built(builder()?.tls_certs_only(certificates)),
    }
}

/// Addresses of the channel's folder, best first; each ends with `/`.
pub fn mirrors(settings: &ChannelSettings) -> Vec<Url> {
    let parse = |text: &str| Url::parse(&format!("{}/", text.trim_end_matches('/')));
    // `HttpUrl` is stricter than `Url`: none is lost.
    settings.mirrors.iter().filter_map(|mirror| parse(mirror.as_str()).ok()).collect()
}

fn proxy(network: &NetworkSettings) -> Result<Option<Proxy>, ClientError> {
    let Some(settings) = &network.proxy else { return Ok(None) };
    let mut proxy =
        Proxy::all(settings.url.as_str()).map_err(|error| ClientError::Proxy(connection(error)))?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn client_with(network: &serde_json::Value) -> Client {
        client(&serde_json::from_value(network.clone()).unwrap()).unwrap()
    }

    /// Answers one question with an empty body, and gives the question.
    async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
        let mut question = Vec::new();
        while !question.ends_with(b"\r\n\r\n") {
            question.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8(question).unwrap()
    }

    #[tokio::test]
    async fn questions_go_to_the_proxy_with_its_password_and_around_it_where_excepted() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let direct = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = direct.local_addr().unwrap();
        let network = serde_json::json!({"proxy": {
            "url": format!("http://{}", proxy.local_addr().unwrap()),
            "user": "node", "password": "hunter2", "except": ["127.0.0.0/8"],
        }});
        let client = client_with(&network);

        let asked = client.get("http://updates.example.com/root.json").send();
        let served = async { answer(proxy.accept().await.unwrap().0).await };
        let (answered, question) = tokio::join!(asked, served);
        assert_eq!(answered.unwrap().status(), 200);
        assert!(question.starts_with("GET http://updates.example.com/root.json "), "{question}");
        let login = question.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("proxy-authorization").then_some(value)
        });
        assert_eq!(login, Some("Basic bm9kZTpodW50ZXIy"));

        let asked = client.get(format!("http://{address}/root.json")).send();
        let served = async { answer(direct.accept().await.unwrap().0).await };
        let (answered, question) = tokio::join!(asked, served);
        assert_eq!(answered.unwrap().status(), 200);
        assert!(question.starts_with("GET /root.json "), "{question}");
    }

    #[tokio::test]
    async fn a_mirror_of_an_authority_of_the_settings_is_trusted_and_no_other() {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}/root.json", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Who does not trust it hangs up.
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream).await;
                }
            }
        });
        let stranger = client_with(&serde_json::json!({}));
        let error = stranger.get(&address).send().await.unwrap_err();
        assert!(innermost(&error).contains("certificate"), "{}", innermost(&error));
        let client = client_with(&serde_json::json!({"certificates": [own.cert.pem()]}));
        assert_eq!(client.get(&address).send().await.unwrap().status(), 200);
        server.abort();
    }
}
