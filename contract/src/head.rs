//! The head of a signed document, and how all of them are read.
//!
//! In: bytes that somebody signed. Out: the document, or what its reader lacks. The head is read
//! first: `schema`, `minimum_updater` and `requires`, which are the same in every document (a node
//! group, which is a resource of Kubernetes too, has the last two in its `spec`).
//!
//! **Invariant:** a field that this generation does not know is passed over. A feature that it does
//! not know is not, when the document requires it; nor is a value that it does not understand in a
//! field that it knows.

use std::fmt;

use semver::Version;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

/// A channel names releases that may not be skipped: [`crate::ChannelDocument::floors`].
pub const FLOORS: &str = "floors";
/// A channel names releases that must not be taken: [`crate::ChannelDocument::blocked`].
pub const BLOCKED: &str = "blocked";
/// Every feature that this generation knows. A document that depends on one names it in `requires`,
/// so that who does not know it stays where it is, instead of doing something else. What may be
/// passed over without harm needs no name.
pub const FEATURES: [&str; 2] = [FLOORS, BLOCKED];

/// Longest name of a feature, in bytes.
const MAX_NAME: usize = 63;
/// How many features are named of those that a reader lacks.
const MAX_NAMED: usize = 5;
/// How much is told of a value that is not understood, in characters.
const MAX_TOLD: usize = 200;

/// Name of a feature, known or not: lower-case letters, digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Feature(String);

/// A text that names no feature.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` names no feature: write up to 63 of a-z, 0-9 and `-`")]
pub struct InvalidFeature(String);

impl Feature {
    /// True when this generation knows it.
    pub fn is_known(&self) -> bool {
        FEATURES.contains(&self.0.as_str())
    }

    /// One of [`FEATURES`].
    pub(crate) fn known(name: &'static str) -> Self {
        Self(name.to_owned())
    }
}

impl TryFrom<String> for Feature {
    type Error = InvalidFeature;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(allowed) {
            return Err(InvalidFeature(text.chars().take(MAX_NAME).collect()));
        }
        Ok(Self(text))
    }
}

impl From<Feature> for String {
    fn from(feature: Feature) -> Self {
        feature.0
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is read of a document before the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Head {
    /// Format version. A newer one alone keeps nobody from reading.
    pub schema: Option<u32>,
    /// The oldest `slipwayd` that may act on the document.
    #[serde(alias = "minimumUpdater")]
    pub minimum_updater: Option<Version>,
    /// Features that its reader must know.
    pub requires: Vec<Feature>,
}

/// What a reader of a document lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unmet {
    /// The oldest `slipwayd` that may act on it, when it says so.
    pub minimum_updater: Option<Version>,
    /// Features that it requires, and this generation does not know.
    pub features: Vec<Feature>,
    /// What was not understood, in the words of the parser.
    pub not_understood: Option<String>,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.features.is_empty() {
            let some = self.features.iter().take(MAX_NAMED);
            let names: Vec<_> = some.map(|name| format!("`{name}`")).collect();
            return write!(f, "it requires {}", names.join(", "));
        }
        match (&self.not_understood, &self.minimum_updater) {
            (Some(words), _) => write!(f, "it says what is not understood here: {words}"),
            (None, Some(version)) => write!(f, "it requires slipwayd {version}"),
            (None, None) => f.write_str("it was written by a later generation"),
        }
    }
}

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON.
    #[error("it is no JSON")]
    Json(#[from] serde_json::Error),
    /// Over its bound.
    #[error("it has {bytes} bytes, more than the allowed {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// It is meant for a later generation of this software.
    #[error("{0}: use a newer slipway or slipwayd")]
    Unmet(Unmet),
}

impl Unreadable {
    /// What the reader lacks, when that is all that is wrong.
    pub fn unmet(&self) -> Option<&Unmet> {
        match self {
            Unreadable::Unmet(unmet) => Some(unmet),
            Unreadable::Json(_) | Unreadable::TooLarge { .. } => None,
        }
    }
}

/// A document with a head.
pub trait Document: DeserializeOwned {
    /// Largest document that is read, in bytes.
    const MAX_BYTES: u64;

    /// The head, of a document that is JSON.
    ///
    /// # Errors
    /// When one of its fields has a value that is not understood.
    fn head(bytes: &[u8]) -> Result<Head, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// Reads the head of a document, and then the document.
///
/// # Errors
/// [`Unreadable`].
pub fn read<T: Document>(bytes: &[u8]) -> Result<T, Unreadable> {
    let (size, limit) = (bytes.len() as u64, T::MAX_BYTES);
    if size > limit {
        return Err(Unreadable::TooLarge { bytes: size, limit });
    }
    let head = T::head(bytes).map_err(|error| not_understood(error, Head::default()))?;
    let features: Vec<_> =
        head.requires.iter().filter(|feature| !feature.is_known()).cloned().collect();
    if !features.is_empty() {
        let minimum_updater = head.minimum_updater;
        return Err(Unreadable::Unmet(Unmet { minimum_updater, features, not_understood: None }));
    }
    serde_json::from_slice(bytes).map_err(|error| not_understood(error, head))
}

fn not_understood(error: serde_json::Error, head: Head) -> Unreadable {
    match error.classify() {
        Category::Data => Unreadable::Unmet(Unmet {
            minimum_updater: head.minimum_updater,
            features: Vec::new(),
            not_understood: Some(error.to_string().chars().take(MAX_TOLD).collect()),
        }),
        Category::Io | Category::Syntax | Category::Eof => Unreadable::Json(error),
    }
}
