//! Access to nodes: a certificate authority in a folder (`ca.key`, `ca.pem`), and what it
//! issues: certificates of callers, whose Organization is their role, and of nodes.
//!
//! All keys are ECDSA over P-256. **Invariant:** a caller's certificate cannot stand for a
//! node, nor a node's for a caller (extended key usage), and none can issue others.

use std::net::IpAddr;
use std::path::Path;

use contract::node::api::{OPERATORS, READERS};
use contract::node::settings::{ApiSettings, DEFAULT_API_PORT};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use x509_cert::der::{DecodePem, Encode};
use zeroize::Zeroizing;

use super::KeyError;
use super::create::{NewFile, write_all};
use super::open::{as_text, read, read_private};

/// Files of a caller's folder.
pub const CLIENT_CERTIFICATE: &str = "client.pem";
/// See [`CLIENT_CERTIFICATE`].
pub const CLIENT_KEY: &str = "client.key";
/// The authority's certificate, in every folder.
pub const AUTHORITY: &str = "ca.pem";
/// The part `api` of a node's settings, with certificate and key.
pub const NODE_SETTINGS: &str = "api.json";
/// Longest name in a certificate (X.520, ub-common-name).
pub const MAX_NAME: usize = 64;
/// Days that a certificate is valid when no number is given.
pub const DEFAULT_DAYS: u16 = 365;

const AUTHORITY_KEY: &str = "ca.key";
/// Years that an authority is valid.
const AUTHORITY_YEARS: i32 = 20;

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Somebody who may look.
    Reader(String),
    /// Somebody who may look, and change things.
    Operator(String),
    /// A node, under these addresses.
    Node {
        /// Its name.
        name: String,
        /// IP addresses and DNS names under which callers reach it.
        addresses: Vec<String>,
    },
}

impl Holder {
    fn name(&self) -> &str {
        match self {
            Holder::Reader(name) | Holder::Operator(name) | Holder::Node { name, .. } => name,
        }
    }
}

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Keys could not be read or written.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A name that no certificate can hold.
    #[error("`{0}` cannot be a name in a certificate: give 1 to {MAX_NAME} printable characters")]
    Name(String),
    /// An address that is none.
    #[error("`{0}` is neither an IP address nor a DNS name: give what callers will type")]
    Address(String),
    /// A node without addresses.
    #[error("a node's certificate needs an address: give each with --address")]
    NoAddress,
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Generate(String),
}

impl From<rcgen::Error> for AccessError {
    fn from(error: rcgen::Error) -> Self {
        AccessError::Generate(error.to_string())
    }
}

/// Makes an authority in a new or empty folder.
///
/// # Errors
/// [`KeyError::Exists`] rather than overwriting anything.
pub fn create_authority(folder: &Path, now: Timestamp) -> Result<(), AccessError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = authority_params();
    let year = i32::from(now.to_zoned(TimeZone::UTC).year());
    params.not_after = rcgen::date_time_ymd(year + AUTHORITY_YEARS, 1, 1);
    let certificate = params.self_signed(&key)?;
    let files = vec![private(AUTHORITY_KEY, &key), public(AUTHORITY, &certificate.pem())];
    Ok(write_all(folder, files)?)
}

/// Issues a certificate with a new key, and writes both with the authority's certificate into
/// a new or empty folder.
///
/// # Errors
/// [`AccessError`], before anything is written.
pub fn issue(
    authority: &Path,
    holder: &Holder,
    days: u16,
    now: Timestamp,
    out: &Path,
) -> Result<(), AccessError> {
    let (issuer, authority_pem) = open_authority(authority)?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = holder_params(holder, days, now)?.signed_by(&key, &issuer)?;
    let mut files = match holder {
        Holder::Reader(_) | Holder::Operator(_) => {
            vec![private(CLIENT_KEY, &key), public(CLIENT_CERTIFICATE, &certificate.pem())]
        }
        Holder::Node { .. } => vec![node_settings(&key, &certificate, &authority_pem)?],
    };
    files.push(public(AUTHORITY, &authority_pem));
    Ok(write_all(out, files)?)
}

