//! What kubelet reads, made from the settings.
//!
//! In: the parts `kubernetes` and `registries` of the settings. Out: files in one folder in
//! memory, that `kubelet.service` names: arguments, a drop-in over the image's
//! `KubeletConfiguration` with what differs in a cluster and by the machine's size, the cluster's authority, the kubeconfig with which a new node asks for
//! its certificate, where that names them the certificate and key for it, and passwords of
//! registries. Without a cluster kubelet runs its static pods alone.
//!
//! **Invariant:** the files are root's alone; the token, the key and the passwords are in one each,
//! no longer than the settings have them. The kubeconfig of a node that has joined is kubelet's
//! own, written at each start, so that another address in the settings counts at once.

use std::collections::BTreeMap;
use std::path::Path;

use contract::node::settings::{Bootstrap, KubernetesSettings, Settings};
use serde_json::{Value, json};

use super::registries;

/// Folder in memory.
pub const KUBELET_FOLDER: &str = "/run/slipway/kubelet";
/// Variables of `kubelet.service`.
const ENVIRONMENT: &str = "10-slipway.env";
/// Over the image's `KubeletConfiguration`; kubelet reads files that end so.
const CONFIGURATION: &str = "10-slipway.conf";
const AUTHORITY: &str = "10-slipway-ca.crt";
const BOOTSTRAP: &str = "10-slipway-bootstrap.kubeconfig";
const BOOTSTRAP_CERTIFICATE: &str = "10-slipway-bootstrap.crt";
const BOOTSTRAP_KEY: &str = "10-slipway-bootstrap.key";
/// `/var/lib/kubelet/config.json` is a link to it.
const LOGINS: &str = "10-slipway-registries.json";
/// In `RuntimeDirectory=` of `kubelet.service`: gone when kubelet stops.
const KUBECONFIG: &str = "/run/kubelet/kubeconfig";

/// What the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Processors.
    pub processors: u64,
    /// Bytes of memory.
    pub memory: u64,
}

impl Capacity {
    /// Of the machine that this program runs on.
    pub fn of_this_machine() -> Self {
        let memory = rustix::system::sysinfo();
        let unit = u64::from(memory.mem_unit);
        Self {
            processors: std::thread::available_parallelism().map_or(1, |many| many.get() as u64),
            memory: memory.totalram.saturating_mul(unit),
        }
    }

    /// What kubelet and containerd keep of it unless the settings say more: the shares that Google
    /// Kubernetes Engine keeps
    /// (<https://cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes>).
    fn reserved(self) -> BTreeMap<String, String> {
        let steps = [(1000, 600), (1000, 100), (2000, 50)];
        let thousandths = shared(self.processors.saturating_mul(1000), &steps, 25);
        const GIB: u64 = 1024;
        let mebibytes = self.memory >> 20;
        let kept = match mebibytes < GIB {
            true => 255.min(mebibytes / 4),
            false => {
                let steps = [(4 * GIB, 2500), (4 * GIB, 2000), (8 * GIB, 1000), (112 * GIB, 600)];
                shared(mebibytes, &steps, 200)
            }
        };
        BTreeMap::from([
            ("cpu".to_owned(), format!("{thousandths}m")),
            ("memory".to_owned(), format!("{kept}Mi")),
        ])
    }
}

/// Of the first part of `amount` so many ten-thousandths, of the next so many, and of what is left
/// `rest`.
fn shared(amount: u64, steps: &[(u64, u64)], rest: u64) -> u64 {
    let mut left = amount;
    let mut sum = 0;
    for (length, share) in steps {
        let part = left.min(*length);
        sum += part * share;
        left -= part;
    }
    (sum + left * rest) / 10_000
}

/// Files by name.
pub(super) fn files(
    folder: &Path,
    settings: &Settings,
    capacity: Capacity,
) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let path = |name: &str| folder.join(name).display().to_string();
    let mut add = |name: &str, text| files.insert(name.to_owned(), text);
    if let Some(cluster) = &settings.kubernetes {
        add(ENVIRONMENT, environment(folder, cluster));
        add(CONFIGURATION, text(&configuration(cluster, &path(AUTHORITY), capacity)));
        add(AUTHORITY, cluster.certificate_authority.clone());
        let user = match &cluster.bootstrap {
            None => json!({}),
            Some(Bootstrap::Token(token)) => json!({"token": token.expose()}),
            Some(Bootstrap::ClientCertificate(own)) => {
                add(BOOTSTRAP_CERTIFICATE, own.certificate.clone());
                add(BOOTSTRAP_KEY, own.key.expose().to_owned());
                json!({
                    "client-certificate": path(BOOTSTRAP_CERTIFICATE),
                    "client-key": path(BOOTSTRAP_KEY),
                })
            }
        };
        add(BOOTSTRAP, text(&bootstrap(cluster, &path(AUTHORITY), &user)));
    }
    if let Some(logins) = registries::docker_config(&settings.registries) {
        add(LOGINS, text(&logins));
    }
    files
}

