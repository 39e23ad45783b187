//! What can be wrong with a manifest, with the place and the next step.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A place in a text file; both numbers start at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Position {
    /// The place of byte `offset` in `text`.
    pub fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset.min(text.len())).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line, column }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("cannot read the manifest {}: check the path and its permissions", .file.display())]
    Read {
        /// The manifest.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Longer than a manifest may be.
    #[error("the manifest {} is larger than {} KiB: it is hardly a manifest, check the path", .file.display(), .limit >> 10)]
    TooLarge {
        /// The manifest.
        file: PathBuf,
        /// Largest size, in bytes.
        limit: u64,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("{}:{position}: {message}", .file.display())]
    Syntax {
        /// The manifest.
        file: PathBuf,
        /// Where.
        position: Position,
        /// What, with the nearest right name.
        message: String,
    },
    /// A value that has the right kind and is wrong all the same.
    #[error("{}: {message}", .file.display())]
    Invalid {
        /// The manifest.
        file: PathBuf,
        /// What is wrong, where, and what to do.
        message: String,
    },
    /// A chain of `extends` that comes back, or is too long.
    #[error("{}: the chain of `extends` is longer than {limit} manifests or leads back to itself: remove one `extends`", .file.display())]
    ExtendsLoop {
        /// The manifest.
        file: PathBuf,
        /// Longest chain.
        limit: usize,
    },
}

/// The candidate that is most like `name`, if one is near enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LIKELY: f64 = 0.75;
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score >= LIKELY)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}
