//! Composition: from packages and built programs to the tree of a root or an initrd.
//!
//! In: a [`Manifest`] and [`Inputs`]. Out: [`Composed`]. **Invariant:** only what a part
//! lists enters, with the libraries and kernel modules that follow from it.

mod closure;
mod composer;
pub mod credentials;
pub mod elf;
mod error;
mod generated;
mod initrd;
mod module;
pub mod module_index;
mod modules;
pub mod packages;
mod part;
mod units;

use std::collections::BTreeMap;

use contract::ReleaseVersion;

use crate::formats::tree::{Content, Node, TreePath};
use crate::image::selinux::{self, Policy};
use crate::manifest::Manifest;

pub use closure::candidates;
pub use composer::{Composed, Composer};
pub use error::ComposeError;
pub use generated::os_release;
pub use packages::Packages;

/// Folders that the dynamic linker of Debian's amd64 searches by default.
pub const LIBRARY_FOLDERS: [&str; 3] = ["usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64"];

/// What the parts may take from.
#[derive(Debug, Default)]
pub struct Inputs {
    /// All files of all locked packages.
    pub packages: Packages,
    /// By part: files that were built or downloaded for it.
    pub built: BTreeMap<String, Vec<BuiltFile>>,
    /// The policy of SELinux, when the manifest has one.
    pub policy: Option<Policy>,
}

/// A file that was built or downloaded for a part.
#[derive(Debug, Clone)]
pub struct BuiltFile {
    /// Where it goes.
    pub path: TreePath,
    /// Its bytes.
    pub content: Content,
    /// Mode 0755 rather than 0644.
    pub executable: bool,
    /// Module, workspace or URL that it comes from.
    pub package: String,
    /// Version of that.
    pub version: String,
}

/// What the release adds to a manifest.
#[derive(Debug, Clone)]
pub struct Naming {
    /// Version of the release.
    pub version: ReleaseVersion,
    /// Signed with throw-away keys.
    pub development: bool,
}

/// The files that the firmware and the loader start.
#[derive(Debug, Clone)]
pub struct BootFiles {
    /// The kernel image.
    pub kernel: Content,
    /// Kernel release, such as `6.12.118+deb13-cloud-amd64`.
    pub kernel_release: String,
    /// systemd-stub.
    pub stub: Content,
    /// systemd-boot, unsigned.
    pub loader: Content,
}

/// Composes the root file system.
///
/// # Errors
/// [`ComposeError`], which names part and path.
pub fn compose_root(
    manifest: &Manifest,
    inputs: &Inputs,
    naming: &Naming,
) -> Result<Composed, ComposeError> {
    let mut composer = Composer::new(&inputs.packages);
    for (name, part) in &manifest.parts {
        part::add(&mut composer, name, part)?;
        for built in inputs.built.get(name).into_iter().flatten() {
            part::add_built(&mut composer, name, built)?;
        }
    }
    modules::add(&mut composer, &manifest.parts)?;
    generated::add(&mut composer, manifest, naming)?;
    let labelled = manifest.selinux.as_ref().zip(inputs.policy.as_ref());
    if let Some((selinux, policy)) = labelled {
        selinux::add(&mut composer, selinux, policy)?;
    }
    closure::add_libraries(&mut composer)?;
    part::set_modes(&mut composer, &manifest.parts)?;
    units::enable(&mut composer, &manifest.parts)?;
    credentials::cut(&mut composer)?;
    if let Some((selinux, _)) = labelled {
        selinux::label_all(&mut composer, manifest, selinux)?;
    }
    Ok(composer.finish())
}

/// Composes the initrd.
///
/// # Errors
/// As [`compose_root`].
pub fn compose_initrd(manifest: &Manifest, inputs: &Inputs) -> Result<Composed, ComposeError> {
    initrd::compose(manifest, &inputs.packages)
}

/// Finds kernel, stub and loader in the locked packages.
///
/// # Errors
/// [`ComposeError::BootFile`] when a glob of `[boot]` does not match exactly one file.
pub fn boot_files(manifest: &Manifest, inputs: &Inputs) -> Result<BootFiles, ComposeError> {
    let find = |key: &'static str, glob: &str| -> Result<(TreePath, Content), ComposeError> {
        let matcher = packages::compile(glob).map_err(|source| ComposeError::Glob {
            part: "boot".into(),
            glob: glob.into(),
            source,
        })?;
        let mut found: Vec<(TreePath, Content)> = inputs
            .packages
            .matching(&matcher)
            .filter_map(|path| Some((path.clone(), inputs.packages.content(path)?.clone())))
            .collect();
        match (found.pop(), found.len()) {
            (Some(file), 0) => Ok(file),
            (last, others) => Err(ComposeError::BootFile {
                key,
                glob: glob.into(),
                count: others + usize::from(last.is_some()),
            }),
        }
    };
    let (path, kernel) = find("kernel", &manifest.boot.kernel)?;
    let kernel_release = path.name().trim_start_matches("vmlinuz-").to_owned();
    let (_, stub) = find("stub", &manifest.boot.stub)?;
    let (_, loader) = find("loader", &manifest.boot.loader)?;
    Ok(BootFiles { kernel, kernel_release, stub, loader })
}

/// The regular file at `path`, links followed.
fn file_at<'a>(composer: &'a Composer<'_>, path: &TreePath) -> Option<&'a Content> {
    let path = composer.tree().resolve(path)?;
    match &composer.tree().entry(&path)?.node {
        Node::File(content) => Some(content),
        _ => None,
    }
}
