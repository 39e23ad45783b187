//! Registries that a node takes images from: mirrors in their place, and passwords for them.
//!
//! **Invariant:** after the check a host is the name of one folder, and a mirror's address can
//! stand between quotes in TOML; no password goes to a mirror without TLS.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::field::{Checked, bounded, pem, wrong};
use super::texts::is_domain_name;
use super::{HttpUrl, Secret};

/// Longest user name.
const MAX_USERNAME_BYTES: usize = 256;
/// Longest password; some are a whole key in JSON.
const MAX_PASSWORD_BYTES: usize = 16 << 10;

/// What a node does when an image's name starts with a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RegistrySettings {
    /// `HOST[:PORT]`, as it stands in the names of images.
    pub host: String,
    /// Whom to ask first, in order. An address with a path is the root of the registry's API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<HttpUrl>,
    /// Whether only mirrors are asked, and never the host itself.
    #[serde(default)]
    pub mirrors_only: bool,
    /// Authorities that are trusted beside the image's, for the mirrors and the host, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<String>,
    /// User at whichever of them asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// Checks what the types alone do not.
pub(super) fn check(registries: &[RegistrySettings]) -> Checked {
    bounded("registries", registries)?;
    for (index, registry) in registries.iter().enumerate() {
        let field = format!("registries[{index}]");
        if !is_registry(&registry.host) {
            let problem = "give HOST or HOST:PORT as in the names of images, such as docker.io: \
                           lower case, and no https://";
            return wrong(format!("{field}.host"), problem);
        }
        if registries.iter().take(index).any(|other| other.host == registry.host) {
            return wrong(format!("{field}.host"), format!("`{}` is there twice", registry.host));
        }
        registry.check(&field)?;
    }
    Ok(())
}

impl RegistrySettings {
    fn check(&self, field: &str) -> Checked {
        self.check_mirrors(&format!("{field}.mirrors"))?;
        if self.mirrors_only && self.mirrors.is_empty() {
            return wrong(format!("{field}.mirrorsOnly"), "give `mirrors`, or leave it out");
        }
        if let Some(authority) = &self.certificate_authority {
            pem(&format!("{field}.certificateAuthority"), authority, "CERTIFICATE")?;
        }
        match (&self.username, &self.password) {
            (Some(username), Some(password)) => self.check_login(field, username, password),
            (Some(_), None) => wrong(format!("{field}.password"), "give the user's password"),
            (None, Some(_)) => wrong(format!("{field}.username"), "give the user of the password"),
            (None, None) if self.mirrors.is_empty() && self.certificate_authority.is_none() => {
                wrong(field, "says nothing: give `mirrors`, `certificateAuthority` or `username`")
            }
            (None, None) => Ok(()),
        }
    }

    fn check_mirrors(&self, field: &str) -> Checked {
        bounded(field, &self.mirrors)?;
        for (index, mirror) in self.mirrors.iter().enumerate() {
            let same = |other: &HttpUrl| trimmed(other) == trimmed(mirror);
            if self.mirrors.iter().take(index).any(same) {
                return wrong(format!("{field}[{index}]"), "is there twice");
            }
            // containerd passes over a file with an address that it cannot parse.
            if mirror.as_str().contains('%') {
                return wrong(format!("{field}[{index}]"), "give an address without `%`");
            }
        }
        Ok(())
    }

    fn check_login(&self, field: &str, username: &str, password: &Secret) -> Checked {
        let plain = |c: char| !c.is_control() && c != ':';
        let length = username.len();
        if !(1..=MAX_USERNAME_BYTES).contains(&length) || !username.chars().all(plain) {
            return wrong(format!("{field}.username"), "must be one line without a colon");
        }
        if password.is_redacted() {
            return wrong(format!("{field}.password"), "is a placeholder: give the password");
        }
        let text = password.expose();
        if text.is_empty() || text.len() > MAX_PASSWORD_BYTES || text.contains('\0') {
            let problem = format!("must have 1 to {MAX_PASSWORD_BYTES} bytes, and none of them 0");
            return wrong(format!("{field}.password"), problem);
        }
        if let Some(index) = self.mirrors.iter().position(HttpUrl::is_plain_http) {
            let problem = "give https://: a password is not sent in the clear";
            return wrong(format!("{field}.mirrors[{index}]"), problem);
        }
        Ok(())
    }
}

