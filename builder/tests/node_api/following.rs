//! `--wait`: an update is followed to its end.

use serde_json::{Value, json};

use crate::served::{Served, fail, status, succeed};

/// A node whose status changes with each question after the action.
fn served(mut later: Vec<Value>) -> Served {
    let (mut started, mut shown) = (false, status(5));
    Served::new(move |method, path, _| {
        let document = match (method, path) {
            ("GET", "/v1/status") => {
                if started && !later.is_empty() {
                    shown = later.remove(0);
                }
                shown.clone()
            }
            _ => {
                started = true;
                json!({ "started": "yes", "target": "1.4.1", "message": "under way" })
            }
        };
        (200, document.to_string().into_bytes())
    })
}

#[test]
fn an_update_is_done_when_its_boot_is_blessed() {
    let mut pending = status(6);
    pending["running"]["boot"] = "pending".into();
    pending["phase"] = "pending".into();
    let served = served(vec![pending, status(6)]);
    let output = served.ask(&["update", "--wait"]);
    assert!(succeed(&output).contains("generation 6, blessed"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "under way\npending\n");
}

#[test]
fn a_release_that_was_given_up_is_a_failure_with_its_cause() {
    let mut back = status(5);
    back["fallback"] = json!({
        "version": "1.4.1", "generation": 6, "at": "2026-11-25T11:00:00Z", "reached": "probe",
        "cause": "probe `web` failed",
    });
    let errors = fail(&served(vec![back]).ask(&["update", "--wait"]), 1);
    assert!(errors.contains("it reached a probe: probe `web` failed"), "{errors}");
}

#[test]
fn a_failure_of_staging_says_the_next_step() {
    let mut failed = status(5);
    failed["problem"] = json!({
        "at": "2026-11-25T11:00:00Z", "message": "no mirror answers", "next": "correct them",
    });
    let errors = fail(&served(vec![failed]).ask(&["stage", "--wait"]), 1);
    assert!(errors.contains("no mirror answers: correct them"), "{errors}");
}

#[test]
fn a_wait_has_an_end() {
    let errors = fail(&served(Vec::new()).ask(&["update", "--wait", "--timeout", "1"]), 1);
    assert!(errors.contains("not done after 1 s (the node: idle)"), "{errors}");
}

#[test]
fn a_node_that_has_nothing_to_do_is_not_waited_for() {
    let served = Served::new(|method, _, _| {
        let document = match method {
            "GET" => status(5),
            _ => json!({ "started": "nothing-to-do", "target": null, "message": "runs 1.4.0" }),
        };
        (200, document.to_string().into_bytes())
    });
    assert_eq!(succeed(&served.ask(&["update", "--wait"])), "runs 1.4.0\n");
}
