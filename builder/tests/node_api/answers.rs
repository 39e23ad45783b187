//! What is printed of what a node answers, also of what no node would answer.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::served::{Served, fail, status, succeed};

#[test]
fn json_is_what_the_node_said() {
    let served = Served::with(vec![("GET /v1/status", status(5))]);
    let text = succeed(&served.ask(&["--format", "json", "status"]));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), status(5));
}

#[test]
fn every_action_has_its_route_and_its_body() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let served = Served::new(move |method, path, body| {
        record.lock().unwrap().push(format!("{method} {path} {body}"));
        let accepted = json!({ "started": "yes", "target": "1.4.0", "message": "under way" });
        (200, accepted.to_string().into_bytes())
    });
    for arguments in [
        &["check"][..],
        &["stage"],
        &["update"],
        &["rollback"],
        &["pin", "1.3.0"],
        &["unpin"],
        &["clear"],
        &["clear", "1.3.0"],
    ] {
        assert_eq!(succeed(&served.ask(arguments)), "under way\n");
    }
    let expected = [
        "POST /v1/check {}",
        "POST /v1/stage {}",
        "POST /v1/update {}",
        "POST /v1/rollback {}",
        r#"POST /v1/pin {"version":"1.3.0"}"#,
        "POST /v1/unpin {}",
        "POST /v1/clear {}",
        r#"POST /v1/clear {"version":"1.3.0"}"#,
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn settings_are_sent_as_they_are_and_shown_without_steering_the_terminal() {
    let served = Served::new(|method, path, body| match (method, path) {
        ("PUT", "/v1/settings?dry-run=true") => {
            assert_eq!(body, "{ }");
            let outcome = json!({ "changed": ["api.port"], "message": "these would be taken" });
            (200, outcome.to_string().into_bytes())
        }
        _ => (200, "{\"hostname\": \"a\u{9b}2Jb\"}".into()),
    });
    std::fs::write(served.folder.path().join("settings.json"), "{ }").unwrap();
    let text = succeed(&served.ask(&["settings", "set", "--dry-run", "settings.json"]));
    assert_eq!(text, "these would be taken\n- api.port\n");
    let text = succeed(&served.ask(&["settings", "show"]));
    assert_eq!(text, "{\n  \"hostname\": \"a 2Jb\"\n}\n");
}

#[test]
fn a_refusal_says_what_and_what_next() {
    let served = Served::new(|_, _, _| {
        let error = json!({
            "code": "forbidden", "message": "only operators may do that", "next": "use another",
        });
        (403, error.to_string().into_bytes())
    });
    let errors = fail(&served.ask_as("rita", &["update"]), 3);
    assert_eq!(errors, "slipway: only operators may do that: use another\n");
}

#[test]
fn logs_are_printed_a_line_each() {
    let entry = "{\"__REALTIME_TIMESTAMP\":\"1795608000000000\",\
                 \"_SYSTEMD_UNIT\":\"kubelet.service\",\"MESSAGE\":\"started\"}\n";
    let served = Served::new(move |_, path, _| {
        assert_eq!(path, "/v1/logs?unit=kubelet&lines=5&boot=-1");
        (200, entry.repeat(2).into_bytes())
    });
    let arguments = ["logs", "--unit", "kubelet", "-n", "5", "--boot", "-1"];
    let text = succeed(&served.ask(&arguments));
    assert_eq!(text, "2026-11-25T12:00:00.000Z kubelet.service: started\n".repeat(2));
    let json = succeed(&served.ask(&[&["--format", "json"], &arguments[..]].concat()));
    assert_eq!(json, entry.repeat(2));
}

#[test]
fn what_is_no_answer_is_refused() {
    for (body, word) in [
        (b"<html>".to_vec(), "not one of a node's API"),
        (b"{}".to_vec(), "not one of a node's API"),
        (vec![b' '; 5 << 20], "more than"),
    ] {
        let served = Served::new(move |_, _, _| (200, body.clone()));
        let errors = fail(&served.ask(&["status"]), 1);
        assert!(errors.contains(word), "{errors}");
    }
    let served = Served::new(|_, _, _| (500, b"\x1b[2Jboom".to_vec()));
    let errors = fail(&served.ask(&["why"]), 1);
    assert!(!errors.contains('\u{1b}'), "{errors}");
}
