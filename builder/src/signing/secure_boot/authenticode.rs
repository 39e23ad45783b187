//! Authenticode: the signature that UEFI firmware checks on a program.
//!
//! In: an unsigned PE file. Out: the same with a certificate table (Microsoft: Windows
//! Authenticode Portable Executable Signature Format; UEFI 2.10, section 32.2.4).

use authenticode::{
    AttributeCertificateIterator, AuthenticodeSignature, DigestInfo, PeTrait,
    SpcAttributeTypeAndOptionalValue, SpcIndirectDataContent, authenticode_digest,
};
use cms::content_info::ContentInfo;
use cms::signed_data::EncapsulatedContentInfo;
use contract::Digest;
use der::asn1::{ObjectIdentifier, OctetString};
use der::{Any, Decode, Encode};
use object::read::pe::PeFile64;
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use sha2_010::{Digest as _, Sha256};

use super::SecureBootError;
use super::cms_builder::{certificate, public_key, sha256, signed_data};
use crate::formats::uki::{InvalidPe, PeLayout};
use crate::signing::signer::Signer;

const SPC_INDIRECT_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
const SPC_PE_IMAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.15");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// `SpcPeImageData` as every signer writes it: no flags, an empty file link.
const PE_IMAGE_DATA: [u8; 11] = [0x30, 0x09, 0x03, 0x01, 0x00, 0xa0, 0x04, 0xa2, 0x02, 0x80, 0x00];
/// `WIN_CERTIFICATE` revision and type for PKCS#7.
const REVISION: u16 = 0x0200;
const TYPE_PKCS7: u16 = 0x0002;

/// Who signed an EFI program, as the signature says; not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerInfo {
    /// Subject of the certificate.
    pub subject: String,
    /// SHA-256 of the certificate.
    pub sha256: Digest,
}

