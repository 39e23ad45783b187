//! Who signs: traits that a KMS or a token can stand behind, and the file keys that do.

use ed25519_dalek::Signer as _;
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::signature::{SignatureEncoding, Signer as _};
use sha2_010::Sha256;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[error("the signing key refused: {0}")]
pub struct SignError(pub String);

/// Signs boot files: RSA, PKCS#1 v1.5, SHA-256.
pub trait Signer {
    /// The X.509 certificate that vouches for the key, in DER.
    fn certificate_der(&self) -> &[u8];

    /// Signs the SHA-256 digest of `message`.
    ///
    /// # Errors
    /// [`SignError`] when the key's holder refuses.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Signs release metadata: Ed25519.
pub trait ReleaseSigner {
    /// The public key, 32 bytes.
    fn public_key(&self) -> [u8; 32];

    /// Signs `message`.
    ///
    /// # Errors
    /// [`SignError`] when the key's holder refuses.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// A signer whose key was read from a file.
pub struct FileSigner {
    key: SigningKey<Sha256>,
    certificate: Vec<u8>,
}

impl FileSigner {
    /// Takes a key and the certificate that belongs to it, in DER.
    pub(super) fn new(key: RsaPrivateKey, certificate: Vec<u8>) -> Self {
        Self { key: SigningKey::new(key), certificate }
    }
}

impl Signer for FileSigner {
    fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = self.key.try_sign(message);
        Ok(signature.map_err(|error| SignError(error.to_string()))?.to_vec())
    }
}

impl ReleaseSigner for ed25519_dalek::SigningKey {
    fn public_key(&self) -> [u8; 32] {
        self.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        let signature = self.try_sign(message);
        Ok(signature.map_err(|error| SignError(error.to_string()))?.to_bytes())
    }
}
