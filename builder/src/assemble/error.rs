//! Why a build stopped, and whose turn it is then.

use std::io;
use std::path::PathBuf;

use crate::fault::Fault;
use crate::formats::disk::DiskError;
use crate::formats::erofs::WriteError;
use crate::formats::initrd::InitrdError;
use crate::formats::uki::UkiError;
use crate::formats::verity::VerityError;
use crate::image::audit::AuditError;
use crate::image::compose::ComposeError;
use crate::image::selinux::SelinuxError;
use crate::inputs::cache::CacheError;
use crate::inputs::container_image::ContainerImageError;
use crate::inputs::debian::UnpackError;
use crate::inputs::fetch::FetchError;
use crate::inputs::golang::GolangError;
use crate::inputs::workspace::WorkspaceError;
use crate::lock::InvalidLock;
use crate::manifest::ManifestError;
use crate::signing::keys::KeyError;
use crate::signing::secure_boot::SecureBootError;
use crate::signing::signer::SignError;

/// Why a build stopped.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum BuildError {
    /// See the type.
    Manifest(#[from] ManifestError),
    /// The lock cannot be read.
    #[error("cannot read the lock {}: run `slipway lock` with the manifest", .0.display())]
    ReadLock(PathBuf, #[source] io::Error),
    /// The lock is not one.
    #[error("{}", .0.display())]
    Lock(PathBuf, #[source] InvalidLock),
    /// The lock belongs to another state of the manifest.
    #[error("the lock {} does not match its manifest:\n  {}\nRun `slipway lock` and review the difference.", .file.display(), .differences.join("\n  "))]
    LockMismatch {
        /// The lock.
        file: PathBuf,
        /// A clause each.
        differences: Vec<String>,
    },
    /// See the type.
    Fetch(#[from] FetchError),
    /// See the type.
    Unpack(#[from] UnpackError),
    /// See the type.
    Golang(#[from] GolangError),
    /// See the type.
    Workspace(#[from] WorkspaceError),
    /// See the type.
    ContainerImage(#[from] ContainerImageError),
    /// See the type.
    Compose(#[from] ComposeError),
    /// See the type.
    Selinux(#[from] SelinuxError),
    /// See the type.
    Audit(#[from] AuditError),
    /// See the type.
    Erofs(#[from] WriteError),
    /// See the type.
    Verity(#[from] VerityError),
    /// See the type.
    Initrd(#[from] InitrdError),
    /// See the type.
    Uki(#[from] UkiError),
    /// See the type.
    SecureBoot(#[from] SecureBootError),
    /// See the type.
    Key(#[from] KeyError),
    /// See the type.
    Sign(#[from] SignError),
    /// See the type.
    Disk(#[from] DiskError),
    /// See the type.
    Cache(#[from] CacheError),
    /// A URL in the manifest that is none.
    #[error("part `{part}` downloads from `{url}`, which is no URL: correct `downloads`")]
    Url {
        /// Part of the manifest.
        part: String,
        /// The text.
        url: String,
    },
    /// The lock has no date to take the image's time from.
    #[error("the lock has no index with a date: run `slipway lock` to write it again")]
    NoDate,
    /// The output folder holds something else.
    #[error("{} is there and is no release folder: give another `--out`, or remove it", .0.display())]
    NotARelease(PathBuf),
    /// The root is larger than its partition.
    #[error(
        "the root file system has {bytes} bytes, its partition {partition}: leave parts or modules out of the manifest"
    )]
    RootTooLarge {
        /// Size of the image.
        bytes: u64,
        /// Size of the partition.
        partition: u64,
    },
    /// The output cannot be written.
    #[error("cannot write {}: check the path, its permissions and that the disk is not full", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// A kernel, loader or stub in the cache cannot be read.
    #[error("cannot read the {0} from the cache: clear the cache and build again")]
    BootFile(&'static str, #[source] io::Error),
    /// A document that cannot be written as JSON.
    #[error("cannot write a document of the release")]
    Json(#[from] serde_json::Error),
}

impl BuildError {
    /// Whose turn it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Fetch(FetchError::Superseded { .. }) => Fault::Gone,
            Self::Manifest(_)
            | Self::ReadLock(..)
            | Self::Lock(..)
            | Self::LockMismatch { .. }
            | Self::Compose(_)
            | Self::Audit(_)
            | Self::Selinux(_)
            | Self::Key(_)
            | Self::Url { .. }
            | Self::NotARelease(_)
            | Self::RootTooLarge { .. }
            | Self::NoDate => Fault::Input,
            _ => Fault::Other,
        }
    }
}
