//! PKCS#7 signed data (RFC 5652) over what Authenticode and EFI variables want.

use cms::builder::SignerInfoBuilder;
use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::CmsVersion;
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfos,
};
use der::asn1::SetOfVec;
use der::{Any, Decode};
use rsa::RsaPublicKey;
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::pkcs8::DecodePublicKey;
use sha2_010::Sha256;
use spki::{AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier};
use x509_cert::Certificate;
use x509_cert::builder::Builder;

use super::SecureBootError;
use crate::signing::signer::Signer;

/// SHA-256 as an algorithm identifier.
pub fn sha256() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid: const_oid::db::rfc5912::ID_SHA_256,
        parameters: Some(Any::null()),
    }
}

/// Signed data with one signer; `external` is the digest of content that is not inside.
pub fn signed_data(
    signer: &dyn Signer,
    content: EncapsulatedContentInfo,
    external: Option<&[u8]>,
) -> Result<SignedData, SecureBootError> {
    let encode = |error: &dyn std::fmt::Display| SecureBootError::Encode(error.to_string());
    let adapter = Adapter::new(signer)?;
    let body = &adapter.certificate.tbs_certificate;
    let identifier = SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
        issuer: body.issuer.clone(),
        serial_number: body.serial_number.clone(),
    });
    let info = SignerInfoBuilder::new(&adapter, identifier, sha256(), &content, external)
        .map_err(|error| encode(&format!("{error:?}")))?
        .build::<Signature>()
        .map_err(|error| encode(&format!("{error:?}")))?;
    let certificates = vec![CertificateChoices::Certificate(adapter.certificate.clone())];
    Ok(SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::try_from(vec![sha256()]).map_err(|error| encode(&error))?,
        encap_content_info: content,
        certificates: Some(CertificateSet::try_from(certificates).map_err(|e| encode(&e))?),
        crls: None,
        signer_infos: SignerInfos::try_from(vec![info]).map_err(|error| encode(&error))?,
    })
}

/// Shows a [`Signer`] to the `cms` crate as one of its own kind.
struct Adapter<'a> {
    signer: &'a dyn Signer,
    certificate: Certificate,
    public: VerifyingKey<Sha256>,
}

impl<'a> Adapter<'a> {
    fn new(signer: &'a dyn Signer) -> Result<Self, SecureBootError> {
        let certificate = certificate(signer.certificate_der())?;
        let public = public_key(&certificate)?;
        Ok(Self { signer, certificate, public: VerifyingKey::new(public) })
    }
}

impl signature::Signer<Signature> for Adapter<'_> {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, signature::Error> {
        let bytes = self.signer.sign(message).map_err(signature::Error::from_source)?;
        Signature::try_from(bytes.as_slice())
    }
}

impl signature::Keypair for Adapter<'_> {
    type VerifyingKey = VerifyingKey<Sha256>;
    fn verifying_key(&self) -> Self::VerifyingKey {
        self.public.clone()
    }
}

impl DynSignatureAlgorithmIdentifier for Adapter<'_> {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        Ok(AlgorithmIdentifierOwned {
            oid: const_oid::db::rfc5912::SHA_256_WITH_RSA_ENCRYPTION,
            parameters: Some(Any::null()),
        })
    }
}

/// Reads a certificate.
pub fn certificate(der: &[u8]) -> Result<Certificate, SecureBootError> {
    Certificate::from_der(der).map_err(|error| SecureBootError::Certificate(error.to_string()))
}

/// The RSA key that a certificate vouches for.
pub fn public_key(certificate: &Certificate) -> Result<RsaPublicKey, SecureBootError> {
    let wrong = |error: String| SecureBootError::Certificate(error);
    let key = &certificate.tbs_certificate.subject_public_key_info;
    let der = der::Encode::to_der(key).map_err(|error| wrong(error.to_string()))?;
    RsaPublicKey::from_public_key_der(&der).map_err(|error| wrong(error.to_string()))
}
