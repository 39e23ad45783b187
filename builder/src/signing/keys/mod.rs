//! Keys: three pairs for Secure Boot and eight for releases and channels, in one folder.
//!
//! `PK`, `KEK` and `db` each have `NAME.key` (PKCS#8 PEM, RSA 2048), `NAME.pem` (X.509,
//! self-signed) and `NAME.auth` (the signed EFI variable); `release` and the other keys of a
//! channel ([`ChannelKey`]) have `NAME.key` and `NAME.pub` (Ed25519; PKCS#8 and SPKI PEM). A
//! file `DEVELOPMENT` marks throw-away keys. A build needs neither `PK.key` nor `KEK.key`, nor
//! any key of a channel but `release.key`: they belong where no build reaches them.
//!
//! **Invariant:** a private key is readable by its owner alone from its first byte on, is
//! never overwritten, and never appears in an error or a log.

pub mod access;
mod channel;
mod create;
mod open;

use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey as ReleaseKey;

use crate::signing::secure_boot::{Enrolment, SecureBootError};
use crate::signing::signer::{FileSigner, ReleaseSigner};

pub use channel::{ChannelKey, ChannelKeys, public_key};

/// File that marks a folder of throw-away keys.
pub const DEVELOPMENT_MARK: &str = "DEVELOPMENT";

/// The name of a Secure Boot key, which is that of its EFI variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyName {
    /// Platform key: whoever has it owns the machine's Secure Boot settings.
    Pk,
    /// Key exchange key: may change `db`.
    Kek,
    /// Signature database: what it signs, boots.
    Db,
}

impl KeyName {
    /// All of them.
    const ALL: [KeyName; 3] = [KeyName::Pk, KeyName::Kek, KeyName::Db];

    /// The EFI variable's name, which is the file's name too.
    fn variable(self) -> &'static str {
        match self {
            KeyName::Pk => "PK",
            KeyName::Kek => "KEK",
            KeyName::Db => "db",
        }
    }
}

/// What keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPurpose {
    /// Real releases.
    Production,
    /// Trying things out; marked in every image.
    Development,
}

/// What a build needs of a folder of keys, checked.
pub struct KeyFolder {
    purpose: KeyPurpose,
    db: FileSigner,
    release: ReleaseKey,
    enrolment: Enrolment,
}

