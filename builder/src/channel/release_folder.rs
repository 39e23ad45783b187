//! A release folder before it is published: is it whole, and signed by whom we think?

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use contract::release::document::{InvalidDocument, MAX_DOCUMENT_BYTES};
use contract::release::offer::MAX_UKI_BYTES;
use contract::{FileDescription, ReleaseDocument, Slot};
use der::{DecodePem, Encode};
use ed25519_dalek::{Signature, VerifyingKey};

use super::metadata::PublicKey;
use super::strict;
use crate::assemble::{RELEASE_FILE, SIGNATURE_FILE};
use crate::fault::Fault;
use crate::formats::tree::digest_reader;
use crate::formats::uki;
use crate::signing::secure_boot::verify_pe;

/// Name of the root image in a release folder.
pub const ROOT_FILE: &str = "root.erofs";
/// Largest certificate or signature that is read, in bytes.
const MAX_SMALL_BYTES: u64 = 64 << 10;

/// A release folder whose files are those that its signed document describes.
#[derive(Debug, Clone)]
pub struct ReleaseFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Its document.
    pub document: ReleaseDocument,
}

/// Why a release folder must not be published.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseFolderError {
    /// Not readable.
    #[error("cannot read {} of a release: give a folder that `slipway build` made", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// A file is too large.
    #[error("{} is larger than such a file may be: build the release again", .0.display())]
    TooLarge(PathBuf),
    /// The document is wrong.
    #[error("{} is wrong: build the release again", .0.display())]
    Document(PathBuf, #[source] InvalidDocument),
    /// A later generation of this program built it, and something would get lost.
    #[error("{} says what this slipway does not know ({problem}): publish it with the slipway that built it, or a newer one", .file.display())]
    Later {
        /// The document.
        file: PathBuf,
        /// What is not known.
        problem: String,
    },
    /// Signed by nobody, or by another key.
    #[error("{} is not signed by release.key of the key folder: build it with these keys, or give the right folder with --keys", .file.display())]
    Signature {
        /// The document.
        file: PathBuf,
        /// Whether it says of itself that throw-away keys have signed it.
        claims_development: bool,
    },
    /// A file that is missing from the document, or other than it says.
    #[error("{} is not the file that release.json describes: do not use this release; build it again", .0.display())]
    File(PathBuf),
    /// A UKI that does not boot this root.
    #[error("{} {problem}: build the release again", .file.display())]
    Uki {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Nobody could say whether firmware starts the UKIs.
    #[error("the key folder {} lacks db.pem, without which it is not known whether nodes' firmware would start the UKIs: copy it from the key folder that the release was built with, or give that folder with --keys", .0.display())]
    NoCertificate(PathBuf),
    /// The certificate is none.
    #[error("{} is no X.509 certificate in PEM: restore it from your backup", .0.display())]
    Certificate(PathBuf),
}

impl ReleaseFolderError {
    /// Whose turn it is.
    pub fn fault(&self) -> Fault {
        Fault::Input
    }
}

/// Who must have signed a release.
#[derive(Debug, Clone)]
pub struct Signers {
    /// The release key, which signed `release.json`.
    pub release: PublicKey,
    /// The certificate that signed the UKIs, in DER. Firmware that does not trust the signer
    /// starts nothing, and a node may then end in the firmware's menu.
    pub db: Vec<u8>,
}

impl Signers {
    /// The signers of a key folder.
    ///
    /// # Errors
    /// [`ReleaseFolderError::NoCertificate`], [`ReleaseFolderError::Certificate`].
    pub fn of_folder(folder: &Path, release: PublicKey) -> Result<Self, ReleaseFolderError> {
        let path = folder.join("db.pem");
        if !path.exists() {
            return Err(ReleaseFolderError::NoCertificate(folder.into()));
        }
        let malformed = || ReleaseFolderError::Certificate(path.clone());
        let text = read_small(&path)?;
        let certificate = x509_cert::Certificate::from_pem(text).map_err(|_| malformed())?;
        Ok(Self { release, db: certificate.to_der().map_err(|_| malformed())? })
    }
}

impl ReleaseFolder {
    /// Reads the document, and checks all that is signed or digested.
    ///
    /// # Errors
    /// [`ReleaseFolderError`] for the first thing that is wrong.
    pub fn open(path: &Path, signers: &Signers) -> Result<Self, ReleaseFolderError> {
        let file = path.join(RELEASE_FILE);
        let bytes = read_bounded(&file, MAX_DOCUMENT_BYTES)?;
        check_signature(path, &bytes, &signers.release)?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        if let Some(unknown) = strict::read::<ReleaseDocument, _>(&mut json).1.first() {
            let problem = unknown.to_string();
            return Err(ReleaseFolderError::Later { file, problem });
        }
        let document = ReleaseDocument::from_json(&bytes)
            .map_err(|error| ReleaseFolderError::Document(file, error))?;
        let folder = Self { path: path.into(), document };
        folder.check_file(ROOT_FILE)?;
        for slot in Slot::ALL {
            folder.check_uki(slot, &signers.db)?;
        }
        Ok(folder)
    }

    /// Where the UKI of a slot is.
    pub fn uki(&self, slot: Slot) -> PathBuf {
        self.path.join(format!("slipway-{slot}.efi"))
    }

    /// The description of a file, which [`ReleaseFolder::open`] has found there.
    ///
    /// # Errors
    /// [`ReleaseFolderError::File`].
    pub fn file(&self, name: &str) -> Result<&FileDescription, ReleaseFolderError> {
        self.document.file(name).ok_or_else(|| ReleaseFolderError::File(self.path.join(name)))
    }

    fn check_file(&self, name: &str) -> Result<(), ReleaseFolderError> {
        let path = self.path.join(name);
        let failed = |error| ReleaseFolderError::Io(path.clone(), error);
        let expected = self.file(name)?;
        let mut open = File::open(&path).map_err(failed)?;
        let (sha256, bytes) = digest_reader(&mut open).map_err(failed)?;
        if (sha256, bytes) != (expected.sha256, expected.bytes) {
            return Err(ReleaseFolderError::File(path));
        }
        Ok(())
    }

    fn check_uki(&self, slot: Slot, certificate: &[u8]) -> Result<(), ReleaseFolderError> {
        self.check_file(&format!("slipway-{slot}.efi"))?;
        let file = self.uki(slot);
        let wrong = |problem: String| ReleaseFolderError::Uki { file: file.clone(), problem };
        let bytes = read_bounded(&file, MAX_UKI_BYTES)?;
        verify_pe(&bytes, certificate)
            .map_err(|error| wrong(format!("is not signed by db.pem ({error})")))?;
        let inspected = uki::inspect(&bytes).map_err(|error| wrong(error.to_string()))?;
        if uki::root_hash(&inspected.cmdline) != Some(self.document.root.root_hash) {
            return Err(wrong("names another root hash than release.json".to_owned()));
        }
        if !inspected.cmdline.contains(&slot.root_label()) {
            return Err(wrong(format!("does not boot from slot {slot}")));
        }
        Ok(())
    }
}

fn check_signature(
    folder: &Path,
    document: &[u8],
    public: &PublicKey,
) -> Result<(), ReleaseFolderError> {
    let refused = || ReleaseFolderError::Signature {
        file: folder.join(RELEASE_FILE),
        claims_development: ReleaseDocument::from_json(document)
            .is_ok_and(|document| document.development),
    };
    let text = read_small(&folder.join(SIGNATURE_FILE))?;
    let text = String::from_utf8(text).map_err(|_| refused())?;
    let signature = text.trim().parse::<Signature>().map_err(|_| refused())?;
    let public = VerifyingKey::from_bytes(public).map_err(|_| refused())?;
    public.verify_strict(document, &signature).map_err(|_| refused())
}

fn read_small(path: &Path) -> Result<Vec<u8>, ReleaseFolderError> {
    read_bounded(path, MAX_SMALL_BYTES)
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ReleaseFolderError> {
    let failed = |error| ReleaseFolderError::Io(path.into(), error);
    if fs::metadata(path).map_err(failed)?.len() > limit {
        return Err(ReleaseFolderError::TooLarge(path.into()));
    }
    fs::read(path).map_err(failed)
}
