//! Connections: accepting, bounding and serving them.
//!
//! In: a listener and the router. Out: nothing, until the future is dropped, which closes every
//! connection. **Invariant:** a connection gets its [`Caller`] before its first request is read,
//! and never another.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::Caller;

/// Pause after `accept` failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// Largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; more are closed at once.
    pub connections: usize,
    /// TLS handshakes at a time, so that strangers cannot take the places of callers.
    pub handshakes: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long the head of a request may take, and how long a connection may be idle.
    pub head: Duration,
    /// How long a connection may last in all.
    pub connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 32,
            handshakes: 32,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            connection: Duration::from_secs(2 * 3600),
        }
    }
}

/// Makes the Unix socket, for its owner alone. A stale one is replaced.
///
/// # Errors
/// As the file system gives them; also when something else than a socket is there.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    // Whoever connects before this line has another user id, and is turned away by it.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the Unix socket. Every caller is an operator: the kernel says that it is root, or
/// the user that this process runs as.
pub async fn serve_unix(listener: UnixListener, router: Router, limits: Limits) -> Infallible {
    let places = Arc::new(Semaphore::new(limits.connections));
    let own = rustix::process::geteuid().as_raw();
    let mut connections = JoinSet::new();
    loop {
        let Some(stream) = accepted(listener.accept(), &mut connections).await else {
            continue;
        };
        let known = stream.peer_cred().is_ok_and(|peer| [0, own].contains(&peer.uid()));
        let place = Arc::clone(&places).try_acquire_owned();
        let (true, Ok(place)) = (known, place) else {
            continue;
        };
        let router = router.clone();
        connections.spawn(async move {
            serve(stream, router, Caller::local(), limits).await;
            drop(place);
        });
    }
}

/// Serves a TCP port with mutual TLS. A connection whose certificate names no role gets
/// refusals.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    limits: Limits,
) -> Infallible {
    let places = Arc::new(Semaphore::new(limits.connections));
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        let Some(stream) = accepted(listener.accept(), &mut connections).await else {
            continue;
        };
        let Ok(door) = Arc::clone(&handshakes).try_acquire_owned() else {
            continue;
        };
        let (acceptor, router, places) = (acceptor.clone(), router.clone(), Arc::clone(&places));
        connections.spawn(async move {
            let shaken = timeout(limits.handshake, acceptor.accept(stream)).await;
            // Who fails learns it by TLS's own alert. A journal line for each stranger would
            // let strangers fill the journal.
            let Ok(Ok(stream)) = shaken else {
                return;
            };
            drop(door);
            let Ok(place) = places.try_acquire_owned() else {
                return;
            };
            match caller(&stream) {
                Some(caller) => serve(stream, router, caller, limits).await,
                None => serve_stranger(stream, router, limits).await,
            }
            drop(place);
        });
    }
}

/// The holder of the certificate that the handshake verified.
fn caller(stream: &tokio_rustls::server::TlsStream<TcpStream>) -> Option<Caller> {
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates()?.first()?;
    Caller::from_certificate(certificate)
}

/// The next connection, clearing away those that ended; `None` after a failure that may pass.
async fn accepted<S, A>(
    accept: impl Future<Output = io::Result<(S, A)>>,
    connections: &mut JoinSet<()>,
) -> Option<S> {
    tokio::pin!(accept);
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = &mut accept => match accepted {
                Ok((stream, _)) => return Some(stream),
                Err(_) => {
                    sleep(ACCEPT_PAUSE).await;
                    return None;
                }
            }
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    router: Router,
    caller: Caller,
    limits: Limits,
) {
    serve_stranger(stream, router.layer(Extension(caller)), limits).await;
}

/// Serves requests; without a [`Caller`] in them, the routes refuse.
async fn serve_stranger(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    router: Router,
    limits: Limits,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A connection that breaks, or that is over its time, concerns only its caller.
    if let Ok(Err(_)) | Err(_) = timeout(limits.connection, connection).await {}
}
