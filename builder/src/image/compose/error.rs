//! Why a tree could not be composed, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::formats::tree::{InvalidPath, TreePath};

/// Why composition stopped.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A listed file or glob that no locked package has.
    #[error(
        "part `{part}` lists `{glob}`, which no locked package has{hint}: correct `files`, or add the package that gives it to `packages` and run `slipway lock`"
    )]
    NoSuchFile {
        /// Part of the manifest.
        part: String,
        /// What it lists.
        glob: String,
        /// Nearest path, as a clause.
        hint: String,
    },
    /// A text that is not a glob.
    #[error("part `{part}` has the malformed glob `{glob}`: correct it in the manifest")]
    Glob {
        /// Part of the manifest.
        part: String,
        /// The text.
        glob: String,
        /// What the parser says.
        #[source]
        source: globset::Error,
    },
    /// A listed path is a folder.
    #[error(
        "part `{part}` lists the folder {path}: list its files, or `{path}/**` for all of them"
    )]
    Folder {
        /// Part of the manifest.
        part: String,
        /// The folder.
        path: TreePath,
    },
    /// Two packages give a listed path differently.
    #[error(
        "part `{part}` takes {path}, which the packages `{first}` and `{second}` give differently: leave it out, or remove one package"
    )]
    ContestedByPackages {
        /// Part of the manifest.
        part: String,
        /// The path.
        path: TreePath,
        /// First package.
        first: String,
        /// Second package.
        second: String,
    },
    /// Two parts give the same path.
    #[error("the parts `{first}` and `{second}` both give {path}: let only one of them list it")]
    TwoParts {
        /// The path.
        path: TreePath,
        /// First part.
        first: String,
        /// Second part.
        second: String,
    },
    /// Something is needed as a folder that is something else.
    #[error(
        "{path} is not a folder, but part `{part}` puts a file below it: use the path that the link leads to"
    )]
    NotAFolder {
        /// The path.
        path: TreePath,
        /// Part of the manifest.
        part: String,
    },
    /// `modes` of something that is not there.
    #[error("part `{part}` sets the mode of {path}, which it does not give: correct `modes`")]
    ModeOfNothing {
        /// Part of the manifest.
        part: String,
        /// The path.
        path: TreePath,
    },
    /// A label for what is not there.
    #[error("[selinux] labels {path}, which is not in the root: correct `labels`")]
    LabelOfNothing {
        /// The path.
        path: TreePath,
    },
    /// A kernel module that the locked kernel does not have.
    #[error(
        "part `{part}` asks for the kernel module `{module}`, which the locked kernel does not have{hint}: correct `modules`"
    )]
    NoSuchModule {
        /// Part of the manifest.
        part: String,
        /// Name or glob.
        module: String,
        /// Nearest name, as a clause.
        hint: String,
    },
    /// No or more than one file for a key of `[boot]`.
    #[error(
        "`{key} = \"{glob}\"` in [boot] matches {count} files of the locked packages, not one: correct the glob"
    )]
    BootFile {
        /// Key in `[boot]`.
        key: &'static str,
        /// Its value.
        glob: String,
        /// Number of matches.
        count: usize,
    },
    /// A library that no locked package has.
    #[error(
        "{path} needs the library `{library}`, which no locked package has: add the package that gives it to part `{part}` and run `slipway lock`"
    )]
    NoSuchLibrary {
        /// Program or library.
        path: TreePath,
        /// `DT_NEEDED`.
        library: String,
        /// Part of the manifest.
        part: String,
    },
    /// A unit to enable that is not in the image.
    #[error("part `{part}` enables `{unit}`, which {problem}: correct `enable`")]
    Unit {
        /// Part of the manifest.
        part: String,
        /// Unit name.
        unit: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A user or group number given twice.
    #[error(
        "the accounts `{first}` and `{second}` have the same number: give one of them another `id`"
    )]
    AccountNumber {
        /// First name.
        first: String,
        /// Second name.
        second: String,
    },
    /// A file of a part's tree folder that cannot be taken.
    #[error("part `{part}` takes {}, which {problem}", .file.display())]
    TreeFile {
        /// Part of the manifest.
        part: String,
        /// File on the building host.
        file: PathBuf,
        /// What is wrong with it, with the next step.
        problem: String,
    },
    /// A path that cannot be in an image.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// A file cannot be read.
    #[error(
        "cannot read {path} while composing: run the build again, or clear the cache if it repeats"
    )]
    Read {
        /// Path in the image.
        path: TreePath,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}
