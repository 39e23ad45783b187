//! The manifest: what an image is made of, as a checked value.
//!
//! In: a TOML file and those that it extends. Out: [`Manifest`]. **Invariant:** a
//! [`Manifest`] names each part once, all its paths are tree paths, and every part says
//! why it is there.

mod document;
mod error;
mod load;
mod selinux;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use contract::{Architecture, ReleaseVersion};
use serde::Deserialize;

use crate::formats::tree::TreePath;

pub use error::{ManifestError, Position};
pub use load::{MAX_MANIFEST_BYTES, lock_path, read};

/// A whole image, with everything that the extended manifests add.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The file that was asked for.
    pub file: PathBuf,
    /// That file, then each one that the one before extends.
    pub chain: Vec<PathBuf>,
    /// Name, platform and version.
    pub image: Image,
    /// Where packages come from.
    pub debian: Debian,
    /// Kernel, loader and command line.
    pub boot: Boot,
    /// What the initrd holds.
    pub initrd: Part,
    /// What the root holds, by name.
    pub parts: BTreeMap<String, Part>,
    /// Accounts by name.
    pub users: BTreeMap<String, User>,
    /// Mandatory access control, when the image has it.
    pub selinux: Option<Selinux>,
    /// What the audit lets pass, with the reasons.
    pub exceptions: Vec<Exception>,
}

impl Manifest {
    /// Names of all packages that the parts ask for, without their dependencies.
    pub fn requested_packages(&self) -> BTreeSet<String> {
        self.parts
            .values()
            .chain([&self.initrd])
            .flat_map(|part| part.packages.iter().cloned())
            .collect()
    }
}

/// Name, platform and version of an image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Such as `node`; part of file names and of the os-release.
    pub name: String,
    /// Processor family.
    pub architecture: Architecture,
    /// Version when the command line gives none.
    pub version: ReleaseVersion,
}

/// Where packages come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Debian {
    /// Suites, such as `trixie`; the highest version of a package over all of them is taken.
    pub suites: Vec<String>,
    /// Archive areas, such as `main`.
    pub components: Vec<String>,
    /// OpenPGP keyring on the building host that the index must be signed with.
    pub keyring: PathBuf,
}

/// Kernel, loader and command line; the paths are globs over the locked packages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Boot {
    /// The kernel image.
    pub kernel: String,
    /// systemd-stub, the head of a UKI.
    pub stub: String,
    /// systemd-boot.
    pub loader: String,
    /// Kernel command line after the words that name root and root hash.
    pub command_line: Vec<String>,
    /// Lines of `loader/loader.conf`.
    pub loader_conf: Vec<String>,
}

/// One part of an image: what it gives, and why.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Folder of the manifest that defines the part; its relative paths start here.
    pub folder: PathBuf,
    /// One sentence for the report.
    pub why: String,
    /// Debian packages to lock, with their dependencies.
    pub packages: Vec<String>,
    /// Globs over the files of all locked packages; an executable needs its full name.
    pub files: Vec<String>,
    /// Globs over kernel module names; what they depend on follows.
    pub modules: Vec<String>,
    /// Folder in the repository whose files are taken as they are, never executable.
    pub tree: Option<PathBuf>,
    /// Symbolic links: path to target.
    pub links: BTreeMap<TreePath, String>,
    /// Empty folders, mode 0755.
    pub directories: Vec<TreePath>,
    /// Permission bits that replace those of a package.
    pub modes: BTreeMap<TreePath, u16>,
    /// Files made of all files that match a glob, in path order.
    pub concatenate: BTreeMap<TreePath, String>,
    /// systemd units to enable, as their `[Install]` section says.
    pub enable: Vec<String>,
    /// Programs built from a Go module.
    pub go: Option<GoProgram>,
    /// Programs of this workspace: binary name to path.
    pub workspace: BTreeMap<String, TreePath>,
    /// Files by URL and SHA-256.
    pub downloads: Vec<Download>,
    /// Container images that the node imports at boot.
    pub container_images: Vec<ContainerImage>,
}

impl Part {
    /// `relative` as a path on the building host.
    pub fn resolve(&self, relative: &Path) -> PathBuf {
        self.folder.join(relative)
    }
}

/// Programs built from a Go module.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GoProgram {
    /// Folder with `go.mod` and `go.sum`.
    pub module: PathBuf,
    /// Program name (last element of its `tool` line) to path in the image.
    pub install: BTreeMap<String, TreePath>,
    /// Linker flags; `{version}` stands for the module's version.
    #[serde(default)]
    pub ldflags: Vec<String>,
}

/// A file by URL and SHA-256.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Download {
    /// Where it is.
    pub url: String,
    /// What it must hash to.
    pub sha256: contract::Digest,
    /// Where it goes.
    pub path: TreePath,
    /// True for mode 0755, else 0644.
    #[serde(default)]
    pub executable: bool,
}

/// A container image with one program of this workspace in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ContainerImage {
    /// Full reference, such as `localhost/slipway/pause:1`.
    pub name: String,
    /// Binary of this workspace; the image's only file.
    pub program: String,
    /// Arguments after the program.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// An account; its group has the same name and number.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// User and group number.
    pub id: u32,
    /// Comment field.
    pub comment: String,
    /// Only a group, no user.
    #[serde(default)]
    pub group_only: bool,
}

/// The policy of SELinux, and the labels of the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selinux {
    /// Folder of the manifest that names the policy.
    pub folder: PathBuf,
    /// Folder with the policy's `*.cil`.
    pub policy: PathBuf,
    /// What the node does with it.
    pub state: SelinuxState,
    /// Type of a path and of everything below it that has no nearer one.
    pub labels: BTreeMap<TreePath, String>,
}

impl Selinux {
    /// The policy's folder on the building host.
    pub fn resolve(&self) -> PathBuf {
        self.folder.join(&self.policy)
    }
}

/// What a node does with the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelinuxState {
    /// The kernel is not told of it: policy and labels lie in the root, and have no effect.
    Labelled,
    /// What the policy refuses is logged and done; for development builds.
    Permissive,
    /// What the policy refuses is not done.
    Enforcing,
}

impl SelinuxState {
    /// Words of the kernel's command line.
    pub fn command_line(self) -> &'static [&'static str] {
        match self {
            Self::Labelled => &[],
            Self::Permissive => &["security=selinux", "enforcing=0"],
            Self::Enforcing => &["security=selinux"],
        }
    }
}

/// Something the audit finds and lets pass.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Exception {
    /// Name of the rule.
    pub rule: String,
    /// The file.
    pub path: TreePath,
    /// Why it is right here.
    pub reason: String,
}
