//! A support bundle: what is in it, also of a node that does not answer everything.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::served::{Served, fail, status, succeed};

const TOKEN: &str = "abcdef.0123456789abcdef";

/// The texts of a bundle, by their names.
fn opened(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(path).unwrap()));
    let mut texts = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        texts.insert(name, text);
    }
    texts
}

/// A node whose kubelet is talkative, and which is too old to compare itself.
fn older_node() -> Served {
    Served::new(|method, path, _| {
        assert_eq!(method, "GET", "a bundle changes nothing");
        let document = |document: Value| (200, document.to_string().into_bytes());
        match path {
            "/v1/status" => document(status(5)),
            "/v1/why" | "/v1/history" => document(json!({})),
            "/v1/settings" => document(json!({"kubernetes": {"bootstrap": {"token": TOKEN}}})),
            "/metrics" => (200, b"# EOF\n".to_vec()),
            path if path.starts_with("/v1/logs?unit=kubelet.service&lines=") => {
                let entry = json!({
                    "__REALTIME_TIMESTAMP": "1795608000000000",
                    "_BOOT_ID": "ab",
                    "MESSAGE": format!("token {TOKEN} is refused"),
                });
                (200, format!("{entry}\n").into_bytes())
            }
            path if path.starts_with("/v1/logs") => (200, Vec::new()),
            _ => {
                let next = "see /v1/openapi.json";
                let error = json!({"code": "not-found", "message": "no such route", "next": next});
                (404, error.to_string().into_bytes())
            }
        }
    })
}

#[test]
fn a_bundle_has_what_the_node_gives_and_names_what_it_does_not() {
    let served = older_node();
    let text = succeed(&served.ask_as("rita", &["bundle", "--out", "b.tar.gz"]));
    assert!(text.contains("without drift.json: no such route"), "{text}");
    let path = served.folder.path().join("b.tar.gz");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let texts = opened(&path);
    let of = |name: &str| &texts[&format!("slipway-bundle/{name}")];
    assert_eq!(serde_json::from_str::<Value>(of("status.json")).unwrap(), status(5));
    assert!(of("settings.json").contains("(redacted)"), "{}", of("settings.json"));
    let kubelet = "-- boot ab\n2026-11-25T12:00:00.000Z -: token (redacted) is refused\n";
    assert_eq!(of("journal/kubelet.log"), kubelet);
    assert_eq!(of("journal/containerd.log"), "(no entries)\n");
    let readme = of("README.txt");
    assert!(readme.contains("journal/kubelet.log") && readme.contains("drift.json"), "{readme}");
    assert!(texts.values().all(|text| !text.contains(TOKEN)));
    let json = ["--format", "json", "bundle", "--out", "c.tar.gz"];
    let said: Value = serde_json::from_str(&succeed(&served.ask(&json))).unwrap();
    assert_eq!(said["redacted"], 2);
    assert_eq!(said["missing"].as_object().unwrap().len(), 1);
    assert_eq!(said["files"].as_array().unwrap().len(), texts.len() - 1, "all but the README");
}

#[test]
fn a_file_that_is_there_stays() {
    let served = older_node();
    let path = served.folder.path().join("b.tar.gz");
    fs::write(&path, "mine").unwrap();
    let errors = fail(&served.ask(&["bundle", "--out", "b.tar.gz"]), 3);
    assert!(errors.contains("is there already"), "{errors}");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn a_node_that_gives_nothing_leaves_no_file() {
    let served = Served::new(|_, _, _| {
        let error = json!({"code": "forbidden", "message": "no role", "next": "use another"});
        (403, error.to_string().into_bytes())
    });
    let before = fs::read_dir(served.folder.path()).unwrap().count();
    let errors = fail(&served.ask(&["bundle", "--out", "b.tar.gz"]), 3);
    assert!(errors.contains("no role"), "{errors}");
    assert_eq!(fs::read_dir(served.folder.path()).unwrap().count(), before);
}
