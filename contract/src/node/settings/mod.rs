//! The settings of one node: where its updates come from, what a good boot is, how it reaches
//! the network, and who may ask it. One JSON document, given at the first boot.
//!
//! **Invariant:** a [`Settings`] that [`Settings::from_json`] returned is checked; none of its
//! texts can leave the line of a configuration file that it is written into; and no secret in
//! it is ever printed or serialised. Who keeps settings keeps the bytes that they came from.

use std::net::IpAddr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::{ChannelName, GroupName};

mod bootstrap;
mod check;
mod field;
mod kubernetes;
mod registries;
mod texts;

pub use bootstrap::{Bootstrap, ClientCertificate};
pub use field::InvalidSettings;
pub use kubernetes::{
    DEFAULT_CLUSTER_DOMAIN, DEFAULT_MAX_PODS, InvalidTaint, KubeletSettings, KubernetesSettings,
    PodNetwork, Taint, TaintEffect,
};
pub use registries::RegistrySettings;
pub use texts::{
    AddressPrefix, HttpUrl, InvalidAddressPrefix, InvalidUrl, MAX_URL_BYTES, REDACTED, Secret,
};

/// The schema that this crate writes. It reads those before, too: a node that comes from an older
/// release has settings of that one.
pub const SCHEMA: u32 = 2;
/// Largest settings document that is read, in bytes.
pub const MAX_SETTINGS_BYTES: u64 = 256 << 10;
/// Time between two checks of the channel, for settings that name none.
pub const DEFAULT_POLL_INTERVAL: SignedDuration = SignedDuration::from_mins(10);
/// Longest random delay that is added to a check, and to the start of an update.
pub const DEFAULT_JITTER: SignedDuration = SignedDuration::from_mins(2);
/// Port of the API, for settings that name none.
pub const DEFAULT_API_PORT: u16 = 7443;

/// Everything that an operator sets for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Format version: [`SCHEMA`], also for a document that was brought up to it.
    pub schema: u32,
    /// Name of the node; the network's or the image's, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Where updates come from; without it the node stays on its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelSettings>,
    /// What the node does by itself.
    #[serde(default)]
    pub mode: UpdateMode,
    /// What a good boot is.
    #[serde(default)]
    pub health: HealthSettings,
    /// How the node reaches others.
    #[serde(default)]
    pub network: NetworkSettings,
    /// The cluster that the node joins; without it kubelet runs its static pods alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesSettings>,
    /// Mirrors of registries, and passwords for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<RegistrySettings>,
    /// The API on a port; without it there is only the Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiSettings>,
}

/// Where updates come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ChannelSettings {
    /// Addresses of the channel's folder, tried in order.
    pub mirrors: Vec<HttpUrl>,
    /// The TUF root that the node starts from: the content of the channel's `root.json`.
    pub root: serde_json::Value,
    /// The node's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// The channel to follow when there is no document for the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<ChannelName>,
    /// Time between two checks.
    #[serde(default = "default_poll_interval")]
    pub poll_interval: SignedDuration,
    /// Longest random delay that is added to a check, and to the start of an update.
    #[serde(default = "default_jitter")]
    pub jitter: SignedDuration,
}

/// What the node does by itself. An operator can ask for the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateMode {
    /// Stages a release and restarts into it.
    #[default]
    Automatic,
    /// Stages a release, and waits for an operator with the restart.
    StagedOnly,
    /// Only says that there is one.
    Manual,
}

/// What a good boot is, beside a working container runtime and kubelet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HealthSettings {
    /// What must also hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// How long all must be well without a break, unless the group says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle: Option<SignedDuration>,
    /// How long after power-on that must be reached, unless the group says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<SignedDuration>,
    /// How much later that may be while nothing but the API server's silence is wrong, unless the
    /// group says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server_grace: Option<SignedDuration>,
}

/// One thing that must hold for a good boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Probe {
    /// An address answers with a status.
    Http {
        /// Name in messages.
        name: String,
        /// `http://HOST:PORT/PATH`. Without TLS: it is meant for the node itself.
        url: HttpUrl,
        /// The status that is expected.
        #[serde(default = "default_status")]
        status: u16,
    },
    /// A file is there.
    File {
        /// Name in messages.
        name: String,
        /// Absolute path.
        path: String,
    },
}

