//! The version of a release: SemVer, restricted to what may stand in a file name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest accepted version, in bytes: it becomes part of file names on the ESP.
pub const MAX_VERSION_LENGTH: usize = 64;

/// A SemVer version of at most [`MAX_VERSION_LENGTH`] bytes without build metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseVersion(semver::Version);

/// A text that is not a release version.
#[derive(Debug, thiserror::Error)]
pub enum InvalidVersion {
    /// Not SemVer.
    #[error("`{text}` is not a release version (such as 1.4.0 or 1.5.0-rc.1)")]
    NotSemver {
        /// What was given.
        text: String,
        /// What the parser says.
        #[source]
        source: semver::Error,
    },
    /// Build metadata takes no part in SemVer's order, so two releases could not be ordered.
    #[error(
        "`{0}` carries build metadata after `+`: leave it out, it has no place in the order of releases"
    )]
    BuildMetadata(String),
    /// Longer than [`MAX_VERSION_LENGTH`].
    #[error("the release version has {0} bytes: at most {MAX_VERSION_LENGTH} are allowed")]
    TooLong(usize),
}

impl FromStr for ReleaseVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_VERSION_LENGTH {
            return Err(InvalidVersion::TooLong(text.len()));
        }
        let version = semver::Version::parse(text)
            .map_err(|source| InvalidVersion::NotSemver { text: text.to_owned(), source })?;
        if !version.build.is_empty() {
            return Err(InvalidVersion::BuildMetadata(text.to_owned()));
        }
        Ok(Self(version))
    }
}

impl TryFrom<String> for ReleaseVersion {
    type Error = InvalidVersion;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ReleaseVersion> for String {
    fn from(version: ReleaseVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for ReleaseVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_semver_does() {
        let version = |text: &str| text.parse::<ReleaseVersion>().unwrap();
        assert!(version("1.4.0-rc.1") < version("1.4.0"));
        assert!(version("1.9.0") < version("1.10.0"));
    }

    #[test]
    fn foreign_texts_are_refused() {
        for text in
            ["", "1", "v1.0.0", "1.0.0+debug", "1.0.0/../x", &format!("1.0.0-{}", "a".repeat(80))]
        {
            assert!(text.parse::<ReleaseVersion>().is_err(), "{text}");
        }
    }
}
