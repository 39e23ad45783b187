//! Keys, certificates and kubeconfigs of a control plane, for one scenario.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use super::API_SERVER_PORT;
use crate::addresses::HOST;

/// Clients of the API server: file, user, group.
const CLIENTS: [(&str, &str, &str); 5] = [
    ("admin", "admin", "system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager", ""),
    ("kube-scheduler", "system:kube-scheduler", ""),
    // With which a new node may ask for its certificate, as with the token.
    ("bootstrap", "bootstrap", "system:bootstrappers"),
    // With which the API server asks kubelets.
    ("kubelet-client", "kube-apiserver", "system:masters"),
];

/// A folder of credentials.
#[derive(Debug)]
pub struct Credentials {
    folder: PathBuf,
    authority: String,
}

impl Credentials {
    /// Makes all of them.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = name("cluster", "");
        let authority = params.self_signed(&key)?.pem();
        let made = Self { folder: folder.to_owned(), authority };
        fs::write(made.file("ca.key"), key.serialize_pem())?;
        fs::write(made.file("ca.crt"), &made.authority)?;
        let issuer = Issuer::new(params, key);
        let hosts = ["127.0.0.1", HOST, "10.96.0.1", "kubernetes.default.svc", "localhost"];
        let mut server = CertificateParams::new(hosts.map(str::to_owned))?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.distinguished_name = name("kube-apiserver", "");
        made.issue("kube-apiserver", &server, &issuer)?;
        for (file, user, group) in CLIENTS {
            let mut client = CertificateParams::new([])?;
            client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            client.distinguished_name = name(user, group);
            made.issue(file, &client, &issuer)?;
            made.write_kubeconfig(file)?;
        }
        let accounts = KeyPair::generate()?;
        fs::write(made.file("service-accounts.key"), accounts.serialize_pem())?;
        fs::write(made.file("service-accounts.pub"), accounts.public_key_pem())?;
        Ok(made)
    }

    /// The authority's certificate, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A file: `NAME.crt`, `NAME.key`, `service-accounts.pub`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The kubeconfig of a client.
    pub fn kubeconfig(&self, client: &str) -> PathBuf {
        self.file(&format!("{client}.kubeconfig"))
    }

    fn issue(
        &self,
        name: &str,
        params: &CertificateParams,
        issuer: &Issuer<'_, KeyPair>,
    ) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem())?;
        Ok(fs::write(self.file(&format!("{name}.crt")), certificate.pem())?)
    }

    fn write_kubeconfig(&self, client: &str) -> Result<()> {
        let document = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{API_SERVER_PORT}"),
                "certificate-authority": self.file("ca.crt"),
            }}],
            "users": [{"name": client, "user": {
                "client-certificate": self.file(&format!("{client}.crt")),
                "client-key": self.file(&format!("{client}.key")),
            }}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": client}}],
            "current-context": "test",
        });
        Ok(fs::write(self.kubeconfig(client), document.to_string())?)
    }
}

fn name(user: &str, group: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if !group.is_empty() {
        name.push(DnType::OrganizationName, group);
    }
    name
}
