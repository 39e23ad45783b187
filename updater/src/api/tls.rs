//! Mutual TLS: who may speak to the API from outside.
//!
//! In: certificates and a key in PEM, from the settings. Out: a configuration of rustls.
//! **Invariant:** TLS 1.3, a client certificate by our authority, and no resumed sessions, so
//! that access ends with the settings that gave it.

use std::sync::Arc;

use contract::node::settings::ApiSettings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, crypto};

/// Why access cannot be given. The texts never hold what the settings held.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A field is not PEM of the right kind.
    #[error("{field} is not {expected} in PEM: make it with `slipway keys access issue`")]
    Malformed {
        /// Which one.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Key and certificate do not belong together, or the key is of an unknown kind.
    #[error(
        "the node's key does not fit its certificate: make both with `slipway keys access issue --node`"
    )]
    Mismatch(#[source] rustls::Error),
    /// The authority is none.
    #[error("the clients' authority cannot be used: take ca.pem of `slipway keys access new`")]
    Authority(#[source] rustls::server::VerifierBuilderError),
    /// rustls cannot do TLS 1.3.
    #[error("this build cannot do TLS 1.3: report it")]
    Protocol(#[source] rustls::Error),
}

fn certificates(field: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let malformed = || TlsError::Malformed { field, expected: "a certificate" };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let certificates = certificates.map_err(|_| malformed())?;
    if certificates.is_empty() { Err(malformed()) } else { Ok(certificates) }
}

/// The configuration that lets in whoever the settings name.
///
/// # Errors
/// [`TlsError`] for the first field that is wrong.
pub fn server_config(access: &ApiSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let mut authorities = RootCertStore::empty();
    for certificate in certificates("the clients' authority", &access.client_authority)? {
        authorities.add(certificate).map_err(|_| TlsError::Malformed {
            field: "the clients' authority",
            expected: "a certificate",
        })?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(authorities.into(), Arc::clone(&provider))
            .build()
            .map_err(TlsError::Authority)?;
    let chain = certificates("the node's certificate", &access.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(access.key.expose().as_bytes())
        .map_err(|_| TlsError::Malformed { field: "the node's key", expected: "a private key" })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Protocol)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(TlsError::Mismatch)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Authority;

    #[test]
    fn fields_that_do_not_fit_are_named_and_never_shown() {
        let (authority, other) = (Authority::new(), Authority::new());
        let good = authority.access();
        server_config(&good).unwrap();
        let cut = good.key.expose()[..100].to_owned();
        for (access, word) in [
            (ApiSettings { certificate: String::new(), ..good.clone() }, "node's certificate"),
            (ApiSettings { client_authority: "nonsense".into(), ..good.clone() }, "authority"),
            (ApiSettings { key: cut.into(), ..good.clone() }, "node's key"),
            (ApiSettings { key: other.access().key, ..good.clone() }, "does not fit"),
        ] {
            let error = server_config(&access).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
            assert!(!error.contains("BEGIN"), "{error}");
        }
    }
}
