//! `release.json`: what a release is, and the one thing that vouches for its parts.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::head::{self, Document, Unreadable};
use crate::{Architecture, Digest, ReleaseVersion, RootHash};

/// The schema that this crate writes.
pub const SCHEMA: u32 = 1;

/// Largest `release.json` that is read, in bytes.
pub const MAX_DOCUMENT_BYTES: u64 = 1 << 20;

/// A release: version, components, root hash and the digest of every file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseDocument {
    /// Format version, [`SCHEMA`].
    pub schema: u32,
    /// Name of the image, from its manifest.
    pub image: String,
    /// Version of the release.
    pub version: ReleaseVersion,
    /// What it runs on.
    pub architecture: Architecture,
    /// Signed with throw-away keys: nodes of a real channel refuse it.
    pub development: bool,
    /// What is inside, sorted by name.
    pub components: Vec<Component>,
    /// The root file system and its hash tree.
    pub root: RootDescription,
    /// Every other file of the release folder, sorted by name.
    pub files: Vec<FileDescription>,
}

/// One named piece of software and its upstream version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Component {
    /// Such as `kubelet` or `linux`.
    pub name: String,
    /// As its origin writes it.
    pub version: String,
}

/// The root file system image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDescription {
    /// dm-verity root hash over the image.
    pub root_hash: RootHash,
    /// dm-verity salt, 64 hexadecimal digits.
    pub salt: Digest,
    /// UUID in the superblock of the hash tree; a node that makes the tree again needs it.
    pub verity_uuid: Uuid,
    /// Image size in bytes, a multiple of 4096.
    pub bytes: u64,
    /// Size of the hash tree with its superblock, in bytes.
    pub verity_bytes: u64,
}

/// A file in the release folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileDescription {
    /// File name without a folder.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content.
    pub sha256: Digest,
}

/// Why a document was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDocument {
    /// It cannot be read.
    #[error("the release document cannot be read")]
    Read(#[from] Unreadable),
    /// A file name that would leave the release folder, or one given twice.
    #[error("the release document lists the file `{0}`, which is not a plain, unique file name")]
    FileName(String),
    /// A size that is not a whole number of blocks.
    #[error("the release document gives the root {0} bytes, not a multiple of 4096")]
    RootSize(u64),
}

impl Document for ReleaseDocument {
    const MAX_BYTES: u64 = MAX_DOCUMENT_BYTES;
}

impl ReleaseDocument {
    /// Parses and checks a document.
    ///
    /// # Errors
    /// [`InvalidDocument`] for what is no release document, or asks for a later reader.
    pub fn from_json(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let document: Self = head::read(bytes)?;
        document.check()?;
        Ok(document)
    }

    /// The text that is written: pretty-printed, with a final newline.
    ///
    /// # Errors
    /// Only when serialisation fails, which no value of this type causes.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The entry for `name`, if the release has such a file.
    pub fn file(&self, name: &str) -> Option<&FileDescription> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// [`InvalidDocument`].
    pub fn check(&self) -> Result<(), InvalidDocument> {
        if self.root.bytes == 0
            || !self.root.bytes.is_multiple_of(crate::release::layout::BLOCK_BYTES)
        {
            return Err(InvalidDocument::RootSize(self.root.bytes));
        }
        let mut seen = std::collections::BTreeSet::new();
        for file in &self.files {
            let plain = !file.name.is_empty()
                && !file.name.starts_with('.')
                && !file.name.contains(['/', '\\', '\0']);
            if !plain || !seen.insert(&file.name) {
                return Err(InvalidDocument::FileName(file.name.clone()));
            }
        }
        Ok(())
    }
}

/// A small, correct document for tests.
#[cfg(test)]
pub(crate) fn example() -> ReleaseDocument {
    ReleaseDocument {
        schema: SCHEMA,
        image: "node".into(),
        version: "1.0.0".parse().unwrap(),
        architecture: Architecture::X86_64,
        development: true,
        components: vec![Component { name: "linux".into(), version: "6.12".into() }],
        root: RootDescription {
            root_hash: [1; 32].into(),
            salt: [2; 32].into(),
            verity_uuid: Uuid::from_bytes([3; 16]),
            bytes: 8192,
            verity_bytes: 8192,
        },
        files: vec![FileDescription {
            name: "root.erofs".into(),
            bytes: 8192,
            sha256: Digest::of(b"x"),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_round_trip() {
        let text = example().to_json().unwrap();
        assert_eq!(ReleaseDocument::from_json(text.as_bytes()).unwrap(), example());
    }

    #[test]
    fn a_later_schema_alone_is_read() {
        let text = example().to_json().unwrap().replace(r#""schema": 1"#, r#""schema": 2"#);
        assert_eq!(ReleaseDocument::from_json(text.as_bytes()).unwrap().schema, 2);
    }

    #[test]
    fn a_file_outside_the_folder_is_refused() {
        for name in ["../root.erofs", "/etc/passwd", "", ".hidden"] {
            let mut hostile = example();
            hostile.files[0].name = name.into();
            let text = hostile.to_json().unwrap();
            assert!(ReleaseDocument::from_json(text.as_bytes()).is_err(), "{name}");
        }
    }
}
