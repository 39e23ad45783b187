//! Releases that failed on this node, and how far each got.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::release_id::ReleaseId;

/// Longest probe name and message that are kept, in characters each.
pub const MAX_TEXT: usize = 400;

/// What a probe said when the time was over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which probe.
    pub probe: String,
    /// Its message, and the names of the others, for people.
    pub message: String,
    /// The other probes that failed; `None` in a record of a slipwayd that did not keep them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<Vec<String>>,
}

impl Failure {
    /// A failure of one probe, with its texts cut to [`MAX_TEXT`] characters.
    pub fn new(probe: &str, message: &str) -> Self {
        Self::with_others(probe, message, &[])
    }

    /// The same, when other probes failed too. Their names are in the message as well: a slipwayd
    /// that did not keep them apart may be the one that reads it, after a fallback.
    pub fn with_others(probe: &str, message: &str, others: &[&str]) -> Self {
        let message = match others {
            [] => cut(message),
            others => cut(&format!("{message} (also: {})", others.join(", "))),
        };
        let also = others.iter().map(|name| cut(name)).collect();
        Self { probe: cut(probe), message, also: Some(also) }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.probe, self.message)
    }
}

/// Why a release is refused, in the order of how far it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reached", rename_all = "kebab-case")]
pub enum Cause {
    /// The loader did not try it, or could not count.
    Loader,
    /// It was tried, and no boot came as far as the state partition.
    Kernel {
        /// Boots that the loader counted.
        tries: u32,
    },
    /// The initrd did its work, and then nobody judged the boot.
    Userspace {
        /// Boots that the loader counted.
        tries: u32,
        /// Whether slipwayd had started to judge.
        judging: bool,
        /// Whether it had been found good before; then no trace tells how far the tries got.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        blessed: bool,
    },
    /// A probe failed until the deadline.
    Verdict(Failure),
    /// It ran, and an operator went back to the release before.
    RolledBack,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Loader => f.write_str("the boot loader did not start it"),
            Cause::Kernel { tries } => {
                write!(f, "kernel or initrd failed in {tries} of {tries} tries")
            }
            Cause::Userspace { tries, blessed: true, .. } => {
                write!(f, "it was blessed, and did not stand in {tries} starts")
            }
            Cause::Userspace { tries, judging: false, .. } => {
                write!(f, "it died after the initrd, before slipwayd ran, in {tries} tries")
            }
            Cause::Userspace { tries, judging: true, .. } => {
                write!(f, "it died while slipwayd was judging it, in {tries} tries")
            }
            Cause::Verdict(failure) => write!(f, "probe {failure}"),
            Cause::RolledBack => f.write_str("an operator rolled it back"),
        }
    }
}

/// A release that this node does not take again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The release; what counts is its root hash.
    pub release: ReleaseId,
    /// Why, and how far it got.
    pub cause: Cause,
    /// When the running slot found out.
    pub at: Timestamp,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "release {} is refused on this node: {}", self.release.version, self.cause)
    }
}
