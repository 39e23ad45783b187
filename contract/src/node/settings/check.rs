//! Checks of settings beyond their types: each names the field and what would be right.

use std::net::IpAddr;

use jiff::SignedDuration;

use super::field::{Checked, bounded, pem, wrong};
use super::texts::is_domain_name;
use super::{
    ApiSettings, ChannelSettings, HealthSettings, Interface, NetworkSettings, Probe, ProxySettings,
    Settings, registries,
};
use crate::channel::group::{DEFAULT_DEADLINE, DEFAULT_SETTLE, LONGEST_DEADLINE, is_grace};

/// Names of probes that every node has.
const BUILT_IN_PROBES: [&str; 5] =
    ["containerd", "kubelet", "api-server", "node-ready", "workloads"];
/// Longest name of an interface (`IFNAMSIZ` less its end), and room for a pattern.
const MAX_PATTERN_BYTES: usize = 64;

impl Settings {
    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// [`InvalidSettings::Field`] with the first wrong field.
    pub fn check(&self) -> Checked {
        if let Some(name) = &self.hostname {
            // Linux takes 64 bytes; a Kubernetes node name is lower case.
            let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'_');
            if name.len() > 64 || !lower || name.ends_with('.') || !is_domain_name(name) {
                return wrong("hostname", "use up to 64 of `a-z`, `0-9`, `-` and `.`");
            }
        }
        if let Some(channel) = &self.channel {
            channel.check()?;
        }
        self.health.check()?;
        self.network.check()?;
        if let Some(kubernetes) = &self.kubernetes {
            if self.hostname.as_deref().is_none_or(|name| name == "localhost") {
                return wrong("hostname", "give each node of a cluster a name of its own");
            }
            kubernetes.check()?;
        }
        registries::check(&self.registries)?;
        self.api.as_ref().map_or(Ok(()), ApiSettings::check)
    }
}

impl ChannelSettings {
    fn check(&self) -> Checked {
        if self.mirrors.is_empty() {
            return wrong("channel.mirrors", "give at least one address of the channel's folder");
        }
        bounded("channel.mirrors", &self.mirrors)?;
        let is_root = self.root.pointer("/signed/_type").and_then(|value| value.as_str());
        if is_root != Some("root") || self.root.get("signatures").is_none() {
            return wrong(
                "channel.root",
                "not a TUF root: put in the content of `root.json` that `slipway channel init` wrote",
            );
        }
        if self.group.is_none() && self.follow.is_none() {
            return wrong("channel.group", "give `group`, or a channel to `follow`");
        }
        let minute = SignedDuration::from_mins(1);
        if self.poll_interval < minute || self.poll_interval > SignedDuration::from_hours(24) {
            return wrong("channel.pollInterval", "must be at least 1m and at most 24h");
        }
        if self.jitter.is_negative() || self.jitter > SignedDuration::from_hours(24) {
            return wrong("channel.jitter", "must be at least 0s and at most 24h");
        }
        Ok(())
    }
}

impl HealthSettings {
    fn check(&self) -> Checked {
        bounded("health.probes", &self.probes)?;
        for (index, probe) in self.probes.iter().enumerate() {
            let field = format!("health.probes[{index}]");
            let name = probe.name();
            if name.is_empty() || name.len() > 63 || !name.chars().all(|c| c.is_ascii_graphic()) {
                return wrong(format!("{field}.name"), "use 1 to 63 letters, digits and signs");
            }
            if BUILT_IN_PROBES.contains(&name) {
                return wrong(format!("{field}.name"), format!("`{name}` is a built-in probe"));
            }
            if self.probes.iter().take(index).any(|other| other.name() == name) {
                return wrong(format!("{field}.name"), format!("`{name}` is there twice"));
            }
            match probe {
                Probe::Http { url, status, .. } => {
                    let port = url.authority().rsplit_once(':');
                    let has_port = port.is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                    if !url.is_plain_http() || !has_port {
                        return wrong(
                            format!("{field}.url"),
                            "give http://HOST:PORT/PATH, with a port and without TLS",
                        );
                    }
                    if !(100..=599).contains(status) {
                        return wrong(
                            format!("{field}.status"),
                            "give an HTTP status, such as 200",
                        );
                    }
                }
                Probe::File { path, .. } => {
                    if !path.starts_with('/') || path.len() > 4096 || path.contains('\0') {
                        return wrong(format!("{field}.path"), "give an absolute path");
                    }
                }
            }
        }
        let settle = self.settle.unwrap_or(DEFAULT_SETTLE);
        let deadline = self.deadline.unwrap_or(DEFAULT_DEADLINE);
        if settle.is_negative() || settle >= deadline {
            return wrong("health.settle", "must be at least 0s and shorter than `deadline`");
        }
        if deadline > LONGEST_DEADLINE {
            return wrong("health.deadline", "must be at most 24h");
        }
        if self.api_server_grace.is_some_and(|grace| !is_grace(grace)) {
            return wrong("health.apiServerGrace", "must be at least 0s and at most 24h");
        }
        Ok(())
    }
}

