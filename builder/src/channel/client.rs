//! A channel folder as a node sees it: TUF's client over local files.
//!
//! Over the folder may lie files that are not written yet, so that a change is judged before
//! anything of it is on disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::channel::targets::{
    MAX_METADATA_BYTES, MAX_ROOT_UPDATES, MAX_SMALL_METADATA_BYTES, METADATA_DIR, TARGETS_DIR,
};
use futures_util::{TryStreamExt, stream};
use tough::{
    Bytes, ExpirationEnforcement, Limits, Repository, RepositoryLoader, TargetName, Transport,
    TransportError, TransportErrorKind, TransportStream, async_trait,
};
use url::Url;

/// Files by their names below the channel's folder.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Why a client refuses a channel.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// As TUF's client says it.
    #[error(transparent)]
    Tuf(Box<tough::error::Error>),
    /// No address, which only a mistake in this file makes.
    #[error("the folder has no address")]
    Address(#[from] url::ParseError),
}

impl ClientError {
    /// True when the metadata is too old.
    pub fn is_expiry(&self) -> bool {
        let expired = |error: &tough::error::Error| {
            matches!(error, tough::error::Error::ExpiredMetadata { .. })
        };
        matches!(self, ClientError::Tuf(error) if expired(error))
    }
}

impl From<tough::error::Error> for ClientError {
    fn from(error: tough::error::Error) -> Self {
        Self::Tuf(Box::new(error))
    }
}

/// Reads from a folder and what lies over it.
#[derive(Debug, Clone)]
pub struct FolderTransport {
    folder: PathBuf,
    over: Arc<Files>,
}

impl FolderTransport {
    /// The folder with `over` laid over it.
    pub fn new(folder: &Path, over: Files) -> Self {
        Self { folder: folder.into(), over: Arc::new(over) }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.over.get(name) {
            return Ok(bytes.clone());
        }
        let path = self.folder.join(name);
        if path.metadata()?.len() > MAX_METADATA_BYTES {
            return Err(io::Error::other("larger than any file of a channel may be"));
        }
        std::fs::read(path)
    }
}

#[async_trait]
impl Transport for FolderTransport {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        // Names of metadata and targets have no character that an address would encode, and
        // an address has no `..` left.
        let name = url.path().trim_start_matches('/');
        match self.read(name) {
            Ok(bytes) => Ok(Box::pin(stream::iter([Ok(Bytes::from(bytes))]))),
            Err(error) => {
                let kind = match error.kind() {
                    io::ErrorKind::NotFound => TransportErrorKind::FileNotFound,
                    _ => TransportErrorKind::Other,
                };
                Err(TransportError::new_with_cause(kind, name, error))
            }
        }
    }
}

/// Loads and verifies a channel from its initial root on, within the bounds of a node. `datastore` is
/// what the client remembers: a folder that exists.
///
/// # Errors
/// Whatever the client refuses.
pub async fn load(
    root: &[u8],
    transport: FolderTransport,
    datastore: &Path,
    expiry: ExpirationEnforcement,
) -> Result<Repository, ClientError> {
    let base = |name: &str| Url::parse(&format!("file:///{name}/"));
    let repository = RepositoryLoader::new(&root, base(METADATA_DIR)?, base(TARGETS_DIR)?)
        .transport(transport)
        .datastore(datastore)
        .expiration_enforcement(expiry)
        .limits(Limits {
            max_root_size: MAX_SMALL_METADATA_BYTES,
            max_timestamp_size: MAX_SMALL_METADATA_BYTES,
            max_snapshot_size: MAX_SMALL_METADATA_BYTES,
            max_targets_size: MAX_METADATA_BYTES,
            max_root_updates: MAX_ROOT_UPDATES,
        })
        .load()
        .await?;
    Ok(repository)
}

/// The document of a target that is listed, digest checked; `None` when it is not listed.
///
/// # Errors
/// Whatever the client refuses.
pub async fn read(repository: &Repository, name: &str) -> Result<Option<Vec<u8>>, ClientError> {
    let Some(stream) = repository.read_target(&TargetName::new(name)?).await? else {
        return Ok(None);
    };
    let chunks: Vec<Bytes> = stream.try_collect().await?;
    Ok(Some(chunks.concat()))
}
