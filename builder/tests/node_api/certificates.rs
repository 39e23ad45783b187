//! Who is let in, and who is believed to be a node.

use crate::served::{Served, certificates, fail, slipway, status, succeed};

#[test]
fn callers_reach_a_node_with_what_was_issued() {
    let served = Served::with(vec![("GET /v1/status", status(5))]);
    for access in ["otto", "rita"] {
        let text = succeed(&served.ask_as(access, &["status"]));
        assert!(text.starts_with("release    node 1.4.0 in slot a, generation 5"), "{text}");
    }
}

#[test]
fn a_caller_of_another_authority_learns_what_to_look_at() {
    let served = Served::with(vec![("GET /v1/status", status(5))]);
    let others = certificates();
    for name in ["client.pem", "client.key"] {
        let (from, to) = (others.path().join("otto"), served.folder.path().join("otto"));
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let errors = fail(&served.ask(&["status"]), 1);
    assert!(errors.contains("cannot reach the node") && errors.contains("authority"), "{errors}");
    assert!(!errors.contains("PRIVATE KEY"), "{errors}");
}

#[test]
fn a_node_of_another_authority_is_not_believed() {
    let served = Served::with(vec![("GET /v1/status", status(5))]);
    let others = certificates();
    let address = ["node", "--address", &served.address, "--access", "otto", "status"];
    let errors = fail(&slipway(others.path(), &address), 1);
    assert!(errors.contains("cannot reach the node"), "{errors}");
}

#[test]
fn a_node_under_another_name_is_not_believed() {
    let served = Served::with(vec![("GET /v1/status", status(5))]);
    let address = served.address.replace("127.0.0.1", "localhost");
    let arguments = ["node", "--address", &address, "--access", "otto", "status"];
    let errors = fail(&slipway(served.folder.path(), &arguments), 1);
    assert!(errors.contains("not valid for name"), "{errors}");
}

#[test]
fn a_certificate_is_for_one_purpose() {
    let folder = certificates();
    let issue = |arguments: &[&str]| {
        let all = [&["keys", "access", "issue", "ca", "--out", "new"], arguments].concat();
        fail(&slipway(folder.path(), &all), 2)
    };
    issue(&[]);
    issue(&["--reader", "a", "--operator", "b"]);
    issue(&["--node", "n"]);
    issue(&["--reader", "a", "--address", "10.0.2.15"]);
    issue(&["--reader", "a", "--days", "0"]);
    assert!(!folder.path().join("new").exists());
}

#[test]
fn an_access_folder_that_is_missing_is_named_with_the_next_step() {
    let folder = certificates();
    let ask = |arguments: &[&str]| {
        let all = [&["node", "--address", "https://127.0.0.1:1"], arguments].concat();
        slipway(folder.path(), &all)
    };
    assert!(fail(&ask(&["status"]), 3).contains("--access"));
    assert!(fail(&ask(&["--access", "none", "status"]), 3).contains("none/client.pem"));
    let errors = fail(&ask(&["--access", "ca", "status"]), 3);
    assert!(errors.contains("slipway keys access issue"), "{errors}");
    let address = ["node", "--address", "http://127.0.0.1", "status"];
    assert!(fail(&slipway(folder.path(), &address), 2).contains("https://HOST"));
}
