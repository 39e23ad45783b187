//! Programs built from Go modules, each part with its own `go.mod` and `go.sum`.
//!
//! In: a folder with the two files. Out: static programs whose bytes depend on the two
//! files, the flags and the toolchain that they pin.

mod build;
mod pins;

use std::io;
use std::path::PathBuf;

pub use build::{GoBuild, build};
pub use pins::Pins;

/// Why a Go part was not built.
#[derive(Debug, thiserror::Error)]
pub enum GolangError {
    /// A pin file cannot be read.
    #[error("cannot read {}: a Go part needs go.mod and go.sum in its folder", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A pin file over its limit.
    #[error("{} is larger than {} KiB: it is hardly a Go module file", .0.display(), pins::MAX_FILE_BYTES >> 10)]
    TooLarge(PathBuf),
    /// A pin file that does not pin.
    #[error("{}: {problem}", .file.display())]
    Pins {
        /// The file, with a line where there is one.
        file: PathBuf,
        /// What is missing, with the next step.
        problem: String,
    },
    /// A program that the module has no `tool` line for.
    #[error("{} has no `tool` line for `{program}`: run `go get -tool PACKAGE` there, or correct `install`", .file.display())]
    NoTool {
        /// go.mod.
        file: PathBuf,
        /// Program.
        program: String,
    },
    /// There is no `go`.
    #[error("cannot run `go`: install Go 1.21 or later (on Debian: golang)")]
    NoGo(#[source] io::Error),
    /// `go` is too old to fetch a toolchain.
    #[error("`go` is {0}: install Go 1.21 or later, which fetches the pinned toolchain itself")]
    OldGo(String),
    /// A module is not what go.sum pins.
    #[error("a module of {} is not the one that go.sum pins: find out why before anything else\n{output}", .folder.display())]
    Sum {
        /// The part.
        folder: PathBuf,
        /// Last lines of the output.
        output: String,
    },
    /// Offline, and a module is not there.
    #[error("a module of {}, or the pinned toolchain, is not in the Go module cache, and `--offline` is given: run `slipway fetch` with a network first\n{output}", .folder.display())]
    Missing {
        /// The part.
        folder: PathBuf,
        /// Last lines of the output.
        output: String,
    },
    /// Somebody pressed Ctrl-C or ended this program.
    #[error("interrupted while {} was built: run the same command again", .0.display())]
    Interrupted(PathBuf),
    /// The build failed.
    #[error("`go build` failed in {}; fix what it names:\n{output}", .folder.display())]
    Build {
        /// The part.
        folder: PathBuf,
        /// Last lines of the output.
        output: String,
    },
    /// A built program cannot be kept.
    #[error("cannot keep the built programs: check that the disk is not full")]
    Keep(#[source] io::Error),
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] crate::inputs::cache::CacheError),
}
