//! Making keys: the one place of the builder that uses real randomness.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, RsaKeySize, SerialNumber,
};
use rsa::pkcs8::DecodePrivateKey as _;
use zeroize::Zeroizing;

use super::{ChannelKey, DEVELOPMENT_MARK, KeyError, KeyName, KeyPurpose};
use crate::signing::secure_boot::enrolment;
use crate::signing::signer::FileSigner;

/// Writes all keys into `folder`; on failure removes those that it wrote.
pub fn create(folder: &Path, purpose: KeyPurpose) -> Result<(), KeyError> {
    write_all(folder, generate(purpose)?)
}

/// Adds the keys of a channel to a folder of keys; `release.key` is there already.
pub fn add_channel_keys(folder: &Path) -> Result<(), KeyError> {
    let new = ChannelKey::ALL.into_iter().filter(|key| *key != ChannelKey::Releases);
    write_all(folder, new.map(ed25519_pair).collect::<Result<Vec<_>, _>>()?.concat())
}

/// Writes new files into a folder, which is made when it is not there: all of them, or none.
pub(super) fn write_all(folder: &Path, files: Vec<NewFile>) -> Result<(), KeyError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| KeyError::Io(folder.into(), error))?;
    // All or nothing: no file may be there before the first is written.
    for (name, ..) in &files {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(KeyError::Exists(path));
        }
    }
    for (index, (name, mode, bytes)) in files.iter().enumerate() {
        let path = folder.join(name);
        if let Err(error) = write_new(&path, *mode, bytes) {
            let written = files[..index].iter().map(|(name, ..)| folder.join(name));
            for path in written {
                if let Err(error) = fs::remove_file(&path) {
                    return Err(KeyError::Io(path, error));
                }
            }
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists => KeyError::Exists(path),
                _ => KeyError::Io(path, error),
            });
        }
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| KeyError::Io(folder.into(), error))
}

/// Name, mode and content.
pub(super) type NewFile = (String, u32, Zeroizing<Vec<u8>>);

fn generate(purpose: KeyPurpose) -> Result<Vec<NewFile>, KeyError> {
    let mut files: Vec<NewFile> = Vec::new();
    let mut signers = Vec::new();
    for name in KeyName::ALL {
        let (pair, certificate) = secure_boot_pair(name, purpose)
            .map_err(|error| KeyError::Generate(error.to_string()))?;
        signers.push(signer(&pair, certificate.der())?);
        let name = name.variable();
        let private = Zeroizing::new(pair.serialize_pem());
        let public = certificate.pem();
        files.push((format!("{name}.key"), 0o600, Zeroizing::new(private.as_bytes().to_vec())));
        files.push((format!("{name}.pem"), 0o644, Zeroizing::new(public.into_bytes())));
    }
    if let [pk, kek, db] = signers.as_slice() {
        let variables = enrolment(pk, kek, db).map_err(Box::new)?;
        let bytes = [variables.pk, variables.kek, variables.db];
        for (name, bytes) in KeyName::ALL.into_iter().zip(bytes) {
            files.push((format!("{}.auth", name.variable()), 0o644, Zeroizing::new(bytes)));
        }
    }
    for key in ChannelKey::ALL {
        files.extend(ed25519_pair(key)?);
    }
    if purpose == KeyPurpose::Development {
        let text = "Throw-away keys: anyone may have them. No real channel takes what they sign.\n";
        files.push((DEVELOPMENT_MARK.into(), 0o644, Zeroizing::new(text.as_bytes().to_vec())));
    }
    Ok(files)
}

fn ed25519_pair(name: ChannelKey) -> Result<Vec<NewFile>, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|error| KeyError::Generate(error.to_string()))?;
    let key = SigningKey::from_bytes(&seed);
    let failed = |error: ed25519_dalek::pkcs8::Error| KeyError::Generate(error.to_string());
    let private = key.to_pkcs8_pem(LineEnding::LF).map_err(failed)?;
    let public = key
        .verifying_key()
        .to_public_key_pem(LineEnding::LF)
        .map_err(|error| KeyError::Generate(error.to_string()))?;
    let stem = name.stem();
    Ok(vec![
        (format!("{stem}.key"), 0o600, Zeroizing::new(private.as_bytes().to_vec())),
        (format!("{stem}.pub"), 0o644, Zeroizing::new(public.into_bytes())),
    ])
}

fn signer(pair: &KeyPair, certificate: &[u8]) -> Result<FileSigner, KeyError> {
    let private = Zeroizing::new(pair.serialize_der());
    let key = rsa::RsaPrivateKey::from_pkcs8_der(&private)
        .map_err(|error| KeyError::Generate(error.to_string()))?;
    Ok(FileSigner::new(key, certificate.to_vec()))
}

fn secure_boot_pair(
    name: KeyName,
    purpose: KeyPurpose,
) -> Result<(KeyPair, rcgen::Certificate), rcgen::Error> {
    let pair = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    let mut certificate = CertificateParams::new(Vec::new())?;
    let mark = match purpose {
        KeyPurpose::Production => "",
        KeyPurpose::Development => " (development)",
    };
    certificate.distinguished_name = DistinguishedName::new();
    let subject = format!("Slipway {}{mark}", name.variable());
    certificate.distinguished_name.push(DnType::CommonName, subject);
    // Firmware ignores the dates, and a node's clock may be wrong: both far away.
    certificate.not_before = rcgen::date_time_ymd(2020, 1, 1);
    certificate.not_after = rcgen::date_time_ymd(2069, 12, 31);
    certificate.is_ca = IsCa::ExplicitNoCa;
    certificate.serial_number = Some(SerialNumber::from(vec![1]));
    let certificate = certificate.self_signed(&pair)?;
    Ok((pair, certificate))
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
