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

use super::{DEVELOPMENT_MARK, FileSigner, KeyError, KeyFolder, KeyName, KeyPurpose};

/// Largest key or certificate that is read, in bytes.
const MAX_KEY_BYTES: u64 = 64 << 10;

pub fn open(folder: &Path) -> Result<KeyFolder, KeyError> {
    let pairs = KeyName::ALL.map(KeyName::variable).into_iter();
    let names = pairs.flat_map(|name| [format!("{name}.key"), format!("{name}.pem")]);
    let missing: Vec<String> = names
        .chain(["release.key".into(), "release.pub".into()])
        .filter(|name| !folder.join(name).exists())
        .collect();
    if !missing.is_empty() {
        return Err(KeyError::Missing { folder: folder.into(), files: missing });
    }
    let purpose = if folder.join(DEVELOPMENT_MARK).exists() {
        KeyPurpose::Development
    } else {
        KeyPurpose::Production
    };
    Ok(KeyFolder {
        purpose,
        pk: secure_boot_signer(folder, KeyName::Pk)?,
        kek: secure_boot_signer(folder, KeyName::Kek)?,
        db: secure_boot_signer(folder, KeyName::Db)?,
        release: release_key(folder)?,
    })
}

fn secure_boot_signer(folder: &Path, name: KeyName) -> Result<FileSigner, KeyError> {
    let key_file = folder.join(format!("{}.key", name.variable()));
    let certificate_file = folder.join(format!("{}.pem", name.variable()));
    let key = read_private(&key_file)?;
    let key = RsaPrivateKey::from_pkcs8_pem(&key).map_err(|_| KeyError::Malformed {
        file: key_file.clone(),
        expected: "an RSA private key in PKCS#8 PEM",
    })?;
    let malformed = || KeyError::Malformed {
        file: certificate_file.clone(),
        expected: "an X.509 certificate in PEM",
    };
    let text = read(&certificate_file)?;
    let certificate = Certificate::from_pem(text.as_bytes()).map_err(|_| malformed())?;
    let certified =
        certificate.tbs_certificate.subject_public_key_info.to_der().map_err(|_| malformed())?;
    let own = key.to_public_key().to_public_key_der().map_err(|_| malformed())?;
    if certified != own.as_bytes() {
        return Err(KeyError::Mismatch { key: key_file, certificate: certificate_file });
    }
    let der = certificate.to_der().map_err(|_| malformed())?;
    Ok(FileSigner::new(key, der))
}

fn release_key(folder: &Path) -> Result<SigningKey, KeyError> {
    let (key_file, public_file) = (folder.join("release.key"), folder.join("release.pub"));
    let text = read_private(&key_file)?;
    let key = SigningKey::from_pkcs8_pem(&text).map_err(|_| KeyError::Malformed {
        file: key_file.clone(),
        expected: "an Ed25519 private key in PKCS#8 PEM",
    })?;
    let public = VerifyingKey::from_public_key_pem(&read(&public_file)?);
    let public = public.map_err(|_| KeyError::Malformed {
        file: public_file.clone(),
        expected: "an Ed25519 public key in PEM",
    })?;
    if public != key.verifying_key() {
        return Err(KeyError::Mismatch { key: key_file, certificate: public_file });
    }
    Ok(key)
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let metadata = path.metadata().map_err(|error| KeyError::Io(path.into(), error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::Readable(path.into()));
    }
    read(path)
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let failed = |error| KeyError::Io(path.into(), error);
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_KEY_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}
