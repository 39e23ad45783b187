//! What a node hears of itself, and of a stranger in the API server's place.

use super::*;
use crate::effects::HostName;
use crate::effects::fake::{FakeNode, Sizes};

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
    let machine = machine();
    let cluster = cluster(&machine, "");
    assert_eq!(cluster.is_of_boot(&node("True"), "b"), Ok(()));
    let stranger = cluster.is_of_boot(&node("True"), "a").unwrap_err();
    assert!(stranger.contains("cannot authenticate"), "{stranger}");
    machine.join(b"certificate and key");
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

fn machine() -> FakeNode {
    let machine = FakeNode::new(0, Sizes::default());
    machine.rename("node-a").unwrap();
    machine
}

fn cluster(machine: &FakeNode, more: &str) -> Cluster {
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let authority = serde_json::to_string(&authority.cert.pem()).unwrap();
    let text = format!(
        r#"{{"server": "https://127.0.0.1:1", "certificateAuthority": {authority}{more}}}"#
    );
    Cluster::new(serde_json::from_str(&text).unwrap(), &machine.effects())
}

#[tokio::test]
async fn a_node_that_has_not_joined_says_what_it_lacks() {
    let machine = machine();
    let without = cluster(&machine, "").node_is_ready().await.unwrap_err();
    assert!(without.contains("kubernetes.bootstrap "), "{without}");
    let token = r#", "bootstrap": {"token": "abcdef.0123456789abcdef"}"#;
    let unreachable = cluster(&machine, token).node_is_ready().await.unwrap_err();
    assert!(unreachable.contains("https://127.0.0.1:1 does not answer"), "{unreachable}");
    assert!(!unreachable.contains("0123456789abcdef"), "{unreachable}");
    let silent = cluster(&machine, token).version().await.unwrap_err();
    assert!(matches!(silent, Unanswered::Down(_)), "{silent}");
    machine.join(b"nonsense");
    let broken = cluster(&machine, token).node_is_ready().await.unwrap_err();
    assert!(broken.contains("client certificate"), "{broken}");
}

#[test]
fn silence_whose_words_speak_of_certificates_is_silence() {
    use crate::effects::ConnectionError;
    let error = ConnectionError::new("the certificate store's disk is gone");
    assert!(!error.is_distrust());
    let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
    assert!(ConnectionError::new(std::io::Error::other(refused)).is_distrust());
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
    assert!(ConnectionError::new(alert).is_distrust());
    let other = rustls::Error::AlertReceived(rustls::AlertDescription::InternalError);
    assert!(!ConnectionError::new(std::io::Error::other(other)).is_distrust());
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
    let mut cluster = cluster(&machine(), "");
    cluster.settings.server = format!("https://127.0.0.1:{port}").parse().unwrap();
    let error = cluster.is_ready().await.unwrap_err();
    assert!(matches!(&error, Unanswered::Wrong(_)), "{error}");
    assert!(error.to_string().contains("kubernetes.certificateAuthority"), "{error}");
}