/// A certificate of this name, valid from long ago on: a node whose clock stands at the time of
/// its image, because no time server answers, must still know its operators.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params
}

fn authority_params() -> CertificateParams {
    let mut params = named("Slipway access");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn open_authority(folder: &Path) -> Result<(Issuer<'static, KeyPair>, String), AccessError> {
    let (key_file, certificate_file) = (folder.join(AUTHORITY_KEY), folder.join(AUTHORITY));
    for (file, name) in [(&key_file, AUTHORITY_KEY), (&certificate_file, AUTHORITY)] {
        if !file.exists() {
            let files = vec![name.to_owned()];
            return Err(KeyError::NoAuthority { folder: folder.into(), files }.into());
        }
    }
    let malformed = |file: &Path, expected| KeyError::Malformed { file: file.into(), expected };
    let key = KeyPair::from_pem(&as_text(&read_private(&key_file)?));
    let key = key.map_err(|_| malformed(&key_file, "a private key in PKCS#8 PEM"))?;
    let text = as_text(&read(&certificate_file)?).to_string();
    let not_one = || malformed(&certificate_file, "an X.509 certificate in PEM");
    let certificate = x509_cert::Certificate::from_pem(text.as_bytes()).map_err(|_| not_one())?;
    let certified = certificate.tbs_certificate.subject_public_key_info.to_der();
    if certified.map_err(|_| not_one())? != rcgen::PublicKeyData::subject_public_key_info(&key) {
        return Err(KeyError::Mismatch { key: key_file, certificate: certificate_file }.into());
    }
    Ok((Issuer::new(authority_params(), key), text))
}

fn holder_params(
    holder: &Holder,
    days: u16,
    now: Timestamp,
) -> Result<CertificateParams, AccessError> {
    let name = holder.name();
    if !(1..=MAX_NAME).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(AccessError::Name(contract::node::api::printable(name)));
    }
    let mut params = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let end = now.to_zoned(TimeZone::UTC).checked_add(i32::from(days).days());
    let end = end.map_err(|error| AccessError::Generate(error.to_string()))?;
    params.not_after = rcgen::date_time_ymd(
        end.year().into(),
        end.month().unsigned_abs(),
        end.day().unsigned_abs(),
    );
    let (purpose, organization) = match holder {
        Holder::Reader(_) => (ExtendedKeyUsagePurpose::ClientAuth, Some(READERS)),
        Holder::Operator(_) => (ExtendedKeyUsagePurpose::ClientAuth, Some(OPERATORS)),
        Holder::Node { addresses, .. } => {
            params.subject_alt_names = alternative_names(addresses)?;
            (ExtendedKeyUsagePurpose::ServerAuth, None)
        }
    };
    params.extended_key_usages = vec![purpose];
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    Ok(params)
}

fn alternative_names(addresses: &[String]) -> Result<Vec<SanType>, AccessError> {
    if addresses.is_empty() {
        return Err(AccessError::NoAddress);
    }
    let names = addresses.iter().map(|text| {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(SanType::IpAddress(address));
        }
        let wrong = || AccessError::Address(contract::node::api::printable(text));
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if text.len() > 253 || !text.split('.').all(label) {
            return Err(wrong());
        }
        text.as_str().try_into().map(SanType::DnsName).map_err(|_| wrong())
    });
    names.collect()
}

fn private(name: &str, key: &KeyPair) -> NewFile {
    let text = Zeroizing::new(key.serialize_pem());
    (name.to_owned(), 0o600, Zeroizing::new(text.as_bytes().to_vec()))
}

fn public(name: &str, text: &str) -> NewFile {
    (name.to_owned(), 0o644, Zeroizing::new(text.as_bytes().to_vec()))
}

