//! Secure Boot: Authenticode signatures on EFI programs, and the variables that enrol keys.
//!
//! Signatures are deterministic: no time is signed, and RSA PKCS#1 v1.5 has no randomness.

mod authenticode;
mod cms_builder;
mod enrolment;

pub use authenticode::{SignerInfo, sign_pe, signers, verify_pe};
pub use enrolment::{Enrolment, enrolment, signature_list};

use crate::formats::uki::InvalidPe;
use crate::signing::signer::SignError;

/// Why something was not signed, or its signature not believed.
#[derive(Debug, thiserror::Error)]
pub enum SecureBootError {
    /// Not an EFI program.
    #[error(transparent)]
    Pe(#[from] InvalidPe),
    /// A signature is already there.
    #[error(
        "the EFI program is signed already: take an unsigned one, such as that of systemd-boot-efi"
    )]
    AlreadySigned,
    /// The key's holder refused.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A certificate that cannot be read.
    #[error("the signer's certificate cannot be used ({0}): make keys with `slipway keys new`")]
    Certificate(String),
    /// A structure that cannot be encoded.
    #[error("cannot encode a signature: {0}")]
    Encode(String),
    /// No signature.
    #[error("the EFI program is not signed: sign it, or take the one that the build made")]
    Unsigned,
    /// A signature that cannot be read.
    #[error("the EFI program's signature is damaged: take the file that the build made")]
    Damaged,
    /// A right signature by somebody else, or over other bytes.
    #[error(
        "the EFI program is not signed by the given certificate, or was changed after: do not use it"
    )]
    NotSignedBy,
}
