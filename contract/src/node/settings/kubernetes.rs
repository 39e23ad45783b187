//! How a node joins a cluster, and what its kubelet is told.
//!
//! **Invariant:** after [`KubernetesSettings::check`] no label, taint or amount holds a blank, a
//! quote, a comma or a control character: each can stand in an argument.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::bootstrap::check_token;
use super::field::{Checked, MAX_ENTRIES, bounded, pem, wrong};
use super::texts::is_domain_name;
use super::{Bootstrap, HttpUrl, Secret};

/// Most pods of a node, for settings that name none: kubelet's own default.
pub const DEFAULT_MAX_PODS: u32 = 110;
/// Domain of the cluster's services, for settings that name none.
pub const DEFAULT_CLUSTER_DOMAIN: &str = "cluster.local";
/// Longest part of a label or taint.
const MAX_LABEL_BYTES: usize = 63;
/// Of Kubernetes' own labels, those that a kubelet may give its own Node (NodeRestriction).
const KUBELET_LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];
/// The same, with any name in these domains.
const KUBELET_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// The cluster that a node joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KubernetesSettings {
    /// Address of the API server.
    pub server: HttpUrl,
    /// Authorities of the API server's certificate and of those who may ask this kubelet, PEM.
    pub certificate_authority: String,
    /// With what a new node asks for its certificate. One that has a certificate needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// What schema 1 has in the place of `bootstrap`. Gone once the settings are read.
    #[serde(default, skip_serializing)]
    pub(super) bootstrap_token: Option<Secret>,
    /// Addresses of the cluster's name service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster's services.
    #[serde(default = "default_cluster_domain")]
    pub cluster_domain: String,
    /// Labels that the node registers with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints that the node registers with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// The address that the node registers with; kubelet chooses one, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ip: Option<IpAddr>,
    /// Who makes the network of pods.
    #[serde(default)]
    pub pod_network: PodNetwork,
    /// What kubelet itself is told.
    #[serde(default)]
    pub kubelet: KubeletSettings,
}

/// Who makes the network of pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PodNetwork {
    /// The image: a bridge with the node's `podCIDRs`, until an add-on comes.
    #[default]
    Bridge,
    /// An add-on; pods wait for it.
    AddOn,
}

/// Settings of kubelet that have the names and meanings of `KubeletConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KubeletSettings {
    /// Most pods of the node.
    #[serde(default = "default_max_pods")]
    pub max_pods: u32,
    /// What the system keeps, such as `cpu` to `100m`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub system_reserved: BTreeMap<String, String>,
    /// What kubelet and containerd keep.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kube_reserved: BTreeMap<String, String>,
    /// Below what pods are evicted, such as `memory.available` to `100Mi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub eviction_hard: BTreeMap<String, String>,
    /// Size at which a container's log starts a new file, such as `10Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_log_max_size: Option<String>,
    /// Files of a container's log that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_log_max_files: Option<u32>,
    /// Most processes of a pod; 4096 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_pids_limit: Option<u32>,
    /// Do containers that say nothing get the runtime's filter of system calls? Yes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_default: Option<bool>,
    /// Does kubelet give files of `/var/log` and the journal to whoever may read `nodes/log`? It follows
    /// links that pods put there. No when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_logs: Option<bool>,
}

impl Default for KubeletSettings {
    fn default() -> Self {
        Self {
            max_pods: DEFAULT_MAX_PODS,
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            eviction_hard: BTreeMap::new(),
            container_log_max_size: None,
            container_log_max_files: None,
            pod_pids_limit: None,
            seccomp_default: None,
            system_logs: None,
        }
    }
}

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaintEffect {
    /// None is scheduled here.
    NoSchedule,
    /// None is scheduled here if there is another place.
    PreferNoSchedule,
    /// None stays here.
    NoExecute,
}

/// A taint, written `KEY[=VALUE]:EFFECT` as kubectl does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, which may be empty.
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// A text that is no taint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a taint of the form KEY=VALUE:EFFECT, with the effect NoSchedule, \
     PreferNoSchedule or NoExecute"
)]
pub struct InvalidTaint(String);