/// The part `api` of the settings: it holds the private key.
fn node_settings(
    key: &KeyPair,
    certificate: &Certificate,
    authority: &str,
) -> Result<NewFile, AccessError> {
    let private = Zeroizing::new(key.serialize_pem());
    let settings = ApiSettings {
        port: DEFAULT_API_PORT,
        certificate: certificate.pem(),
        key: String::new().into(),
        client_authority: authority.to_owned(),
    };
    let failed = |error: serde_json::Error| AccessError::Generate(error.to_string());
    let mut document = serde_json::to_value(settings).map_err(failed)?;
    // A secret serialises as a placeholder; this file is the one place that is to hold it.
    document["key"] = private.as_str().into();
    let text = serde_json::to_string_pretty(&document).map_err(failed)? + "\n";
    Ok((NODE_SETTINGS.to_owned(), 0o600, Zeroizing::new(text.into_bytes())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-25T12:00:00Z".parse().unwrap()
    }

    fn authority() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        create_authority(&folder.path().join("ca"), now()).unwrap();
        folder
    }

    #[test]
    fn private_parts_are_their_owners_alone_and_never_overwritten() {
        let folder = authority();
        let path = |name: &str| folder.path().join(name);
        let node = Holder::Node { name: "n1".into(), addresses: vec!["10.0.2.15".into()] };
        issue(&path("ca"), &node, 30, now(), &path("node")).unwrap();
        issue(&path("ca"), &Holder::Reader("rita".into()), 30, now(), &path("rita")).unwrap();
        for file in ["ca/ca.key", "rita/client.key", "node/api.json"] {
            let mode = fs::metadata(path(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let again = issue(&path("ca"), &Holder::Reader("eve".into()), 30, now(), &path("rita"));
        assert!(matches!(again, Err(AccessError::Key(KeyError::Exists(_)))));
        assert!(create_authority(&path("ca"), now()).is_err());
    }

    #[test]
    fn a_nodes_settings_take_what_was_issued() {
        let folder = authority();
        let (ca, out) = (folder.path().join("ca"), folder.path().join("node"));
        let addresses = vec!["10.0.2.15".into(), "node-1.example.org".into(), "::1".into()];
        let node = Holder::Node { name: "node-1".into(), addresses };
        issue(&ca, &node, 30, now(), &out).unwrap();
        let text = fs::read_to_string(out.join(NODE_SETTINGS)).unwrap();
        let document = format!(r#"{{"schema": 1, "api": {text}}}"#);
        let settings = contract::node::settings::Settings::from_json(document.as_bytes()).unwrap();
        let api = settings.api.unwrap();
        assert!(api.key.expose().starts_with("-----BEGIN PRIVATE KEY"));
        assert_eq!(api.client_authority, fs::read_to_string(ca.join(AUTHORITY)).unwrap());
    }

    #[test]
    fn an_authority_whose_parts_do_not_fit_is_refused() {
        let (one, two) = (authority(), authority());
        let file = one.path().join("ca/ca.pem");
        fs::copy(two.path().join("ca/ca.pem"), &file).unwrap();
        let out = one.path().join("out");
        let holder = Holder::Operator("otto".into());
        let result = issue(&one.path().join("ca"), &holder, 30, now(), &out);
        assert!(matches!(result, Err(AccessError::Key(KeyError::Mismatch { .. }))));
        fs::remove_file(&file).unwrap();
        let error = issue(&one.path().join("ca"), &holder, 30, now(), &out).unwrap_err();
        assert!(error.to_string().contains("slipway keys access new"), "{error}");
        assert!(!out.exists());
    }

    #[test]
    fn names_and_addresses_that_no_certificate_holds_are_refused() {
        let folder = authority();
        let (ca, out) = (folder.path().join("ca"), folder.path().join("out"));
        let node = |addresses: &[&str]| Holder::Node {
            name: "n".into(),
            addresses: addresses.iter().map(|text| (*text).to_owned()).collect(),
        };
        for holder in [
            Holder::Reader(String::new()),
            Holder::Reader("x".repeat(65)),
            Holder::Operator("a\nb".into()),
            node(&[]),
            node(&["10.0.2.15", "https://node"]),
            node(&["10.0.2.15:7443"]),
            node(&["a..b"]),
        ] {
            let result = issue(&ca, &holder, 30, now(), &out);
            assert!(result.is_err(), "{holder:?}");
            assert!(!out.exists());
        }
    }
}
