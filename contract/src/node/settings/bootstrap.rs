//! With what a new node asks its cluster for a certificate.
//!
//! **Invariant:** what is checked is a token of Kubernetes' form, or a pair of PEM texts; neither
//! secret is shown.

use serde::{Deserialize, Serialize};

use super::Secret;
use super::field::{Checked, pem, wrong};

/// How a new node shows that it may ask for a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "BootstrapFields")]
pub enum Bootstrap {
    /// A bootstrap token, `ID.SECRET`.
    Token(Secret),
    /// A client certificate that the cluster knows.
    ClientCertificate(ClientCertificate),
}

/// What a document may have in the place of a [`Bootstrap`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BootstrapFields {
    token: Option<Secret>,
    client_certificate: Option<ClientCertificate>,
}

impl TryFrom<BootstrapFields> for Bootstrap {
    type Error = &'static str;
    fn try_from(fields: BootstrapFields) -> Result<Self, &'static str> {
        match (fields.token, fields.client_certificate) {
            (Some(token), None) => Ok(Bootstrap::Token(token)),
            (None, Some(own)) => Ok(Bootstrap::ClientCertificate(own)),
            _ => Err("kubernetes.bootstrap: give one of `token` and `clientCertificate`"),
        }
    }
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// The certificate and those between it and its authority.
    pub certificate: String,
    /// Its private key.
    pub key: Secret,
}

impl Bootstrap {
    pub(super) fn check(&self) -> Checked {
        match self {
            Bootstrap::Token(token) => check_token("kubernetes.bootstrap.token", token),
            Bootstrap::ClientCertificate(ClientCertificate { certificate, key }) => {
                const FIELD: &str = "kubernetes.bootstrap.clientCertificate";
                let key_field = format!("{FIELD}.key");
                if key.is_redacted() {
                    return wrong(key_field, "is a placeholder: give the key itself");
                }
                pem(&format!("{FIELD}.certificate"), certificate, "CERTIFICATE")?;
                pem(&key_field, key.expose(), "PRIVATE KEY")
            }
        }
    }

    /// A copy that may be shown.
    pub(super) fn redacted(&self) -> Self {
        match self {
            Bootstrap::Token(_) => Bootstrap::Token(Secret::redacted()),
            Bootstrap::ClientCertificate(own) => Bootstrap::ClientCertificate(ClientCertificate {
                certificate: own.certificate.clone(),
                key: Secret::redacted(),
            }),
        }
    }
}

pub(super) fn check_token(field: &str, token: &Secret) -> Checked {
    if token.is_redacted() {
        return wrong(field, "is a placeholder: give the token");
    }
    let part = |text: &str, length| {
        text.len() == length
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    match token.expose().split_once('.') {
        Some((id, secret)) if part(id, 6) && part(secret, 16) => Ok(()),
        _ => wrong(field, "give a token of the form abcdef.0000000000000000"),
    }
}
