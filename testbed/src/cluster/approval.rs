//! Whether a kubelet may have the certificate that it asks to serve with: the rule that
//! docs/cluster.md gives operators.
//!
//! In: the request and the Node of who asks, as the API server has them. Out: nothing, or what is
//! wrong. **Invariant:** what passes is good for the asker's own name and addresses, and for
//! serving. That those addresses are the node's own, only somebody who knows the machine can tell:
//! the Node's status is the node's word.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateSigningRequestParams, DistinguishedName, DnType, DnValue, SanType};
use serde_json::Value;

/// What the user name of a node begins with.
const USER: &str = "system:node:";
/// The group of all nodes.
const GROUP: &str = "system:nodes";
/// The usage that it is all about.
const SERVER: &str = "server auth";
/// What a certificate to serve with may be used for; the second with RSA only.
const USAGES: [&str; 3] = ["digital signature", "key encipherment", SERVER];

/// Name of the Node that asks.
///
/// # Errors
/// When somebody else asks.
pub fn asker(request: &Value) -> Result<&str> {
    let user = request["spec"]["username"].as_str().unwrap_or_default();
    let name = user.strip_prefix(USER).filter(|name| !name.is_empty());
    name.with_context(|| format!("`{user}` asks for a serving certificate, and is no node"))
}

/// Compares a request with the Node that asks.
///
/// # Errors
/// With what the request has that it may not have.
pub fn check(request: &Value, node: &Value) -> Result<()> {
    let name = asker(request)?;
    ensure!(node["metadata"]["name"] == name, "{name} asks, this is another Node");
    let usages: Vec<&str> = texts(&request["spec"]["usages"], Value::as_str).collect();
    let is_allowed = |usage: &&str| USAGES.contains(usage);
    ensure!(
        usages.contains(&SERVER) && usages.iter().all(is_allowed),
        "{name} asks for the usages {usages:?}"
    );
    let encoded = request["spec"]["request"].as_str().unwrap_or_default();
    let pem = String::from_utf8(STANDARD.decode(encoded)?)?;
    let asked = CertificateSigningRequestParams::from_pem(&pem)
        .with_context(|| format!("the request of {name} cannot be read"))?
        .params;
    let subject = subject(&asked.distinguished_name);
    let user = format!("{USER}{name}");
    let expected = [(DnType::OrganizationName, GROUP.to_owned()), (DnType::CommonName, user)];
    ensure!(
        subject.len() == 2 && expected.iter().all(|part| subject.contains(part)),
        "{name} asks for the subject {subject:?}"
    );
    let names = &asked.subject_alt_names;
    ensure!(!names.is_empty(), "{name} asks for no name to serve under");
    let addresses = &node["status"]["addresses"];
    let own: Vec<&str> = texts(addresses, |address| address["address"].as_str()).collect();
    for wanted in names {
        ensure!(is_own(wanted, name, &own), "{name} asks for {wanted:?}, and its Node has {own:?}");
    }
    Ok(())
}

/// A name to serve under is the Node's, or one of its addresses.
fn is_own(wanted: &SanType, name: &str, own: &[&str]) -> bool {
    match wanted {
        SanType::DnsName(wanted) => wanted.as_str() == name || own.contains(&wanted.as_str()),
        SanType::IpAddress(wanted) => {
            own.iter().any(|address| address.parse::<IpAddr>().is_ok_and(|own| own == *wanted))
        }
        _ => false,
    }
}

/// The parts of a subject; those that are no plain text are empty. Of two parts of one kind `rcgen`
/// keeps the last: a second organization is for the signer to refuse, which takes `system:nodes`
/// alone.
fn subject(name: &DistinguishedName) -> Vec<(DnType, String)> {
    let text = |value: &DnValue| match value {
        DnValue::PrintableString(text) => text.as_str().to_owned(),
        DnValue::Utf8String(text) => text.clone(),
        _ => String::new(),
    };
    name.iter().map(|(kind, value)| (kind.clone(), text(value))).collect()
}

/// The texts of a list.
fn texts<'a>(
    list: &'a Value,
    text: impl Fn(&'a Value) -> Option<&'a str>,
) -> impl Iterator<Item = &'a str> {
    list.as_array().into_iter().flatten().filter_map(text)
}

#[cfg(test)]
mod tests {
    use rcgen::string::PrintableString;
    use rcgen::{CertificateParams, KeyPair};
    use serde_json::json;

    use super::*;

    /// A request of `node-a`, and its Node.
    fn request(user: &str, group: &str, names: &[&str], usages: &[&str]) -> (Value, Value) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        // As Go writes them.
        for (kind, text) in [(DnType::OrganizationName, group), (DnType::CommonName, user)] {
            let text = PrintableString::try_from(text).unwrap();
            params.distinguished_name.push(kind, DnValue::PrintableString(text));
        }
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let request = json!({"spec": {
            "username": "system:node:node-a",
            "usages": usages,
            "request": STANDARD.encode(pem),
        }});
        let node = json!({
            "metadata": {"name": "node-a"},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "10.0.2.15"},
                {"type": "Hostname", "address": "node-a"},
            ]},
        });
        (request, node)
    }

    fn refusal(user: &str, group: &str, names: &[&str], usages: &[&str]) -> String {
        let (request, node) = request(user, group, names, usages);
        format!("{:#}", check(&request, &node).unwrap_err())
    }

    const USER_A: &str = "system:node:node-a";
    const OWN: [&str; 2] = ["node-a", "10.0.2.15"];
    const SERVING: [&str; 2] = ["digital signature", SERVER];

    #[test]
    fn a_node_may_serve_under_its_own_name_and_addresses() {
        let (request, node) = request(USER_A, GROUP, &OWN, &SERVING);
        check(&request, &node).unwrap();
        assert_eq!(asker(&request).unwrap(), "node-a");
    }

    #[test]
    fn a_strangers_name_or_address_is_refused() {
        for stranger in ["10.0.2.16", "node-b", "kubernetes.default.svc"] {
            let said = refusal(USER_A, GROUP, &["node-a", "10.0.2.15", stranger], &SERVING);
            assert!(said.contains(stranger), "{said}");
        }
        assert!(refusal(USER_A, GROUP, &[], &SERVING).contains("no name"));
    }

    #[test]
    fn another_subject_is_refused() {
        for (user, group) in [("system:node:node-b", GROUP), (USER_A, "system:masters")] {
            let said = refusal(user, group, &OWN, &SERVING);
            assert!(said.contains("subject"), "{said}");
        }
    }

    #[test]
    fn a_certificate_for_more_than_serving_is_refused() {
        for usages in [&["digital signature", SERVER, "client auth"][..], &["digital signature"]] {
            let said = refusal(USER_A, GROUP, &OWN, usages);
            assert!(said.contains("usages"), "{said}");
        }
    }

    #[test]
    fn who_is_no_node_is_refused_and_so_is_a_node_that_asks_for_another() {
        let (mut request, mut node) = request(USER_A, GROUP, &OWN, &SERVING);
        node["metadata"]["name"] = "node-b".into();
        assert!(check(&request, &node).is_err());
        for user in ["admin", "system:node:"] {
            request["spec"]["username"] = user.into();
            assert!(asker(&request).is_err(), "{user}");
        }
    }
}