/// Without the slashes at the end, which say nothing.
fn trimmed(url: &HttpUrl) -> &str {
    url.as_str().trim_end_matches('/')
}

/// A host in lower case, and maybe a port.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let is_number = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && !port.starts_with('0')
            && port.parse::<u16>().is_ok()
    };
    // The first part of an image's name is a host only with a dot, a port, or this name.
    let is_host = host.contains('.') || port.is_some() || host == "localhost";
    let fits = host.parse::<Ipv4Addr>().is_ok() || is_domain_name(host);
    is_host && fits && !host.ends_with('.') && host.bytes().all(plain) && port.is_none_or(is_number)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn full() -> Value {
        json!({
            "host": "registry.example.com:5000",
            "mirrors": ["https://mirror.example.com", "https://proxy.example.com/v2/hub/"],
            "mirrorsOnly": true,
            "certificateAuthority": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----",
            "username": "node",
            "password": "hunter2"
        })
    }

    fn checked(documents: Value) -> Result<Vec<RegistrySettings>, String> {
        let registries: Vec<RegistrySettings> =
            serde_json::from_value(documents).map_err(|error| error.to_string())?;
        check(&registries).map_err(|error| error.to_string())?;
        Ok(registries)
    }

    #[test]
    fn full_and_short_entries_are_taken() {
        let plain = json!({"host": "docker.io", "mirrors": ["http://10.0.0.9:5000"]});
        let login = json!({"host": "ghcr.io", "username": "a", "password": "{\n\"key\": 1}"});
        let registries = checked(json!([full(), plain, login])).unwrap();
        assert!(registries[0].mirrors_only && !registries[1].mirrors_only);
        assert!(!format!("{registries:?}").contains("hunter2"));
    }

    #[test]
    fn hosts_are_names_of_one_folder() {
        for host in ["docker.io", "localhost", "10.0.0.9:5000", "registry:5000", "a-b.example.com"]
        {
            assert!(is_registry(host), "{host}");
        }
        for host in [
            "",
            ".",
            "..",
            "a",
            "a/b.c",
            "../a.b",
            "/etc",
            "a.b/",
            "_default",
            "a_b.c",
            "a.b:",
            "a.b.",
            "a.b:0",
            "a.b:+5",
            "a.b:70000",
            "a.b:1:2",
            "A.b",
            "https://a.b",
            "a b.c",
            "a.b\n",
            "a.b\"",
            "[::1]:5000",
            "-a.b",
        ] {
            assert!(!is_registry(host), "{host}");
        }
    }

    #[test]
    fn what_a_node_cannot_use_is_refused_with_its_field() {
        let cases = [
            ("/host", json!("Docker.io"), "registries[0].host"),
            ("/mirrors", json!([]), "registries[0].mirrorsOnly"),
            ("/mirrors", json!(["https://m/%zz"]), "registries[0].mirrors[0]"),
            ("/mirrors", json!(["https://m", "https://m/"]), "registries[0].mirrors[1]"),
            ("/mirrors", json!(["https://m", "http://n"]), "registries[0].mirrors[1]"),
            ("/mirrors", json!(["https://m/\"]\nx=\"1"]), "not an address"),
            ("/certificateAuthority", json!("no"), "registries[0].certificateAuthority"),
            ("/username", json!("a:b"), "registries[0].username"),
            ("/username", json!("a\nb"), "registries[0].username"),
            ("/username", Value::Null, "registries[0].username"),
            ("/password", Value::Null, "registries[0].password"),
            ("/password", json!(""), "registries[0].password"),
            ("/password", json!("(redacted)"), "placeholder"),
            ("/colour", json!("blue"), "colour"),
        ];
        for (pointer, value, expected) in cases {
            let mut document = full();
            document[&pointer[1..]] = value;
            let error = checked(json!([document])).unwrap_err();
            assert!(error.contains(expected), "{pointer}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(checked(json!([full(), full()])).unwrap_err().contains("twice"));
        assert!(checked(json!([{"host": "docker.io"}])).unwrap_err().contains("says nothing"));
    }
}