impl FromStr for Taint {
    type Err = InvalidTaint;
    fn from_str(text: &str) -> Result<Self, InvalidTaint> {
        let invalid = || InvalidTaint(short(text));
        let (pair, effect) = text.rsplit_once(':').ok_or_else(invalid)?;
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let effect = match effect {
            "NoSchedule" => TaintEffect::NoSchedule,
            "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
            "NoExecute" => TaintEffect::NoExecute,
            _ => return Err(invalid()),
        };
        if !is_label_key(key) || !is_label_value(value) {
            return Err(invalid());
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned(), effect })
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, effect } = self;
        match value.is_empty() {
            true => write!(f, "{key}:{effect:?}"),
            false => write!(f, "{key}={value}:{effect:?}"),
        }
    }
}

impl TryFrom<String> for Taint {
    type Error = InvalidTaint;
    fn try_from(text: String) -> Result<Self, InvalidTaint> {
        text.parse()
    }
}

impl From<Taint> for String {
    fn from(taint: Taint) -> Self {
        taint.to_string()
    }
}

fn default_max_pods() -> u32 {
    DEFAULT_MAX_PODS
}

fn default_cluster_domain() -> String {
    DEFAULT_CLUSTER_DOMAIN.to_owned()
}

impl KubernetesSettings {
    /// Brings what a document of an older schema says into this one's form.
    pub(super) fn migrate(&mut self, schema: u32) -> Checked {
        let token = self.bootstrap_token.take();
        match (schema, token, &self.bootstrap) {
            (1, _, Some(_)) => {
                wrong("kubernetes.bootstrap", "is of schema 2: write `\"schema\": 2`")
            }
            (1, Some(token), None) => {
                check_token("kubernetes.bootstrapToken", &token)?;
                self.bootstrap = Some(Bootstrap::Token(token));
                Ok(())
            }
            (_, Some(_), _) => wrong(
                "kubernetes.bootstrapToken",
                "is of schema 1: write `\"bootstrap\": {\"token\": …}`",
            ),
            (_, None, _) => Ok(()),
        }
    }

    /// Checks what the types alone do not.
    pub(super) fn check(&self) -> Checked {
        if self.server.is_plain_http() {
            return wrong("kubernetes.server", "give https://HOST:PORT: a node trusts no other");
        }
        pem("kubernetes.certificateAuthority", &self.certificate_authority, "CERTIFICATE")?;
        self.bootstrap.as_ref().map_or(Ok(()), Bootstrap::check)?;
        bounded("kubernetes.clusterDns", &self.cluster_dns)?;
        if !is_domain_name(&self.cluster_domain) {
            return wrong("kubernetes.clusterDomain", "give a domain, such as cluster.local");
        }
        check_labels(&self.labels)?;
        bounded("kubernetes.taints", &self.taints)?;
        for (index, taint) in self.taints.iter().enumerate() {
            let same = |other: &Taint| other.key == taint.key && other.effect == taint.effect;
            if self.taints.iter().take(index).any(same) {
                let problem = format!("`{}` is there twice with the same effect", taint.key);
                return wrong(format!("kubernetes.taints[{index}]"), problem);
            }
        }
        self.kubelet.check()
    }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Checked {
    const FIELD: &str = "kubernetes.labels";
    if labels.len() > MAX_ENTRIES {
        return wrong(FIELD, format!("{} labels: at most {MAX_ENTRIES} are allowed", labels.len()));
    }
    for (key, value) in labels {
        if !is_label_key(key) || !is_label_value(value) {
            let problem = "is no label: use `DOMAIN/NAME` or `NAME`, and a value of up to 63 \
                           letters, digits, `-`, `_` and `.`";
            return wrong(format!("{FIELD}.{}", short(key)), problem);
        }
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        let of_kubernetes = ["kubernetes.io", "k8s.io"]
            .iter()
            .any(|own| domain == *own || domain.ends_with(&format!(".{own}")));
        let may_be = KUBELET_DOMAINS.contains(&domain) || KUBELET_LABELS.contains(&key.as_str());
        if of_kubernetes && !may_be {
            let problem = "is one that a node may not give itself: use another domain, or \
                           node.kubernetes.io/";
            return wrong(format!("{FIELD}.{key}"), problem);
        }
    }
    Ok(())
}

impl KubeletSettings {
    fn check(&self) -> Checked {
        if !(1..=1000).contains(&self.max_pods) {
            return wrong("kubernetes.kubelet.maxPods", "must be at least 1 and at most 1000");
        }
        if self.container_log_max_files.is_some_and(|files| !(2..=100).contains(&files)) {
            return wrong(
                "kubernetes.kubelet.containerLogMaxFiles",
                "must be at least 2 and at most 100",
            );
        }
        if self.pod_pids_limit.is_some_and(|limit| !(64..=1_000_000).contains(&limit)) {
            return wrong(
                "kubernetes.kubelet.podPidsLimit",
                "must be at least 64 and at most 1000000",
            );
        }
        if self.container_log_max_size.as_ref().is_some_and(|size| !is_size(size)) {
            return wrong("kubernetes.kubelet.containerLogMaxSize", "give a size, such as 10Mi");
        }
        let amounts = [
            ("systemReserved", &self.system_reserved, &RESERVED[..]),
            ("kubeReserved", &self.kube_reserved, &RESERVED[..]),
            ("evictionHard", &self.eviction_hard, &SIGNALS[..]),
        ];
        for (name, amounts, known) in amounts {
            for (key, amount) in amounts {
                let field = || format!("kubernetes.kubelet.{name}.{}", short(key));
                if !known.contains(&key.as_str()) {
                    return wrong(field(), format!("is not known: use {}", known.join(", ")));
                }
                let share = amount.strip_suffix('%').filter(|_| name == "evictionHard");
                let is_share =
                    share.is_some_and(|share| share.parse::<u8>().is_ok_and(|s| s < 100));
                if !is_share && quantity(amount).is_none() {
                    return wrong(field(), "give an amount, such as 100m, 200Mi or 1Gi");
                }
            }
        }
        Ok(())
    }
}

/// What can be reserved.
const RESERVED: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];
/// What evicts. Kubernetes: "Node-pressure Eviction".
const SIGNALS: [&str; 6] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
];

