//! Programs of this workspace: what runs on the node and in the images that it carries.
//!
//! In: the repository and names of binaries. Out: static programs. **Invariant:** a
//! program's bytes depend on its own crates, the lock file and the host's compiler and C
//! library; not on the folder, the user's Rust settings, or on what is built with it.

mod build;
mod sources;

use std::io;
use std::path::PathBuf;

use crate::inputs::cache::CacheError;

pub use build::{WorkspaceBuild, build};
pub use sources::find_root;

/// Why a program of the workspace was not built.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// There is no repository around the manifest.
    #[error(
        "no Cargo workspace in {} or above it: keep a manifest that names programs under \
         `workspace` inside Slipway's repository", .0.display()
    )]
    NoWorkspace(PathBuf),
    /// A source file cannot be read.
    #[error("cannot read {}: check the repository's files and their permissions", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// More files than a crate has.
    #[error("more than {} files in {}: move what is no source elsewhere", sources::MAX_FILES, .0.display())]
    TooMany(PathBuf),
    /// No crate has such a binary.
    #[error("no crate of the workspace has a program `{name}`; there are: {known}")]
    NoBinary {
        /// What was asked for.
        name: String,
        /// All binaries of the workspace.
        known: String,
    },
    /// A tool is missing.
    #[error("cannot run `{tool}`: {next_step}")]
    NoTool {
        /// Program.
        tool: &'static str,
        /// What to install.
        next_step: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A tool runs, but refuses.
    #[error("`{tool}` failed in {}; fix what it names:\n{output}", .folder.display())]
    Tool {
        /// Program and subcommand.
        tool: &'static str,
        /// Where it ran.
        folder: PathBuf,
        /// Last lines of its output.
        output: String,
    },
    /// Somebody pressed Ctrl-C or ended this program.
    #[error("interrupted while `{0}` was built: run the same command again")]
    Interrupted(String),
    /// Offline, and a crate is not there.
    #[error(
        "a crate that `{binary}` needs is not on this host, and `--offline` is given: run \
         `slipway fetch` with a network first\n{output}"
    )]
    Missing {
        /// What was built.
        binary: String,
        /// Last lines of the output.
        output: String,
    },
    /// A built program cannot be kept.
    #[error("cannot keep the built program {}: check that the disk is not full", .0.display())]
    Keep(PathBuf, #[source] io::Error),
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}