/// Signs an EFI program.
///
/// # Errors
/// [`SecureBootError::AlreadySigned`] rather than a second signature.
pub fn sign_pe(program: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, SecureBootError> {
    let layout = PeLayout::parse(program)?;
    if !layout.certificates(program)?.is_empty() {
        return Err(SecureBootError::AlreadySigned);
    }
    let mut file = Vec::with_capacity(program.len() + 4096);
    file.extend(program);
    file.resize(file.len().next_multiple_of(8), 0);
    let pkcs7 = pkcs7(&digest(&file)?, signer)?;
    let start = file.len();
    let table_bytes = (8 + pkcs7.len()).next_multiple_of(8);
    file.extend((table_bytes as u32).to_le_bytes());
    file.extend(REVISION.to_le_bytes());
    file.extend(TYPE_PKCS7.to_le_bytes());
    file.extend(&pkcs7);
    file.resize(start + table_bytes, 0);
    layout.set_certificates(&mut file, start..start + table_bytes);
    crate::formats::uki::write_checksum(&mut file)?;
    Ok(file)
}

/// The Authenticode digest: everything but checksum and certificate table.
fn digest(file: &[u8]) -> Result<Vec<u8>, SecureBootError> {
    let parsed = PeFile64::parse(file)
        .map_err(|_| SecureBootError::Pe(InvalidPe("its headers are damaged")))?;
    let mut hasher = Sha256::new();
    authenticode_digest(&parsed as &dyn PeTrait, &mut hasher)
        .map_err(|_| SecureBootError::Pe(InvalidPe("its sections are damaged")))?;
    Ok(hasher.finalize().to_vec())
}

fn pkcs7(digest: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, SecureBootError> {
    let encode = |error: der::Error| SecureBootError::Encode(error.to_string());
    let indirect = SpcIndirectDataContent {
        data: SpcAttributeTypeAndOptionalValue {
            value_type: SPC_PE_IMAGE,
            value: Any::from_der(&PE_IMAGE_DATA).map_err(encode)?,
        },
        message_digest: DigestInfo {
            digest_algorithm: sha256(),
            digest: OctetString::new(digest).map_err(encode)?,
        },
    };
    let content = EncapsulatedContentInfo {
        econtent_type: SPC_INDIRECT_DATA,
        econtent: Some(Any::encode_from(&indirect).map_err(encode)?),
    };
    let signed = signed_data(signer, content, None)?;
    let info = ContentInfo {
        content_type: SIGNED_DATA,
        content: Any::encode_from(&signed).map_err(encode)?,
    };
    info.to_der().map_err(encode)
}

fn signatures(program: &[u8]) -> Result<Vec<AuthenticodeSignature>, SecureBootError> {
    PeLayout::parse(program)?.certificates(program)?;
    let parsed = PeFile64::parse(program)
        .map_err(|_| SecureBootError::Pe(InvalidPe("its headers are damaged")))?;
    let table = AttributeCertificateIterator::new(&parsed)
        .map_err(|_| SecureBootError::Damaged)?
        .ok_or(SecureBootError::Unsigned)?;
    let read = table.map(|entry| {
        let entry = entry.map_err(|_| SecureBootError::Damaged)?;
        entry.get_authenticode_signature().map_err(|_| SecureBootError::Damaged)
    });
    let all: Vec<_> = read.collect::<Result<_, _>>()?;
    if all.is_empty() { Err(SecureBootError::Unsigned) } else { Ok(all) }
}

/// Who claims to have signed; empty for an unsigned program.
///
/// # Errors
/// [`SecureBootError`] for what is no EFI program, or has a damaged table.
pub fn signers(program: &[u8]) -> Result<Vec<SignerInfo>, SecureBootError> {
    let found = match signatures(program) {
        Err(SecureBootError::Unsigned) => return Ok(Vec::new()),
        found => found?,
    };
    let mut infos = Vec::new();
    for certificate in found.iter().flat_map(AuthenticodeSignature::certificates) {
        let der = certificate.to_der().map_err(|_| SecureBootError::Damaged)?;
        infos.push(SignerInfo {
            subject: certificate.tbs_certificate.subject.to_string(),
            sha256: Digest::of(&der),
        });
    }
    Ok(infos)
}

/// Checks that `certificate_der`'s key signed exactly these bytes.
///
/// # Errors
/// [`SecureBootError::Unsigned`], [`SecureBootError::NotSignedBy`].
pub fn verify_pe(program: &[u8], certificate_der: &[u8]) -> Result<(), SecureBootError> {
    let key = VerifyingKey::<Sha256>::new(public_key(&certificate(certificate_der)?)?);
    let digest = digest(program)?;
    for found in signatures(program)? {
        if found.digest() == digest && signed_by(&found, &key)? {
            return Ok(());
        }
    }
    Err(SecureBootError::NotSignedBy)
}

/// Follows the chain: the key signs the attributes, the attributes hold the digest of the
/// content, the content holds the digest of the program.
fn signed_by(
    found: &AuthenticodeSignature,
    key: &VerifyingKey<Sha256>,
) -> Result<bool, SecureBootError> {
    const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
    let damaged = |_| SecureBootError::Damaged;
    let info = found.signer_info();
    let Some(attributes) = &info.signed_attrs else { return Ok(false) };
    let content = found.encapsulated_content().ok_or(SecureBootError::Damaged)?;
    let expected = OctetString::new(Sha256::digest(content).to_vec()).map_err(damaged)?;
    let names_content = attributes.iter().any(|attribute| {
        attribute.oid == MESSAGE_DIGEST
            && attribute.values.iter().any(|value| value.value() == expected.as_bytes())
    });
    let bytes = attributes.to_der().map_err(damaged)?;
    let signature =
        Signature::try_from(info.signature.as_bytes()).map_err(|_| SecureBootError::Damaged)?;
    Ok(names_content && key.verify(&bytes, &signature).is_ok())
}