/// JSON, which is YAML.
fn text(value: &Value) -> String {
    format!("{value:#}\n")
}

/// One line of arguments. No value has a blank or a quote: the settings are checked.
fn environment(folder: &Path, settings: &KubernetesSettings) -> String {
    let mut arguments = vec![
        format!("--config-dir={}", folder.display()),
        format!("--bootstrap-kubeconfig={}", folder.join(BOOTSTRAP).display()),
        format!("--kubeconfig={KUBECONFIG}"),
    ];
    if !settings.labels.is_empty() {
        let labels = settings.labels.iter().map(|(key, value)| format!("{key}={value}"));
        arguments.push(format!("--node-labels={}", labels.collect::<Vec<_>>().join(",")));
    }
    if let Some(address) = settings.node_ip {
        arguments.push(format!("--node-ip={address}"));
    }
    format!("KUBELET_ARGUMENTS={}\n", arguments.join(" "))
}

/// What differs from the image's own configuration.
/// <https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/>
fn configuration(settings: &KubernetesSettings, authority: &str, capacity: Capacity) -> Value {
    let taints: Vec<Value> = settings
        .taints
        .iter()
        .map(|taint| json!({"key": taint.key, "value": taint.value, "effect": taint.effect}))
        .collect();
    let kubelet = &settings.kubelet;
    let mut document = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": authority},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": settings.cluster_dns,
        "clusterDomain": settings.cluster_domain,
        "enableServer": true,
        "maxPods": kubelet.max_pods,
        // Without it, one signal that is given turns all others off.
        "mergeDefaultEvictionSettings": true,
        "registerWithTaints": taints,
        "rotateCertificates": true,
        "serverTLSBootstrap": true,
    });
    let mut set = |name: &str, value: Value| {
        let is_given = !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty());
        if let (true, Some(fields)) = (is_given, document.as_object_mut()) {
            fields.insert(name.to_owned(), value);
        }
    };
    set("systemReserved", json!(kubelet.system_reserved));
    let mut kube_reserved = capacity.reserved();
    kube_reserved.extend(kubelet.kube_reserved.clone());
    set("kubeReserved", json!(kube_reserved));
    set("podPidsLimit", json!(kubelet.pod_pids_limit));
    set("seccompDefault", json!(kubelet.seccomp_default));
    set("enableSystemLogHandler", json!(kubelet.system_logs));
    set("enableSystemLogQuery", json!(kubelet.system_logs));
    set("evictionHard", json!(kubelet.eviction_hard));
    set("containerLogMaxSize", json!(kubelet.container_log_max_size));
    set("containerLogMaxFiles", json!(kubelet.container_log_max_files));
    document
}

