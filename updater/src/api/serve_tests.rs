//! The API as callers and attackers meet it: real sockets, real TLS.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use contract::node::api::*;
use reqwest::{Client, ClientBuilder, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::testing::{Authority, FakeNode, Identity};
use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that listens, until this is dropped.
struct Served {
    node: Arc<FakeNode>,
    authority: Authority,
    address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn served(limits: Limits, journal: SystemJournal) -> Served {
    let (node, authority) = (Arc::new(FakeNode::default()), Authority::new());
    let tls = server_config(&authority.access()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(node.clone(), journal);
    let task = tokio::spawn(serve_tls(listener, tls, router, limits)).abort_handle();
    Served { node, authority, address, task }
}

impl Served {
    async fn new() -> Self {
        served(Limits::default(), SystemJournal::default()).await
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    fn anonymous(&self) -> ClientBuilder {
        let authority = reqwest::Certificate::from_pem(self.authority.pem.as_bytes()).unwrap();
        Client::builder().no_proxy().tls_certs_only([authority])
    }

    fn with(&self, identity: &Identity) -> Client {
        let pem = format!("{}{}", identity.pem, identity.key);
        let identity = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
        self.anonymous().identity(identity).build().unwrap()
    }

    fn reader(&self) -> Client {
        self.with(&self.authority.client("rita", &[READERS]))
    }

    fn operator(&self) -> Client {
        self.with(&self.authority.client("otto", &[OPERATORS]))
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.node.asked.lock().unwrap().clone()
    }
}

async fn answer<T: serde::de::DeserializeOwned>(response: Response) -> T {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn refusal(response: Response) -> (StatusCode, ApiError) {
    (response.status(), answer(response).await)
}

#[tokio::test]
async fn without_a_certificate_nothing_is_answered() {
    let served = Served::new().await;
    let client = served.anonymous().build().unwrap();
    for path in [paths::STATUS, paths::METRICS, paths::OPENAPI, "/"] {
        let error = client.get(served.url(path)).send().await.unwrap_err();
        assert!(error.status().is_none(), "{path}: {error:?}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_turned_away() {
    let served = Served::new().await;
    let stranger = Authority::new().client("otto", &[OPERATORS]);
    let error = served.with(&stranger).get(served.url(paths::STATUS)).send().await.unwrap_err();
    assert!(error.status().is_none(), "{error:?}");
}

#[tokio::test]
async fn a_nodes_own_certificate_opens_no_node() {
    let served = Served::new().await;
    let node = served.authority.node();
    let error = served.with(&node).get(served.url(paths::STATUS)).send().await.unwrap_err();
    assert!(error.status().is_none(), "{error:?}");
}

#[tokio::test]
async fn plain_http_and_garbage_are_not_answered() {
    let served = Served::new().await;
    for bytes in [&b"GET /v1/status HTTP/1.1\r\n\r\n"[..], &[0xff; 600]] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // The other side may reset the connection after its alert.
        if timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().is_ok() {
            assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_certificate_without_a_role_is_refused_everywhere() {
    let served = Served::new().await;
    let client = served.with(&served.authority.client("eve", &["system:masters"]));
    for route in routes::routes() {
        let request = client.request(route.method, served.url(route.path));
        let (status, error) = refusal(request.send().await.unwrap()).await;
        assert_eq!((status, error.code), (StatusCode::FORBIDDEN, Code::Forbidden));
    }
    assert!(served.asked().is_empty());
}

#[tokio::test]
async fn a_reader_reads_everything_and_changes_nothing() {
    let journal = SystemJournal::with_program("/bin/true".into());
    let served = served(Limits::default(), journal).await;
    let client = served.reader();
    for route in routes::routes() {
        let looks = route.method == "GET";
        let request = client.request(route.method, served.url(route.path));
        let response = request.send().await.unwrap();
        let expected = if looks { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(response.status(), expected, "{}", route.path);
    }
    assert!(served.asked().is_empty());
}

#[tokio::test]
async fn an_operator_acts_under_their_name() {
    let served = Served::new().await;
    let client = served.operator();
    let post = |path: &str| client.post(served.url(path));
    let shown = client.get(served.url(paths::STATUS)).send().await.unwrap();
    let status: Status = answer(shown).await;
    assert_eq!(status, testing::status());
    let pin = post(paths::PIN).body(r#"{"version": "1.3.0"}"#).send().await.unwrap();
    assert_eq!(answer::<Accepted>(pin).await.started, Started::Yes);
    post(paths::CLEAR).send().await.unwrap().error_for_status().unwrap();
    let settings = client.put(served.url("/v1/settings?dry-run=true")).body("{}");
    settings.send().await.unwrap().error_for_status().unwrap();
    let (status, error) = refusal(post(paths::ROLLBACK).send().await.unwrap()).await;
    assert_eq!((status, error.code), (StatusCode::CONFLICT, Code::Conflict));
    assert_eq!(error.next, "install a release first");
    let otto = |what: &str| ("otto".to_owned(), what.to_owned());
    let version: contract::ReleaseVersion = "1.3.0".parse().unwrap();
    let pin = format!("{:?}", Action::Pin(version));
    let expected = [&pin, "Clear(None)", "DryRun 2 bytes", "Rollback"].map(otto);
    assert_eq!(served.asked(), expected);
}

#[tokio::test]
async fn requests_that_are_wrong_get_a_code_and_a_next_step() {
    let served = Served::new().await;
    let client = served.operator();
    let get = |path: &str| client.get(served.url(path));
    let post = |path: &str, body: &'static str| client.post(served.url(path)).body(body);
    let too_large = client.put(served.url(paths::SETTINGS)).body(vec![b' '; MAX_REQUEST_BYTES + 1]);
    for (request, code) in [
        (get("/v1/nothing"), Code::NotFound),
        (get(paths::PIN), Code::MethodNotAllowed),
        (post(paths::PIN, "{}"), Code::Invalid),
        (post(paths::PIN, r#"{"version": "../1"}"#), Code::Invalid),
        (post(paths::CLEAR, r#"{"versoin": "1.0.0"}"#), Code::Invalid),
        (post(paths::UPDATE, "[1]"), Code::Invalid),
        (get("/v1/logs?unit=*"), Code::Invalid),
        (get("/v1/logs?lines=many"), Code::Invalid),
        (get("/v1/drift?depth=deep"), Code::Invalid),
        (too_large, Code::TooLarge),
    ] {
        let (status, error) = refusal(request.send().await.unwrap()).await;
        assert_eq!((status.as_u16(), error.code), (code.http_status(), code), "{error}");
        assert!(!error.next.is_empty());
    }
    assert!(served.asked().is_empty());
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let served = Served::new().await;
    let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'a'; 4096]));
    let request = served.operator().put(served.url(paths::SETTINGS));
    let request = request.body(reqwest::Body::wrap_stream(endless));
    // The node may close before the client has read the answer.
    if let Ok(response) = timeout(PATIENCE, request.send()).await.unwrap() {
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert!(served.asked().is_empty());
}

#[tokio::test]
async fn silent_strangers_do_not_keep_callers_out_for_ever() {
    let limits =
        Limits { handshakes: 2, handshake: Duration::from_millis(200), ..Limits::default() };
    let served = served(limits, SystemJournal::default()).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    let client = served.reader();
    let answered = async {
        while client.get(served.url(paths::STATUS)).send().await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, answered).await.unwrap();
}

#[tokio::test]
async fn more_callers_than_places_are_turned_away() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let served = served(limits, SystemJournal::default()).await;
    let (first, second) = (served.reader(), served.reader());
    // The client keeps its connection, and so its place.
    first.get(served.url(paths::STATUS)).send().await.unwrap().bytes().await.unwrap();
    second.get(served.url(paths::STATUS)).send().await.unwrap_err();
    first.get(served.url(paths::STATUS)).send().await.unwrap();
}

#[tokio::test]
async fn half_a_request_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let limits = Limits { head: Duration::from_millis(100), ..Limits::default() };
    let router = router(Arc::new(FakeNode::default()), SystemJournal::default());
    let task = tokio::spawn(serve_unix(bind_unix(&path).unwrap(), router, limits));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost:").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    task.abort();
}

#[tokio::test]
async fn the_unix_socket_is_its_owners_alone_and_replaces_a_stale_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    drop(bind_unix(&path).unwrap());
    let listener = bind_unix(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let node = Arc::new(FakeNode::default());
    let router = router(node.clone(), SystemJournal::default());
    let task = tokio::spawn(serve_unix(listener, router, Limits::default()));
    let client = Client::builder().unix_socket(path.clone()).build().unwrap();
    let answer = client.post("http://node/v1/check").send().await.unwrap();
    answer.error_for_status().unwrap();
    assert_eq!(node.asked.lock().unwrap()[0].0, "root on the node");
    task.abort();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(bind_unix(&path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

/// A program that writes its process id beside itself, a line, and then nothing for long.
fn endless_journal(folder: &Path) -> SystemJournal {
    let program = folder.join("journalctl");
    let pid = folder.join("pid");
    let script = format!(
        "#!/bin/sh\necho $$ >{0}.new && /bin/mv {0}.new {0}\necho '{{}}'\nexec /bin/sleep 3600\n",
        pid.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    SystemJournal::with_program(program)
}

#[tokio::test]
async fn the_journals_child_dies_with_its_reader() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(Limits::default(), endless_journal(folder.path())).await;
    let client = served.reader();
    let request = client.get(served.url("/v1/logs?follow=true"));
    let mut response = request.send().await.unwrap().error_for_status().unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "{}\n");
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    drop((response, client));
    let gone = async {
        while process.exists() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn readers_of_the_journal_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(Limits::default(), endless_journal(folder.path())).await;
    let client = served.reader();
    let mut open = Vec::new();
    for _ in 0..4 {
        let response = client.get(served.url("/v1/logs?follow=true")).send().await.unwrap();
        open.push(response.error_for_status().unwrap());
    }
    let fifth = client.get(served.url(paths::LOGS)).send().await.unwrap();
    assert_eq!(refusal(fifth).await.1.code, Code::Busy);
}

#[tokio::test]
async fn a_journal_that_fails_says_why() {
    let served = served(Limits::default(), SystemJournal::with_program("/bin/false".into())).await;
    let answer = served.reader().get(served.url(paths::LOGS)).send().await.unwrap();
    let (_, error) = refusal(answer).await;
    assert_eq!(error.code, Code::Internal);
    assert!(error.message.contains("/bin/false"), "{error}");
}