/// What an error shows of a text that may be long.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The number and the unit of a Kubernetes quantity. With a unit there is no exponent.
fn quantity(text: &str) -> Option<(f64, &str)> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..)?;
    let known = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"].contains(&unit);
    let is_plain = unit.is_empty() || digits.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let begins = digits.len() <= 20 && digits.starts_with(|c: char| c.is_ascii_digit());
    (known && is_plain && begins).then_some((digits.parse().ok()?, unit))
}

/// A number of whole bytes over none, which is all that kubelet takes.
fn is_size(text: &str) -> bool {
    const MOST: f64 = 1e6;
    quantity(text).is_some_and(|(number, unit)| {
        number >= 1.0
            && number.fract() == 0.0
            && number <= MOST * 1e6
            && unit != "m"
            && (unit.is_empty() || number <= MOST)
    })
}

/// `NAME` or `DOMAIN/NAME`.
fn is_label_key(text: &str) -> bool {
    let (domain, name) = text.split_once('/').map_or((None, text), |(d, n)| (Some(d), n));
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let fits = |domain: &str| {
        is_domain_name(domain) && !domain.ends_with('.') && domain.bytes().all(plain)
    };
    let domain_fits = domain.is_none_or(fits);
    domain_fits && !name.is_empty() && is_label_value(name)
}