/// How the node reaches others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NetworkSettings {
    /// Interfaces with an address of their own. All others that have a cable use DHCP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Time servers, by name or address; those of the image or of DHCP, when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_servers: Vec<String>,
    /// Do interfaces that use DHCP take addresses and routes that routers of the link announce (IPv6)?
    /// Yes when absent; those with an address of their own never do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_advertisements: Option<bool>,
    /// Are the domains that DHCP and routers name searched for short names? No when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_domains: Option<bool>,
    /// The proxy to the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySettings>,
    /// Certificate authorities (PEM, one or several in a text) that are trusted beside those
    /// of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
}

/// A fixed address for the interfaces whose names match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Interface {
    /// Name of the interface, with `*` and `?`, such as `enp1s0` or `en*`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Addresses with the length of their prefix, such as `10.0.0.5/24`.
    pub addresses: Vec<AddressPrefix>,
    /// Where everything else goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProxySettings {
    /// Its address.
    pub url: HttpUrl,
    /// User at the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Hosts, domains (`.example.com`) and networks (`10.0.0.0/8`) that are reached without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// The API on a port, with mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApiSettings {
    /// TCP port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The node's certificate and those between it and its authority, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: Secret,
    /// The authority of client certificates, PEM.
    pub client_authority: String,
}

fn default_poll_interval() -> SignedDuration {
    DEFAULT_POLL_INTERVAL
}

fn default_jitter() -> SignedDuration {
    DEFAULT_JITTER
}

fn default_status() -> u16 {
    200
}

fn default_port() -> u16 {
    DEFAULT_API_PORT
}

impl Settings {
    /// Parses and checks a document.
    ///
    /// # Errors
    /// [`InvalidSettings`], with the field and the next step.
    pub fn from_json(bytes: &[u8]) -> Result<Self, InvalidSettings> {
        if bytes.len() as u64 > MAX_SETTINGS_BYTES {
            return Err(InvalidSettings::TooLarge(bytes.len() as u64));
        }
        let schema = Self::schema_of(bytes)?;
        let mut settings: Self = serde_json::from_slice(bytes)?;
        if let Some(kubernetes) = &mut settings.kubernetes {
            kubernetes.migrate(schema)?;
        }
        settings.schema = SCHEMA;
        settings.check()?;
        Ok(settings)
    }

    /// The schema that a document itself is of.
    ///
    /// # Errors
    /// [`InvalidSettings`] when it is none that this program reads.
    pub fn schema_of(bytes: &[u8]) -> Result<u32, InvalidSettings> {
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let Head { schema } = serde_json::from_slice(bytes)?;
        match (1..=SCHEMA).contains(&schema) {
            true => Ok(schema),
            false => Err(InvalidSettings::Schema(schema)),
        }
    }

    /// A copy that may be shown: every secret is [`REDACTED`].
    #[must_use]
    pub fn redacted(&self) -> Self {
        let mut shown = self.clone();
        if let Some(proxy) = &mut shown.network.proxy {
            proxy.password = proxy.password.as_ref().map(|_| Secret::redacted());
        }
        if let Some(kubernetes) = &mut shown.kubernetes {
            kubernetes.bootstrap = kubernetes.bootstrap.as_ref().map(Bootstrap::redacted);
        }
        for registry in &mut shown.registries {
            registry.password = registry.password.as_ref().map(|_| Secret::redacted());
        }
        if let Some(api) = &mut shown.api {
            api.key = Secret::redacted();
        }
        shown
    }
}

impl ChannelSettings {
    /// Time between two checks, without the jitter.
    pub fn poll_interval(&self) -> Duration {
        self.poll_interval.unsigned_abs()
    }

    /// Longest random delay.
    pub fn jitter(&self) -> Duration {
        self.jitter.unsigned_abs()
    }
}

impl Probe {
    /// Its name in messages.
    pub fn name(&self) -> &str {
        match self {
            Probe::Http { name, .. } | Probe::File { name, .. } => name,
        }
    }
}

#[cfg(test)]
mod tests;
