//! A folder with an authority and certificates, and a node that answers by a script.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use contract::node::settings::Settings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// Runs slipway in a folder.
pub fn slipway(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.args(arguments).current_dir(folder);
    command.env_remove("SLIPWAY_NODE").env_remove("SLIPWAY_ACCESS").output().unwrap()
}

/// Demands success; gives standard output.
pub fn succeed(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Demands an exit code, and a silent standard output; gives standard error.
pub fn fail(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(output.stdout.is_empty(), "{:?}", output.stdout);
    errors
}

/// A folder `ca` with an authority, `node` for 127.0.0.1, `otto` (operator), `rita` (reader).
pub fn certificates() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        succeed(&slipway(folder.path(), &[&["keys", "access"], arguments].concat()))
    };
    run(&["new", "ca"]);
    run(&["issue", "ca", "--node", "node-1", "--address", "127.0.0.1", "--out", "node"]);
    run(&["issue", "ca", "--operator", "otto", "--out", "otto"]);
    run(&["issue", "ca", "--reader", "rita", "--out", "rita"]);
    folder
}

/// Status and body for a request; the body of a request comes last.
pub type Script = dyn FnMut(&str, &str, &str) -> (u16, Vec<u8>) + Send;

/// A node that answers by a script, until this is dropped.
pub struct Served {
    pub folder: TempDir,
    pub address: String,
    _runtime: Runtime,
}

impl Served {
    /// Serves on loopback, with the certificates of the folder.
    pub fn new(script: impl FnMut(&str, &str, &str) -> (u16, Vec<u8>) + Send + 'static) -> Self {
        let folder = certificates();
        let acceptor = TlsAcceptor::from(Arc::new(config(folder.path())));
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
                tokio::spawn(async move {
                    // A client may turn away, or be turned away.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = answer(stream, &script).await;
                    }
                });
            }
        });
        Self { folder, address, _runtime: runtime }
    }

    /// A node whose answers are documents by path.
    pub fn with(documents: Vec<(&'static str, Value)>) -> Self {
        Self::new(move |method, path, _| {
            let wanted = format!("{method} {path}");
            match documents.iter().find(|(known, _)| *known == wanted) {
                Some((_, document)) => (200, document.to_string().into_bytes()),
                None => {
                    let error = json!({
                        "code": "not-found", "message": wanted, "next": "correct the test",
                    });
                    (404, error.to_string().into_bytes())
                }
            }
        })
    }

    /// Runs `slipway node` as the operator.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        self.ask_as("otto", arguments)
    }

    /// Runs `slipway node` with an access folder.
    pub fn ask_as(&self, access: &str, arguments: &[&str]) -> Output {
        let all = [&["node", "--address", &self.address, "--access", access], arguments].concat();
        slipway(self.folder.path(), &all)
    }
}

/// What a node makes of the files that were issued to it.
fn config(folder: &Path) -> ServerConfig {
    let api = std::fs::read_to_string(folder.join("node/api.json")).unwrap();
    let settings = format!(r#"{{"schema": 1, "api": {api}}}"#);
    let api = Settings::from_json(settings.as_bytes()).unwrap().api.unwrap();
    let mut authorities = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(api.client_authority.as_bytes()).unwrap();
    authorities.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider));
    let certificate = CertificateDer::from_pem_slice(api.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(api.key.expose().as_bytes()).unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

/// One request and its answer; the connection ends with it.
async fn answer(
    stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    script: &Mutex<Box<Script>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok()).flatten()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let body = String::from_utf8(body).unwrap();
    let (status, body) = script.lock().unwrap()(method, path, &body);
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await
}

/// A status as a node sends it.
pub fn status(generation: u32) -> Value {
    json!({
        "machineId": "0123456789abcdef0123456789abcdef",
        "hostname": "node-1",
        "addresses": ["10.0.2.15"],
        "running": {
            "image": "node", "version": "1.4.0", "rootHash": "ab".repeat(32), "slot": "a",
            "generation": generation, "boot": "blessed", "triesLeft": null,
        },
        "other": null,
        "phase": "idle",
        "target": null,
        "progress": null,
        "health": [{ "name": "kubelet", "state": "passing", "message": null }],
        "follows": { "group": null, "channel": "stable", "pin": null, "maximumVersion": null },
        "holds": [],
        "lastCheck": null,
        "problem": null,
        "fallback": null,
        "refused": [],
        "drift": null,
        "settings": null,
        "clock": { "now": "2026-11-25T12:00:00Z", "synchronized": true, "uptimeSeconds": 60 },
        "updater": "0.1.0",
    })
}
