//! What containerd and kubelet read of registries, made from the settings.
//!
//! In: the `registries` part of the settings, checked. Out: for each host a folder that
//! containerd looks into at each pull, and one Docker configuration with passwords for kubelet,
//! which hands them to containerd with the name of the image.
//!
//! **Invariant:** a password is in the one file that only root reads, in memory.

use std::collections::BTreeMap;

use contract::node::settings::{HttpUrl, RegistrySettings, Secret};
use serde_json::{Map, Value, json};

/// Folder in memory; containerd's `config_path`.
pub const REGISTRIES_FOLDER: &str = "/run/slipway/registries";
/// The name that containerd looks for.
const HOSTS: &str = "hosts.toml";
const AUTHORITY: &str = "10-slipway-ca.crt";

/// Files by name, for each host that has any.
pub(super) fn files(registries: &[RegistrySettings]) -> BTreeMap<&str, BTreeMap<String, String>> {
    let has_files = |registry: &&RegistrySettings| {
        !registry.mirrors.is_empty() || registry.certificate_authority.is_some()
    };
    let files = |registry: &RegistrySettings| {
        let authority = registry.certificate_authority.clone();
        let authority = authority.map(|text| (AUTHORITY.to_owned(), text));
        [(HOSTS.to_owned(), hosts(registry))].into_iter().chain(authority).collect()
    };
    registries
        .iter()
        .filter(has_files)
        .map(|registry| (registry.host.as_str(), files(registry)))
        .collect()
}

/// <https://github.com/containerd/containerd/blob/main/docs/hosts.md>. No address has a quote, a
/// backslash or a control character: the settings are checked.
fn hosts(registry: &RegistrySettings) -> String {
    let authority = match registry.certificate_authority {
        Some(_) => format!("ca = \"{AUTHORITY}\"\n"),
        None => String::new(),
    };
    let mut mirrors: Vec<&HttpUrl> = registry.mirrors.iter().collect();
    // Without `server` containerd asks the host itself last.
    let last = if registry.mirrors_only { mirrors.pop() } else { None };
    let mut text = match last {
        Some(mirror) => {
            format!("server = \"{}\"\n{}", address(mirror), api(mirror, &authority))
        }
        None => authority.clone(),
    };
    for mirror in mirrors {
        text += &format!("\n[host.\"{}\"]\n{}", address(mirror), api(mirror, &authority));
    }
    text
}

/// How a mirror is asked.
fn api(mirror: &HttpUrl, authority: &str) -> String {
    let mut text = "capabilities = [\"pull\", \"resolve\"]\n".to_owned();
    // With one containerd would try TLS where there is none.
    if !mirror.is_plain_http() {
        text += authority;
    }
    // Else containerd puts `/v2` behind the path.
    let scheme = mirror.as_str().find("://").map_or(0, |at| at + 3);
    if address(mirror).get(scheme..).is_some_and(|rest| rest.contains('/')) {
        text += "override_path = true\n";
    }
    text
}

/// Without a slash at the end, which containerd would double.
fn address(mirror: &HttpUrl) -> &str {
    mirror.as_str().trim_end_matches('/')
}

/// Docker's `config.json` with all passwords; none when there are none.
pub(super) fn docker_config(registries: &[RegistrySettings]) -> Option<Value> {
    let auths: Map<String, Value> = registries
        .iter()
        .filter_map(|registry| {
            let password = registry.password.as_ref().map(Secret::expose)?;
            let login = json!({"username": registry.username, "password": password});
            Some((registry.host.clone(), login))
        })
        .collect();
    (!auths.is_empty()).then(|| json!({"auths": auths}))
}

#[cfg(test)]
mod tests {
    use contract::node::settings::Settings;

    use super::*;

    fn registries(text: &str) -> Vec<RegistrySettings> {
        let text = format!(r#"{{"schema": 1, "registries": {text}}}"#);
        Settings::from_json(text.as_bytes()).unwrap().registries
    }

    const CERTIFICATE: &str = r"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----";

    #[test]
    fn mirrors_come_first_and_then_the_registry_itself() {
        let registries = registries(&format!(
            r#"[{{"host": "docker.io", "certificateAuthority": "{CERTIFICATE}", "mirrors":
                ["https://m.example.com/", "https://h.example.com/v2/hub", "http://10.0.0.9:5000"]}}]"#
        ));
        let files = files(&registries);
        assert_eq!(
            files["docker.io"][HOSTS],
            "ca = \"10-slipway-ca.crt\"\n\
             \n[host.\"https://m.example.com\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
             ca = \"10-slipway-ca.crt\"\n\
             \n[host.\"https://h.example.com/v2/hub\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
             ca = \"10-slipway-ca.crt\"\noverride_path = true\n\
             \n[host.\"http://10.0.0.9:5000\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        );
        assert_eq!(files["docker.io"][AUTHORITY], CERTIFICATE.replace("\\n", "\n"));
    }

    #[test]
    fn with_mirrors_only_the_last_stands_for_the_registry() {
        let registries = registries(
            r#"[{"host": "a.example.com:5000", "mirrorsOnly": true,
                 "mirrors": ["https://one", "https://two/v2/x"]}]"#,
        );
        assert_eq!(
            files(&registries)["a.example.com:5000"][HOSTS],
            "server = \"https://two/v2/x\"\ncapabilities = [\"pull\", \"resolve\"]\n\
             override_path = true\n\
             \n[host.\"https://one\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        );
    }

    #[test]
    fn every_address_that_settings_take_stays_inside_its_quotes() {
        // What a URL may hold at most, with TOML's own signs.
        let odd = "https://m/]['=,.;:!$&()*+-~_{}|^`<>/x";
        let text = format!(r#"[{{"host": "docker.io", "mirrors": ["{odd}", "https://n"]}}]"#);
        let registries = registries(&text);
        let parsed: toml::Table = files(&registries)["docker.io"][HOSTS].parse().unwrap();
        let hosts: Vec<&String> = parsed["host"].as_table().unwrap().keys().collect();
        assert_eq!(hosts, [odd, "https://n"]);
        assert_eq!(parsed.len(), 1);
    }

    #[test]
    fn passwords_are_for_kubelet_alone() {
        let registries = registries(
            r#"[{"host": "docker.io", "username": "u", "password": "hunter\n2\""},
                {"host": "ghcr.io", "mirrors": ["https://m"]},
                {"host": "quay.io", "mirrors": ["https://m"], "username": "v", "password": "x"}]"#,
        );
        let files = files(&registries);
        assert_eq!(files.keys().collect::<Vec<_>>(), [&"ghcr.io", &"quay.io"]);
        assert!(!format!("{files:?}").contains("password"));
        let config = docker_config(&registries).unwrap();
        assert_eq!(
            config["auths"]["docker.io"],
            json!({"username": "u", "password": "hunter\n2\""})
        );
        assert_eq!(config["auths"].as_object().unwrap().len(), 2);
        assert_eq!(docker_config(&registries[1..2]), None);
    }
}