fn bootstrap(settings: &KubernetesSettings, authority: &str, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "cluster",
            "cluster": {"server": settings.server, "certificate-authority": authority},
        }],
        "users": [{"name": "bootstrap", "user": user}],
        "contexts": [{"name": "bootstrap", "context": {"cluster": "cluster", "user": "bootstrap"}}],
        "current-context": "bootstrap",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Capacity = Capacity { processors: 2, memory: 8 << 30 };

    fn settings(more: &str) -> Settings {
        let text = format!(
            r#"{{"schema": 1, "kubernetes": {{"server": "https://10.0.2.2:6443",
                "certificateAuthority": "CA"{more}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn without_a_cluster_there_are_passwords_of_registries_at_most() {
        let files =
            |text| files(Path::new("/run/x"), &serde_json::from_str(text).unwrap(), MACHINE);
        assert!(files(r#"{"schema": 1}"#).is_empty());
        let files = files(
            r#"{"schema": 1,
                "registries": [{"host": "docker.io", "username": "u", "password": "p"}]}"#,
        );
        assert_eq!(files.keys().collect::<Vec<_>>(), [LOGINS]);
        assert!(files[LOGINS].contains("docker.io"));
    }

    #[test]
    fn kubelet_is_told_where_the_cluster_is_and_how_to_register() {
        let settings = settings(
            r#", "bootstrap": {"token": "abcdef.0123456789abcdef"}, "nodeIp": "10.0.2.15",
               "clusterDns": ["10.96.0.10"], "taints": ["tenant=blue:NoSchedule"],
               "labels": {"example.com/tenant": "blue", "tier": "x"},
               "kubelet": {"maxPods": 20, "evictionHard": {"memory.available": "5%"}}"#,
        );
        let files = files(Path::new("/run/x"), &settings, MACHINE);
        let environment = &files[ENVIRONMENT];
        assert_eq!(
            environment,
            "KUBELET_ARGUMENTS=--config-dir=/run/x \
             --bootstrap-kubeconfig=/run/x/10-slipway-bootstrap.kubeconfig \
             --kubeconfig=/run/kubelet/kubeconfig --node-labels=example.com/tenant=blue,tier=x \
             --node-ip=10.0.2.15\n"
        );
        let configuration: Value = serde_json::from_str(&files[CONFIGURATION]).unwrap();
        let taint = json!({"key": "tenant", "value": "blue", "effect": "NoSchedule"});
        assert_eq!(configuration["registerWithTaints"], json!([taint]));
        assert_eq!(configuration["evictionHard"], json!({"memory.available": "5%"}));
        assert_eq!(configuration["mergeDefaultEvictionSettings"], true);
        assert_eq!(configuration["maxPods"], 20);
        assert_eq!(configuration.get("systemReserved"), None);
        let client_authority = &configuration["authentication"]["x509"]["clientCAFile"];
        assert_eq!(client_authority, "/run/x/10-slipway-ca.crt");
        assert_eq!(files[AUTHORITY], "CA");
    }

    #[test]
    fn what_is_kept_from_pods_grows_with_the_machine() {
        let kept = |processors, mebibytes: u64| {
            let reserved = Capacity { processors, memory: mebibytes << 20 }.reserved();
            (reserved["cpu"].clone(), reserved["memory"].clone())
        };
        let is = |cpu: &str, memory: &str| (cpu.to_owned(), memory.to_owned());
        assert_eq!(kept(1, 512), is("60m", "128Mi"));
        assert_eq!(kept(2, 1023), is("70m", "255Mi"));
        assert_eq!(kept(2, 4096), is("70m", "1024Mi"));
        assert_eq!(kept(4, 16 * 1024), is("80m", "2662Mi"));
        assert_eq!(kept(64, 256 * 1024), is("230m", "12165Mi"));
    }

    #[test]
    fn what_the_settings_say_counts_more_than_the_image_and_the_machine() {
        let of = |more: &str| -> Value {
            let files = files(Path::new("/run/x"), &settings(more), MACHINE);
            serde_json::from_str(&files[CONFIGURATION]).unwrap()
        };
        let unsaid = of("");
        assert_eq!(unsaid["kubeReserved"], json!({"cpu": "70m", "memory": "1843Mi"}));
        for field in ["podPidsLimit", "seccompDefault", "enableSystemLogHandler"] {
            assert_eq!(unsaid.get(field), None, "{field} is the image's");
        }
        let said = of(r#", "kubelet": {"kubeReserved": {"memory": "1Gi"}, "podPidsLimit": 100,
                "seccompDefault": false, "systemLogs": true}"#);
        assert_eq!(said["kubeReserved"], json!({"cpu": "70m", "memory": "1Gi"}));
        assert_eq!(said["podPidsLimit"], 100);
        assert_eq!(said["seccompDefault"], false);
        assert_eq!(said["enableSystemLogHandler"], true);
        assert_eq!(said["enableSystemLogQuery"], true);
    }

    #[test]
    fn what_a_node_bootstraps_with_is_in_one_file_only() {
        let token = r#"{"token": "SECRET"}"#;
        let certificate = r#"{"clientCertificate": {"certificate": "PUBLIC", "key": "SECRET"}}"#;
        for (bootstrap, holds) in [(token, BOOTSTRAP), (certificate, BOOTSTRAP_KEY)] {
            let settings = settings(&format!(r#", "bootstrap": {bootstrap}"#));
            for (name, text) in files(Path::new("/run/x"), &settings, MACHINE) {
                assert_eq!(text.contains("SECRET"), name == holds, "{name}");
            }
        }
        let settings_with_it = settings(&format!(r#", "bootstrap": {certificate}"#));
        let files_with_it = files(Path::new("/run/x"), &settings_with_it, MACHINE);
        let bootstrap: Value = serde_json::from_str(&files_with_it[BOOTSTRAP]).unwrap();
        let user = json!({
            "client-certificate": "/run/x/10-slipway-bootstrap.crt",
            "client-key": "/run/x/10-slipway-bootstrap.key",
        });
        assert_eq!(bootstrap["users"][0]["user"], user);
        assert_eq!(files_with_it[BOOTSTRAP_CERTIFICATE], "PUBLIC");
        let without = files(Path::new("/run/x"), &settings(""), MACHINE);
        let bootstrap: Value = serde_json::from_str(&without[BOOTSTRAP]).unwrap();
        assert_eq!(bootstrap["users"][0]["user"], json!({}));
    }
}