impl std::fmt::Debug for KeyFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No key material in a log.
        f.debug_struct("KeyFolder").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// Why keys were not made or not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key file is already there.
    #[error("{} exists: keys are never overwritten; give another folder", .0.display())]
    Exists(PathBuf),
    /// There is no such folder.
    #[error("there is no folder {}: give yours with {option}", .folder.display())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
        /// The option that names it.
        option: &'static str,
    },
    /// Files are missing.
    #[error("the key folder {} lacks {}: make a folder of keys with `slipway keys new DIR`, or restore it from your backup", .folder.display(), .files.join(", "))]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// Their names.
        files: Vec<String>,
    },
    /// Keys of a channel are elsewhere.
    #[error("the key folder {} lacks {}: give the folder that holds them with --keys", .folder.display(), .files.join(", "))]
    NoChannelKeys {
        /// The folder.
        folder: PathBuf,
        /// Their names.
        files: Vec<String>,
    },
    /// The folder was made before there were keys of channels.
    #[error("the key folder {folder} lacks {}: give the folder that holds them with --keys, or add the keys of a channel with `slipway keys new {folder} --add-channel-keys`", .files.join(", "), folder = .folder.display())]
    BeforeChannels {
        /// The folder.
        folder: PathBuf,
        /// Their names.
        files: Vec<String>,
    },
    /// There is no authority.
    #[error("the folder {} lacks {}: make an authority with `slipway keys access new DIR`", .folder.display(), .files.join(", "))]
    NoAuthority {
        /// The folder.
        folder: PathBuf,
        /// Their names.
        files: Vec<String>,
    },
    /// Others than the owner may read a private key.
    #[error("others may read the private key {}: run `chmod 600` on it, and make new keys if they could have", .0.display())]
    Readable(PathBuf),
    /// A file is not what its name says.
    #[error("{} is not {expected}: restore it from your backup", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// Key and certificate do not belong together.
    #[error("the key {} does not match its certificate {}: restore both from the same backup", .key.display(), .certificate.display())]
    Mismatch {
        /// The private key.
        key: PathBuf,
        /// The certificate, or public key.
        certificate: PathBuf,
    },
    /// Key generation failed.
    #[error("cannot generate a key: {0}")]
    Generate(String),
    /// The variables cannot be signed.
    #[error("cannot sign the enrolment of the keys")]
    Enrolment(#[from] Box<SecureBootError>),
    /// The folder cannot be read or written.
    #[error("cannot use the key folder file {}: check path and permissions", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

impl KeyFolder {
    /// Makes all keys in a new or empty folder.
    ///
    /// # Errors
    /// [`KeyError::Exists`] rather than overwriting anything.
    pub fn create(folder: &Path, purpose: KeyPurpose) -> Result<Self, KeyError> {
        create::create(folder, purpose)?;
        Self::open(folder)
    }

    /// Adds the keys of a channel to a folder that was made without them.
    ///
    /// # Errors
    /// [`KeyError::Exists`] when one of them is there, [`KeyError::Missing`] when the release
    /// key, which belongs to them, is not.
    pub fn add_channel_keys(folder: &Path) -> Result<(), KeyError> {
        open::ed25519_key_in(folder, "release")?;
        create::add_channel_keys(folder)
    }

    /// Reads and checks what a build needs of a folder.
    ///
    /// # Errors
    /// [`KeyError`] for anything missing, malformed, mismatched or readable by others.
    pub fn open(folder: &Path) -> Result<Self, KeyError> {
        open::open(folder)
    }

    /// Opens throw-away keys, making them at first use.
    ///
    /// # Errors
    /// As [`KeyFolder::open`] and [`KeyFolder::create`].
    pub fn open_or_create_development(folder: &Path) -> Result<Self, KeyError> {
        if folder.join("db.key").exists() {
            return Self::open(folder);
        }
        match Self::create(folder, KeyPurpose::Development) {
            // Another process was quicker.
            Err(KeyError::Exists(_)) => Self::open(folder),
            result => result,
        }
    }

    /// True for throw-away keys.
    pub fn is_development(&self) -> bool {
        self.purpose == KeyPurpose::Development
    }

    /// The signer of boot files: db.
    pub fn signer(&self) -> &FileSigner {
        &self.db
    }

    /// The signed variables that enrol PK, KEK and db.
    pub fn enrolment(&self) -> &Enrolment {
        &self.enrolment
    }

    /// The signer of release metadata.
    pub fn release_signer(&self) -> &dyn ReleaseSigner {
        &self.release
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn made() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        KeyFolder::create(&keys, KeyPurpose::Development).unwrap();
        (folder, keys)
    }

    #[test]
    fn private_keys_are_the_owners_alone_and_never_overwritten() {
        let (_guard, keys) = made();
        let channel = ChannelKey::ALL.map(|key| format!("{}.key", key.stem()));
        for name in ["PK.key", "KEK.key", "db.key"].map(str::to_owned).iter().chain(&channel) {
            let mode = fs::metadata(keys.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let before = fs::read(keys.join("db.key")).unwrap();
        let again = KeyFolder::create(&keys, KeyPurpose::Production);
        assert!(matches!(again, Err(KeyError::Exists(_))));
        assert_eq!(fs::read(keys.join("db.key")).unwrap(), before);
        assert!(KeyFolder::open(&keys).unwrap().is_development());
    }

    #[test]
    fn a_readable_private_key_is_refused() {
        let (_guard, keys) = made();
        fs::set_permissions(keys.join("db.key"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(KeyFolder::open(&keys), Err(KeyError::Readable(_))));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (_guard, keys) = made();
        fs::copy(keys.join("PK.pem"), keys.join("db.pem")).unwrap();
        let error = KeyFolder::open(&keys).unwrap_err();
        assert!(matches!(error, KeyError::Mismatch { .. }), "{error}");
    }

    #[test]
    fn a_build_needs_neither_pk_nor_kek() {
        let (_guard, keys) = made();
        for name in ["PK.key", "KEK.key", "root-1.key", "targets.key", "timestamp.key"] {
            fs::remove_file(keys.join(name)).unwrap();
        }
        KeyFolder::open(&keys).unwrap();
    }

    #[test]
    fn a_channel_needs_only_the_keys_that_sign_and_two_of_three_roots() {
        let (_guard, keys) = made();
        fs::remove_file(keys.join("root-2.key")).unwrap();
        fs::remove_file(keys.join("targets.key")).unwrap();
        assert_eq!(ChannelKeys::open_roots(&keys).unwrap().signers().count(), 2);
        ChannelKeys::open(&keys, &[ChannelKey::Snapshot]).unwrap();
        fs::remove_file(keys.join("root-3.key")).unwrap();
        let error = ChannelKeys::open_roots(&keys).unwrap_err().to_string();
        assert!(error.contains("lacks root-2.key, root-3.key"), "{error}");
        let error = ChannelKeys::open(&keys, &[ChannelKey::Targets]).unwrap_err().to_string();
        assert!(error.contains("targets.key") && error.contains("--keys"), "{error}");
    }

    #[test]
    fn a_folder_or_a_public_key_that_is_missing_is_named() {
        let (_guard, keys) = made();
        fs::remove_file(keys.join("targets.pub")).unwrap();
        let error = ChannelKeys::open(&keys, &[ChannelKey::Targets]).unwrap_err().to_string();
        assert!(error.contains("lacks targets.pub"), "{error}");
        let typo = keys.with_extension("typo");
        for error in [
            ChannelKeys::open(&typo, &[ChannelKey::Targets]).unwrap_err(),
            ChannelKeys::open_roots(&typo).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("there is no folder") && text.contains("--keys"), "{text}");
        }
    }

    #[test]
    fn a_folder_from_before_channels_keeps_its_keys_and_gets_the_others() {
        let (_guard, keys) = made();
        for key in ChannelKey::ALL.into_iter().filter(|key| *key != ChannelKey::Releases) {
            fs::remove_file(keys.join(format!("{}.key", key.stem()))).unwrap();
            fs::remove_file(keys.join(format!("{}.pub", key.stem()))).unwrap();
        }
        let release = fs::read(keys.join("release.key")).unwrap();
        KeyFolder::add_channel_keys(&keys).unwrap();
        assert_eq!(fs::read(keys.join("release.key")).unwrap(), release);
        assert_eq!(ChannelKeys::open(&keys, &ChannelKey::ALL).unwrap().signers().count(), 8);
        assert!(matches!(KeyFolder::add_channel_keys(&keys), Err(KeyError::Exists(_))));
        let empty = tempfile::tempdir().unwrap();
        let refused = KeyFolder::add_channel_keys(empty.path());
        assert!(matches!(refused, Err(KeyError::Missing { .. })), "{refused:?}");
    }

    #[test]
    fn an_enrolment_of_another_db_is_refused() {
        let ((_one, keys), (_two, others)) = (made(), made());
        fs::copy(others.join("db.auth"), keys.join("db.auth")).unwrap();
        assert!(matches!(KeyFolder::open(&keys), Err(KeyError::Mismatch { .. })));
    }

    #[test]
    fn missing_files_are_all_listed() {
        let (_guard, keys) = made();
        fs::remove_file(keys.join("PK.auth")).unwrap();
        fs::remove_file(keys.join("release.pub")).unwrap();
        let error = KeyFolder::open(&keys).unwrap_err().to_string();
        assert!(error.contains("release.pub, PK.auth"), "{error}");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let (_guard, keys) = made();
        let folder = KeyFolder::open(&keys).unwrap();
        assert_eq!(format!("{folder:?}"), "KeyFolder { purpose: Development, .. }");
        fs::write(keys.join("db.key"), "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n").unwrap();
        assert!(!KeyFolder::open(&keys).unwrap_err().to_string().contains("c2Vj"));
    }
}
