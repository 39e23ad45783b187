//! For tests: an authority that makes certificates, and a node that records what it is asked.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use contract::Slot;
use contract::node::api::*;
use contract::node::settings::ApiSettings;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};

use super::{Caller, Node};

/// A certificate with its key.
pub struct Identity {
    pub der: Vec<u8>,
    pub pem: String,
    pub key: String,
}

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, mut params: CertificateParams, purpose: ExtendedKeyUsagePurpose) -> Identity {
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    pub fn client(&self, name: &str, organizations: &[&str]) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        for organization in organizations {
            // The type holds one value of a kind; an own OID of the same value adds another.
            let kind = match *organization {
                first if Some(&first) == organizations.first() => DnType::OrganizationName,
                _ => DnType::CustomDnType(vec![2, 5, 4, 10]),
            };
            params.distinguished_name.push(kind, *organization);
        }
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    pub fn node(&self) -> Identity {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub fn access(&self) -> ApiSettings {
        let Identity { pem, key, .. } = self.node();
        let client_authority = self.pem.clone();
        ApiSettings { port: 0, certificate: pem, key: key.into(), client_authority }
    }
}

/// A status with little in it.
pub fn status() -> Status {
    Status {
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        hostname: "node-1".into(),
        addresses: vec!["10.0.2.15".parse().unwrap()],
        running: Running {
            image: Some("node".into()),
            version: "1.4.0".parse().ok(),
            root_hash: Some([7; 32].into()),
            slot: Slot::A,
            generation: 5,
            boot: Boot::Blessed,
            tries_left: None,
        },
        other: None,
        phase: Phase::Idle,
        target: None,
        progress: None,
        health: vec![Probe { name: "kubelet".into(), state: ProbeState::Passing, message: None }],
        follows: Follows { channel: "stable".parse().ok(), ..Follows::default() },
        holds: Vec::new(),
        last_check: None,
        problem: None,
        fallback: None,
        refused: Vec::new(),
        drift: None,
        settings: None,
        clock: NodeClock {
            now: "2026-11-25T12:00:00Z".parse().unwrap(),
            synchronized: true,
            uptime_seconds: 7200,
        },
        updater: "0.1.0".into(),
    }
}

/// Records who asked for what.
#[derive(Default)]
pub struct FakeNode {
    pub asked: Mutex<Vec<(String, String)>>,
}

impl FakeNode {
    fn record(&self, caller: &Caller, what: String) {
        self.asked.lock().unwrap().push((caller.name().to_owned(), what));
    }
}

#[async_trait]
impl Node for FakeNode {
    async fn status(&self) -> Status {
        status()
    }

    async fn why(&self) -> Why {
        Why { running: "1.4.0".parse().ok(), wanted: None, way: Vec::new(), holds: Vec::new() }
    }

    async fn history(&self) -> History {
        History::default()
    }

    async fn drift(&self, depth: Depth) -> Result<Drift, ApiError> {
        Ok(Drift { at: status().clock.now, depth, items: Vec::new() })
    }

    async fn settings(&self) -> Result<serde_json::Value, ApiError> {
        Ok(serde_json::json!({ "schema": 1 }))
    }

    async fn replace_settings(
        &self,
        caller: &Caller,
        document: Bytes,
        mode: SettingsMode,
    ) -> Result<SettingsOutcome, ApiError> {
        self.record(caller, format!("{mode:?} {} bytes", document.len()));
        Ok(SettingsOutcome { changed: Vec::new(), restarts: Vec::new(), message: "same".into() })
    }

    async fn act(&self, caller: &Caller, action: Action) -> Result<Accepted, ApiError> {
        self.record(caller, format!("{action:?}"));
        if action == Action::Rollback {
            let next = "install a release first";
            return Err(ApiError::new(Code::Conflict, "the other slot is empty", next));
        }
        Ok(Accepted { started: Started::Yes, target: None, message: "started".into() })
    }

    async fn metrics(&self) -> Result<String, ApiError> {
        Ok("# EOF\n".into())
    }
}