impl NetworkSettings {
    fn check(&self) -> Checked {
        bounded("network.interfaces", &self.interfaces)?;
        for (index, interface) in self.interfaces.iter().enumerate() {
            interface.check(&format!("network.interfaces[{index}]"))?;
        }
        bounded("network.timeServers", &self.time_servers)?;
        for (index, server) in self.time_servers.iter().enumerate() {
            if !is_domain_name(server) && server.parse::<IpAddr>().is_err() {
                return wrong(
                    format!("network.timeServers[{index}]"),
                    "give the name or the address of a time server",
                );
            }
        }
        if let Some(proxy) = &self.proxy {
            proxy.check()?;
        }
        bounded("network.certificates", &self.certificates)?;
        for (index, text) in self.certificates.iter().enumerate() {
            pem(&format!("network.certificates[{index}]"), text, "CERTIFICATE")?;
        }
        Ok(())
    }
}

impl Interface {
    fn check(&self, field: &str) -> Checked {
        // What systemd.network's `Name=` takes, less what would start another pattern.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"*?._-[]".contains(&byte);
        let length = self.pattern.len();
        if !(1..=MAX_PATTERN_BYTES).contains(&length) || !self.pattern.bytes().all(plain) {
            return wrong(format!("{field}.match"), "give the name of an interface, such as en*");
        }
        if self.addresses.is_empty() {
            return wrong(
                format!("{field}.addresses"),
                "give an address, such as 10.0.0.5/24, or leave the interface out to use DHCP",
            );
        }
        bounded(&format!("{field}.addresses"), &self.addresses)?;
        bounded(&format!("{field}.dns"), &self.dns)
    }
}

impl ProxySettings {
    fn check(&self) -> Checked {
        let printable = |text: &str| text.len() <= 1024 && !text.chars().any(char::is_control);
        let user = self.user.as_deref().unwrap_or_default();
        if !printable(user) || user.contains(':') {
            return wrong("network.proxy.user", "must be one line without a colon");
        }
        match &self.password {
            Some(password) if password.is_redacted() => {
                return wrong("network.proxy.password", "is a placeholder: give the password");
            }
            Some(password) if !printable(password.expose()) => {
                return wrong("network.proxy.password", "must be one line");
            }
            Some(_) if self.user.is_none() => {
                return wrong("network.proxy.user", "give the user of the password");
            }
            _ => {}
        }
        bounded("network.proxy.except", &self.except)?;
        for (index, host) in self.except.iter().enumerate() {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:/*[]".contains(&byte);
            if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
                return wrong(
                    format!("network.proxy.except[{index}]"),
                    "give a host, a domain such as .example.com, or a network such as 10.0.0.0/8",
                );
            }
        }
        Ok(())
    }
}

impl ApiSettings {
    fn check(&self) -> Checked {
        if self.port == 0 {
            return wrong("api.port", "give a port from 1 to 65535");
        }
        pem("api.certificate", &self.certificate, "CERTIFICATE")?;
        pem("api.clientAuthority", &self.client_authority, "CERTIFICATE")?;
        if self.key.is_redacted() {
            return wrong("api.key", "is a placeholder: give the key itself");
        }
        pem("api.key", self.key.expose(), "PRIVATE KEY")
    }
}
