//! Reading keys: bounded, and refused unless all belong together.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use der::{DecodePem, Encode};
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use x509_cert::Certificate;
use zeroize::Zeroizing;

use super::{DEVELOPMENT_MARK, KeyError, KeyFolder, KeyName, KeyPurpose};
use crate::signing::secure_boot::{Enrolment, signature_list};
use crate::signing::signer::{FileSigner, Signer};

/// Largest key or certificate that is read, in bytes.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Files that a build needs.
const NEEDED: [&str; 7] =
    ["db.key", "db.pem", "release.key", "release.pub", "PK.auth", "KEK.auth", "db.auth"];

pub fn open(folder: &Path) -> Result<KeyFolder, KeyError> {
    let missing = NEEDED.iter().filter(|name| !folder.join(name).exists());
    let missing: Vec<String> = missing.map(|name| (*name).to_owned()).collect();
    if !missing.is_empty() {
        return Err(KeyError::Missing { folder: folder.into(), files: missing });
    }
    let purpose = if folder.join(DEVELOPMENT_MARK).exists() {
        KeyPurpose::Development
    } else {
        KeyPurpose::Production
    };
    let db = secure_boot_signer(folder, KeyName::Db)?;
    let variable = |name: KeyName| read(&folder.join(format!("{}.auth", name.variable())));
    let enrolment = Enrolment {
        pk: variable(KeyName::Pk)?.to_vec(),
        kek: variable(KeyName::Kek)?.to_vec(),
        db: variable(KeyName::Db)?.to_vec(),
    };
    if !enrolment.db.ends_with(&signature_list(db.certificate_der())) {
        let (key, certificate) = (folder.join("db.key"), folder.join("db.auth"));
        return Err(KeyError::Mismatch { key, certificate });
    }
    Ok(KeyFolder { purpose, db, release: ed25519_key(folder, "release")?, enrolment })
}

fn secure_boot_signer(folder: &Path, name: KeyName) -> Result<FileSigner, KeyError> {
    let key_file = folder.join(format!("{}.key", name.variable()));
    let certificate_file = folder.join(format!("{}.pem", name.variable()));
    let key = read_private(&key_file)?;
    let key = RsaPrivateKey::from_pkcs8_pem(&as_text(&key)).map_err(|_| KeyError::Malformed {
        file: key_file.clone(),
        expected: "an RSA private key in PKCS#8 PEM",
    })?;
    let malformed = || KeyError::Malformed {
        file: certificate_file.clone(),
        expected: "an X.509 certificate in PEM",
    };
    let text = read(&certificate_file)?;
    let certificate = Certificate::from_pem(text.as_slice()).map_err(|_| malformed())?;
    let certified =
        certificate.tbs_certificate.subject_public_key_info.to_der().map_err(|_| malformed())?;
    let own = key.to_public_key().to_public_key_der().map_err(|_| malformed())?;
    if certified != own.as_bytes() {
        return Err(KeyError::Mismatch { key: key_file, certificate: certificate_file });
    }
    let der = certificate.to_der().map_err(|_| malformed())?;
    Ok(FileSigner::new(key, der))
}

/// Reads `STEM.key` and checks that `STEM.pub` is its public half.
pub fn ed25519_key(folder: &Path, stem: &str) -> Result<SigningKey, KeyError> {
    let key_file = folder.join(format!("{stem}.key"));
    let public_file = folder.join(format!("{stem}.pub"));
    let text = read_private(&key_file)?;
    let key = SigningKey::from_pkcs8_pem(&as_text(&text)).map_err(|_| KeyError::Malformed {
        file: key_file.clone(),
        expected: "an Ed25519 private key in PKCS#8 PEM",
    })?;
    if ed25519_public(&public_file)? != key.verifying_key() {
        return Err(KeyError::Mismatch { key: key_file, certificate: public_file });
    }
    Ok(key)
}

/// The same, with the error for a folder that has none.
pub fn ed25519_key_in(folder: &Path, stem: &str) -> Result<SigningKey, KeyError> {
    if !folder.join(format!("{stem}.key")).exists() {
        let files = vec![format!("{stem}.key")];
        return Err(KeyError::Missing { folder: folder.into(), files });
    }
    ed25519_key(folder, stem)
}

/// Reads a public key.
pub fn ed25519_public(file: &Path) -> Result<VerifyingKey, KeyError> {
    let public = VerifyingKey::from_public_key_pem(&as_text(&read(file)?));
    public.map_err(|_| KeyError::Malformed {
        file: file.into(),
        expected: "an Ed25519 public key in PEM",
    })
}

/// Reads a private key, which must be its owner's alone.
pub(super) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let metadata = path.metadata().map_err(|error| KeyError::Io(path.into(), error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::Readable(path.into()));
    }
    read(path)
}

/// Reads a small file.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |error| KeyError::Io(path.into(), error);
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_KEY_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// What is not text is no PEM either; the parser says so.
pub(super) fn as_text(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(std::str::from_utf8(bytes).unwrap_or_default().to_owned())
}
