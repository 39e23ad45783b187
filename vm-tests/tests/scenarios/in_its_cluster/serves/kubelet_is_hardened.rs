//! The kubelet of a node in a cluster says itself that it runs as the CIS benchmark for Kubernetes wants
//! (section 4, worker nodes); docs/hardening.md has the table. Nothing else listens than what must.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::{Cluster, NODE};
use vm_tests::listening;
use vm_tests::machine::{API_PORT, KUBELET_PORT, Machine};

/// Item of the benchmark, field of kubelet's configuration, value.
fn wanted() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("4.2.1", "/authentication/anonymous/enabled", json!(false)),
        ("4.2.1", "/authentication/webhook/enabled", json!(true)),
        ("4.2.2", "/authorization/mode", json!("Webhook")),
        (
            "4.2.3",
            "/authentication/x509/clientCAFile",
            json!("/run/slipway/kubelet/10-slipway-ca.crt"),
        ),
        // An absent port is none.
        ("4.2.4", "/readOnlyPort", Value::Null),
        ("4.2.5", "/streamingConnectionIdleTimeout", json!("5m0s")),
        ("4.2.6", "/makeIPTablesUtilChains", json!(true)),
        ("4.2.8", "/eventRecordQPS", json!(50)),
        ("4.2.9", "/serverTLSBootstrap", json!(true)),
        ("4.2.10", "/rotateCertificates", json!(true)),
        ("4.2.12", "/tlsMinVersion", json!("VersionTLS13")),
        ("4.2.13", "/podPidsLimit", json!(4096)),
        ("4.2.14", "/seccompDefault", json!(true)),
        ("protect kernel defaults", "/protectKernelDefaults", json!(true)),
        ("no logs of /var/log", "/enableSystemLogHandler", json!(false)),
        ("no profiles", "/enableProfilingHandler", json!(false)),
        ("no flags", "/enableDebugFlagsHandler", json!(false)),
        ("room for the system", "/systemReserved/pid", json!("1000")),
        ("room for kubelet", "/kubeReserved/cpu", json!("70m")),
    ]
}

/// On a node that is Ready.
pub fn shows(cluster: &Cluster, machine: &mut Machine) -> Result<()> {
    let path = format!("/api/v1/nodes/{NODE}/proxy/configz");
    let document: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", &path])?)?;
    let configuration = document.get("kubeletconfig").context("kubelet shows no configuration")?;
    for (item, field, value) in wanted() {
        let is = configuration.pointer(field).unwrap_or(&Value::Null);
        ensure!(*is == value, "{item}: {field} is {is}, not {value}");
    }
    println!("kubelet is as the CIS benchmark wants it");
    let open = listening::beyond_loopback(machine)?;
    println!("listening: {}", open.iter().cloned().collect::<Vec<_>>().join(", "));
    listening::are_known(&open, &[API_PORT, KUBELET_PORT])
}
