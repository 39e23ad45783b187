//! The variables that enrol our keys: `PK`, `KEK` and `db` as authenticated variables.
//!
//! In: three keys. Out: files that systemd-boot enrols from `loader/keys/auto`
//! (UEFI 2.10, section 8.2.2, `EFI_VARIABLE_AUTHENTICATION_2`; signature lists: 32.4.1).

use cms::signed_data::EncapsulatedContentInfo;
use der::Encode;
use der::asn1::ObjectIdentifier;
use sha2_010::{Digest as _, Sha256};
use uguid::{Guid, guid};

use super::SecureBootError;
use super::cms_builder::signed_data;
use crate::signing::signer::Signer;

const PKCS7_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const GLOBAL_VARIABLE: Guid = guid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
const IMAGE_SECURITY_DATABASE: Guid = guid!("d719b2cb-3d3a-4596-a3bc-dad00e67656f");
const CERTIFICATE_TYPE_PKCS7: Guid = guid!("4aafd29d-68df-49ee-8aa9-347d375665a7");
const CERTIFICATE_X509: Guid = guid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");
/// Owner of the entries that this program writes.
pub const OWNER: Guid = guid!("6ba8ae4f-5b3a-4a53-8d0e-51c9a4d0f3a1");
/// Non-volatile, boot and run-time access, time-based authenticated write access.
const ATTRIBUTES: u32 = 0x27;
const WIN_CERTIFICATE_REVISION: u16 = 0x0200;
const WIN_CERTIFICATE_EFI_GUID: u16 = 0x0EF1;

/// The three variables, ready to be enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// `PK.auth`, signed by PK.
    pub pk: Vec<u8>,
    /// `KEK.auth`, signed by PK.
    pub kek: Vec<u8>,
    /// `db.auth`, signed by KEK.
    pub db: Vec<u8>,
}

/// Signs the three variables. It takes all three keys, so it is done once, when they are
/// made: afterwards PK and KEK can be kept where no build reaches them.
///
/// # Errors
/// [`SecureBootError`] when a key cannot sign.
pub fn enrolment(
    pk: &dyn Signer,
    kek: &dyn Signer,
    db: &dyn Signer,
) -> Result<Enrolment, SecureBootError> {
    let list = |signer: &dyn Signer| signature_list(signer.certificate_der());
    Ok(Enrolment {
        pk: authenticated("PK", &GLOBAL_VARIABLE, &list(pk), pk)?,
        kek: authenticated("KEK", &GLOBAL_VARIABLE, &list(kek), pk)?,
        db: authenticated("db", &IMAGE_SECURITY_DATABASE, &list(db), kek)?,
    })
}

/// `EFI_SIGNATURE_LIST` with one certificate.
pub fn signature_list(certificate_der: &[u8]) -> Vec<u8> {
    let entry_bytes = 16 + certificate_der.len() as u32;
    let mut list = Vec::new();
    list.extend(CERTIFICATE_X509.to_bytes());
    list.extend((28 + entry_bytes).to_le_bytes());
    list.extend(0_u32.to_le_bytes());
    list.extend(entry_bytes.to_le_bytes());
    list.extend(OWNER.to_bytes());
    list.extend(certificate_der);
    list
}

fn authenticated(
    name: &str,
    vendor: &Guid,
    list: &[u8],
    signer: &dyn Signer,
) -> Result<Vec<u8>, SecureBootError> {
    let time = time();
    let mut signed: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    signed.extend(vendor.to_bytes());
    signed.extend(ATTRIBUTES.to_le_bytes());
    signed.extend(time);
    signed.extend(list);
    let content = EncapsulatedContentInfo { econtent_type: PKCS7_DATA, econtent: None };
    let digest = Sha256::digest(&signed);
    let data = signed_data(signer, content, Some(digest.as_slice()))?;
    let data = data.to_der().map_err(|error| SecureBootError::Encode(error.to_string()))?;
    let mut variable = time.to_vec();
    variable.extend((24 + data.len() as u32).to_le_bytes());
    variable.extend(WIN_CERTIFICATE_REVISION.to_le_bytes());
    variable.extend(WIN_CERTIFICATE_EFI_GUID.to_le_bytes());
    variable.extend(CERTIFICATE_TYPE_PKCS7.to_bytes());
    variable.extend(data);
    variable.extend(list);
    Ok(variable)
}

/// `EFI_TIME` of 1 January 2024: firmware wants one later than the variable's last, and a
/// machine in setup mode has none.
fn time() -> [u8; 16] {
    let mut time = [0; 16];
    time[..2].copy_from_slice(&2024_u16.to_le_bytes());
    (time[2], time[3]) = (1, 1);
    time
}
