//! Several mirrors, and servers that misbehave.

use super::*;

#[tokio::test]
async fn a_mirror_that_is_down_is_passed_over() {
    let maker = channel("1.1.0");
    let server = Server::start(maker.files()).await;
    let mut node = Node::new(&[&server], maker.initial_root());
    // Nobody listens on port 1 of the loopback.
    node.mirrors.insert(0, "http://127.0.0.1:1/".to_owned());
    let found = node.look().await.unwrap();
    assert_eq!(found.mirror.as_str(), format!("{}/", server.url()));
    node.mirrors.truncate(1);
    let error = node.error().await;
    assert!(matches!(error, ChannelError::Network { .. }), "{error}");
}

#[tokio::test]
async fn a_mirror_that_lags_or_lies_is_passed_over() {
    let old = channel("1.1.0");
    let mut new = old.next();
    point(&mut new, "1.2.0");
    let mut forged = new.next();
    forged.forged.insert("timestamp", 99);
    let good = Server::start(new.files()).await;
    let node = Node::new(&[&good], old.initial_root());
    node.look().await.unwrap();
    for bad in [old.files(), forged.files(), Files::new()] {
        let bad = Server::start(bad).await;
        let node = Node { mirrors: vec![bad.url(), good.url()], ..node_like(&node) };
        assert_eq!(node.version().await, "1.2.0");
    }
}

fn node_like(node: &Node) -> Node {
    Node {
        state: node.state.clone(),
        scratch: tempfile::tempdir().unwrap(),
        mirrors: Vec::new(),
        root: node.root.clone(),
        reading: node.reading,
        image: node.image,
        running: node.running.clone(),
        pin: node.pin.clone(),
    }
}

#[tokio::test]
async fn what_one_mirror_does_wrong_counts_more_than_an_outage_of_another() {
    let mut maker = channel("1.1.0");
    maker.forged.insert("timestamp", 99);
    let server = Server::start(maker.files()).await;
    let mut node = Node::new(&[&server], maker.initial_root());
    node.mirrors.insert(0, "http://127.0.0.1:1/".to_owned());
    let error = node.error().await;
    assert!(matches!(error, ChannelError::Signature { .. }), "{error}");
}

#[tokio::test]
async fn a_target_that_one_mirror_lacks_comes_from_another() {
    let maker = channel("1.1.0");
    let mut files = maker.files();
    files.retain(|path, _| path.starts_with("metadata/"));
    let (bare, whole) = (Server::start(files).await, Server::start(maker.files()).await);
    let node = Node::new(&[&bare, &whole], maker.initial_root());
    let found = node.look().await.unwrap();
    assert_eq!(found.mirror.as_str(), format!("{}/", bare.url()));
    assert!(found.offer.is_some());
}

#[tokio::test]
async fn a_folder_without_a_channel_is_told_from_an_outage() {
    let server = Server::start(Files::new()).await;
    let mut node = Node::new(&[&server], channel("1.1.0").initial_root());
    assert!(matches!(node.error().await, ChannelError::Absent { .. }));
    node.mirrors = vec![format!("{}/broken/", server.url())];
    let error = node.error().await;
    assert!(matches!(error, ChannelError::Network { .. }), "{error}");
    assert!(error.sentence().contains("503"), "{}", error.sentence());
}

#[tokio::test]
async fn a_redirect_to_another_scheme_is_not_followed() {
    let maker = channel("1.1.0");
    let server = Server::start(maker.files()).await;
    let mut node = Node::new(&[&server], maker.initial_root());
    node.mirrors = vec![format!("{}/elsewhere/", server.url())];
    let sentence = node.error().await.sentence();
    assert!(sentence.contains("another scheme"), "{sentence}");
}

#[tokio::test]
async fn a_file_without_end_is_cut_off() {
    let maker = channel("1.1.0");
    let mut files = maker.files();
    let large = vec![b' '; contract::channel::targets::MAX_METADATA_BYTES as usize + 1];
    files.insert("metadata/timestamp.json".to_owned(), large);
    let server = Server::start(files).await;
    let node = Node::new(&[&server], maker.initial_root());
    let sentence = node.error().await.sentence();
    assert!(sentence.contains("larger than"), "{sentence}");
}

#[tokio::test]
async fn metadata_that_is_not_json_is_told_from_a_forgery() {
    let maker = channel("1.1.0");
    let mut files = maker.files();
    files.insert("metadata/timestamp.json".to_owned(), b"<html>captive portal</html>".to_vec());
    let server = Server::start(files).await;
    let node = Node::new(&[&server], maker.initial_root());
    let error = node.error().await;
    assert!(matches!(error, ChannelError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_asks_to_be_left_alone_is_understood() {
    let maker = channel("1.1.0");
    let server = Server::start(maker.files()).await;
    let mut node = Node::new(&[&server], maker.initial_root());
    node.mirrors = vec![format!("{}/broken", server.url())];
    let error = node.error().await;
    assert!(error.sentence().contains("503"), "{}", error.sentence());
    assert_eq!(error.retry_after(), Some(std::time::Duration::from_secs(120)));
    node.mirrors = vec!["http://127.0.0.1:1/".to_owned()];
    assert_eq!(node.error().await.retry_after(), None);
}
