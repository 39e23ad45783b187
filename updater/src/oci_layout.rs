//! An OCI image layout in a tar archive (OCI image-spec 1.1), as the builder writes it.
//!
//! In: an archive. Out: [`Archive`], with every image's name and blobs. **Invariant:** each
//! blob that an [`ImageEntry`] names is in the archive with that size and digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use contract::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::Digest as _;

/// Largest archive that is imported, in bytes.
pub const MAX_ARCHIVE_BYTES: u64 = 2 << 30;
/// Bytes of content in one piece; containerd takes messages of up to 16 MiB.
pub const PIECE: u64 = 1 << 20;
/// Largest index or manifest, in bytes; containerd's own limit is 8 MiB.
const MAX_DOCUMENT_BYTES: u64 = 1 << 20;
/// Most entries of an archive.
const MAX_ENTRIES: usize = 4096;
/// Longest image name that containerd takes, in bytes.
const MAX_NAME_LENGTH: usize = 512;

/// Why an archive is not imported.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The archive cannot be read.
    #[error("cannot read {}: build the image anew if this persists", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// The archive says something that cannot be true.
    #[error("{} is no image layout: {problem}; make it anew with `slipway build`", .archive.display())]
    Invalid {
        /// The archive.
        archive: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// A reference to a blob, as OCI documents write it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    pub media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Length in bytes.
    pub size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEntry {
    /// Full name with a tag.
    pub name: String,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its configuration, whose digest is the image's id.
    pub config: Descriptor,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// An opened and checked archive.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    /// Offset and length of each file in the archive.
    files: BTreeMap<String, (u64, u64)>,
    /// What it holds, in the index's order.
    pub images: Vec<ImageEntry>,
}

impl Archive {
    /// Opens an archive and checks the digest of every blob that its images name.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let failed = |error| LayoutError::Read(path.to_owned(), error);
        let file = File::open(path).map_err(failed)?;
        let mut archive =
            Self { path: path.to_owned(), file, files: BTreeMap::new(), images: Vec::new() };
        if archive.file.metadata().map_err(failed)?.len() > MAX_ARCHIVE_BYTES {
            return Err(archive.invalid(format!("more than {MAX_ARCHIVE_BYTES} bytes")));
        }
        archive.list_files()?;
        let index: Index = archive.document("index.json")?;
        let mut checked = BTreeSet::new();
        for entry in index.manifests {
            let image = archive.image(entry)?;
            for blob in [&image.manifest, &image.config].into_iter().chain(&image.layers) {
                if checked.insert(blob.digest.clone()) {
                    archive.check_blob(blob)?;
                }
            }
            archive.images.push(image);
        }
        if archive.images.is_empty() {
            return Err(archive.invalid("the index names no image".to_owned()));
        }
        Ok(archive)
    }

    /// The bytes of a blob in pieces of [`PIECE`] bytes, at least one; it ends early when
    /// the archive cannot be read any more.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn pieces(
        &self,
        blob: &Descriptor,
    ) -> Result<impl Iterator<Item = Vec<u8>> + Send + 'static, LayoutError> {
        let mut reader = self.reader(&blob_file(blob))?.take(blob.size);
        let mut first = true;
        Ok(std::iter::from_fn(move || {
            let left = reader.limit();
            if left == 0 && !first {
                return None;
            }
            first = false;
            let mut piece = vec![0; usize::try_from(left.min(PIECE)).ok()?];
            // Whoever reads on past an error would send other bytes than those checked.
            reader.read_exact(&mut piece).is_ok().then_some(piece)
        }))
    }

    fn invalid(&self, problem: String) -> LayoutError {
        LayoutError::Invalid { archive: self.path.clone(), problem }
    }

    fn list_files(&mut self) -> Result<(), LayoutError> {
        let failed = |error| LayoutError::Read(self.path.clone(), error);
        let mut files = BTreeMap::new();
        let mut reader = tar::Archive::new(self.file.try_clone().map_err(failed)?);
        for entry in reader.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = name.trim_start_matches("./").to_owned();
            if files.len() >= MAX_ENTRIES {
                return Err(self.invalid(format!("more than {MAX_ENTRIES} files")));
            }
            if entry.header().entry_type().is_file()
                && files.insert(name.clone(), (entry.raw_file_position(), entry.size())).is_some()
            {
                return Err(self.invalid(format!("`{name}` is there twice")));
            }
        }
        self.files = files;
        Ok(())
    }

    /// The archive's file, at the beginning of that file in it.
    fn reader(&self, name: &str) -> Result<File, LayoutError> {
        let failed = |error| LayoutError::Read(self.path.clone(), error);
        let (offset, _) = self.place(name)?;
        let mut reader = File::open(&self.path).map_err(failed)?;
        reader.seek(SeekFrom::Start(offset)).map_err(failed)?;
        Ok(reader)
    }

    fn place(&self, name: &str) -> Result<(u64, u64), LayoutError> {
        let place = self.files.get(name).copied();
        place.ok_or_else(|| self.invalid(format!("`{name}` is missing")))
    }

    fn document<T: DeserializeOwned>(&self, name: &str) -> Result<T, LayoutError> {
        let (_, size) = self.place(name)?;
        if size > MAX_DOCUMENT_BYTES {
            return Err(self.invalid(format!("`{name}` is over {MAX_DOCUMENT_BYTES} bytes")));
        }
        let mut bytes = Vec::new();
        let mut reader = self.reader(name)?.take(size);
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| LayoutError::Read(self.path.clone(), error))?;
        serde_json::from_slice(&bytes).map_err(|error| self.invalid(format!("`{name}`: {error}")))
    }

    fn image(&self, entry: Descriptor) -> Result<ImageEntry, LayoutError> {
        let name = entry.annotations.get("io.containerd.image.name");
        let name = name.ok_or_else(|| self.invalid("an image has no name".to_owned()))?.clone();
        let good = |c: char| c.is_ascii_alphanumeric() || "./:_-@".contains(c);
        if name.is_empty() || name.len() > MAX_NAME_LENGTH || !name.chars().all(good) {
            return Err(self.invalid(format!("`{}` is no image name", name.escape_default())));
        }
        // The digest decides a path in the archive, so it is checked before it is used.
        self.digest_of(&entry)?;
        let manifest: Manifest = self.document(&blob_file(&entry))?;
        let (config, layers) = (manifest.config, manifest.layers);
        Ok(ImageEntry { name, manifest: entry, config, layers })
    }

    fn digest_of(&self, blob: &Descriptor) -> Result<Digest, LayoutError> {
        let digest = blob.digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        digest.ok_or_else(|| {
            let shown: String = blob.digest.chars().take(80).collect();
            self.invalid(format!("`{}` is no SHA-256 digest", shown.escape_default()))
        })
    }

    fn check_blob(&self, blob: &Descriptor) -> Result<(), LayoutError> {
        let expected = self.digest_of(blob)?;
        let name = blob_file(blob);
        let (_, size) = self.place(&name)?;
        if size != blob.size {
            return Err(self.invalid(format!("`{name}` has {size} bytes, not {}", blob.size)));
        }
        let mut hasher = sha2::Sha256::new();
        let mut reader = self.reader(&name)?.take(size);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = reader
                .read(&mut buffer)
                .map_err(|error| LayoutError::Read(self.path.clone(), error))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
        match Digest::from(<[u8; 32]>::from(hasher.finalize())) == expected {
            true => Ok(()),
            false => Err(self.invalid(format!("`{name}` does not have the bytes of its digest"))),
        }
    }
}

fn blob_file(blob: &Descriptor) -> String {
    format!("blobs/{}", blob.digest.replacen(':', "/", 1))
}

#[cfg(test)]
#[path = "oci_layout_tests.rs"]
pub(crate) mod tests;