/// Empty, or letters, digits, `-`, `_` and `.` between letters or digits.
fn is_label_value(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= MAX_LABEL_BYTES
        && text.bytes().all(plain)
        && ends.iter().flatten().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    fn full() -> Value {
        json!({
            "server": "https://10.0.2.2:6443",
            "certificateAuthority": CERTIFICATE,
            "bootstrap": {"token": "abcdef.0123456789abcdef"},
            "clusterDns": ["10.96.0.10"],
            "labels": {"example.com/tenant": "blue", "node.kubernetes.io/pool": "a", "tier": "",
                "topology.kubernetes.io/zone": "z1"},
            "taints": ["example.com/tenant=blue:NoSchedule", "quiet:NoExecute"],
            "nodeIp": "10.0.2.15",
            "kubelet": {
                "maxPods": 50,
                "systemReserved": {"cpu": "100m", "memory": "200Mi"},
                "evictionHard": {"memory.available": "5%", "nodefs.available": "1Gi"},
                "containerLogMaxSize": "10Mi",
                "podPidsLimit": 1000
            }
        })
    }

    fn checked(document: Value) -> Result<KubernetesSettings, String> {
        let settings: KubernetesSettings =
            serde_json::from_value(document).map_err(|error| error.to_string())?;
        settings.check().map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn a_full_document_is_taken_and_a_short_one_has_defaults() {
        let settings = checked(full()).unwrap();
        assert_eq!(settings.taints[0].to_string(), "example.com/tenant=blue:NoSchedule");
        assert_eq!(settings.taints[1].to_string(), "quiet:NoExecute");
        let short = json!({"server": "https://a:6443", "certificateAuthority": CERTIFICATE});
        let settings = checked(short).unwrap();
        assert_eq!(settings.cluster_domain, "cluster.local");
        assert_eq!(settings.kubelet.max_pods, 110);
        for size in ["10Mi", "1e7", "5000000", "1Ti"] {
            let mut document = full();
            document["kubelet"]["containerLogMaxSize"] = size.into();
            assert!(checked(document).is_ok(), "{size}");
        }
    }

    #[test]
    fn what_a_node_cannot_use_is_refused_with_its_field() {
        for (pointer, value, field) in [
            ("/server", json!("http://10.0.2.2:6443"), "kubernetes.server"),
            ("/certificateAuthority", json!("no"), "kubernetes.certificateAuthority"),
            ("/bootstrap/token", json!("abcdef.short"), "kubernetes.bootstrap.token"),
            ("/bootstrap/token", json!("(redacted)"), "kubernetes.bootstrap.token"),
            ("/labels", json!({"a b": "c"}), "kubernetes.labels.a b"),
            ("/labels", json!({"a": "c,d=e"}), "kubernetes.labels.a"),
            ("/labels", json!({"node-role.kubernetes.io/x": ""}), "node-role"),
            ("/labels", json!({"topology.kubernetes.io/zone2": ""}), "zone2"),
            ("/labels", json!({"Example.com/a": ""}), "Example.com"),
            ("/taints", json!(["a=b:NoExecute", "a=c:NoExecute"]), "kubernetes.taints[1]"),
            ("/kubelet/maxPods", json!(0), "maxPods"),
            ("/kubelet/podPidsLimit", json!(1), "podPidsLimit"),
            ("/kubelet/systemReserved", json!({"disk": "1Gi"}), "systemReserved.disk"),
            ("/kubelet/systemReserved", json!({"cpu": "much"}), "systemReserved.cpu"),
            ("/kubelet/systemReserved", json!({"cpu": "5%"}), "systemReserved.cpu"),
            ("/kubelet/evictionHard", json!({"memory.available": "100%"}), "memory.available"),
            ("/kubelet/systemReserved", json!({"memory": "1e3Mi"}), "systemReserved.memory"),
            ("/kubelet/containerLogMaxSize", json!("NaN"), "containerLogMaxSize"),
            ("/kubelet/containerLogMaxSize", json!("100m"), "containerLogMaxSize"),
            ("/kubelet/containerLogMaxSize", json!("1.5Gi"), "containerLogMaxSize"),
            ("/kubelet/containerLogMaxSize", json!("0"), "containerLogMaxSize"),
            ("/kubelet/containerLogMaxSize", json!("0.5"), "containerLogMaxSize"),
            ("/kubelet/containerLogMaxSize", json!("9999999Ti"), "containerLogMaxSize"),
        ] {
            let mut document = full();
            *document.pointer_mut(pointer).unwrap() = value;
            let error = checked(document).unwrap_err();
            assert!(error.contains(field), "{pointer}: {error}");
            assert!(!error.contains("0123456789abcdef"), "{error}");
        }
        for taint in
            ["", "a", "a=b", "a=b:Never", "a b:NoExecute", "=b:NoExecute", "a=b c:NoSchedule"]
        {
            let mut document = full();
            document["taints"] = json!([taint]);
            assert!(checked(document).unwrap_err().contains("taint"), "{taint}");
        }
    }
}
