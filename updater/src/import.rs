//! Hands image layouts to containerd, without a registry.
//!
//! In: a folder of archives. Out: images in containerd's store, as kubelet finds them. The
//! container runtime interface unpacks an image when its first container is made, so the
//! content alone is enough. **Invariant:** an image's name appears only after all its
//! content is there; a second run changes nothing and says so.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use tonic::Code;

use crate::grpc::messages::Descriptor as WireDescriptor;
use crate::grpc::messages::{
    COMMIT, Empty, FieldMask, Image, ImageMessage, ImageName, Info, InfoMessage, InfoRequest,
    LeaseId, WRITE, WriteContentRequest,
};
use crate::grpc::{Client, GrpcError, Labels, unless};
use crate::oci_layout::{Archive, Descriptor, ImageEntry, LayoutError};

/// Most archives of the folder.
const MAX_ARCHIVES: usize = 256;
/// Name of the lease that keeps content until an image refers to it.
pub const LEASE: &str = "slipway-import";

/// Why images were not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The folder cannot be listed.
    #[error("cannot list {}: give the images' folder with --folder", .0.display())]
    List(PathBuf, #[source] io::Error),
    /// More archives than an image carries.
    #[error("more than {MAX_ARCHIVES} archives in {}: remove some", .0.display())]
    TooMany(PathBuf),
    /// An archive is damaged.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The archive could not be read to the end of a blob.
    #[error("{0} was not written whole: check the disk, then run the import again")]
    Cut(String),
    /// containerd is not there or refuses.
    #[error(transparent)]
    Grpc(#[from] GrpcError),
}

/// What became of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is new, or points to other content than before.
    Imported,
    /// It was there as it should be.
    Present,
}

/// The archives of a folder, sorted by name; a missing folder is an empty one, as an image
/// without container images has none.
///
/// # Errors
/// [`ImportError::List`] and [`ImportError::TooMany`].
pub fn archives(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let failed = |error| ImportError::List(folder.to_owned(), error);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            found.push(path);
        }
        if found.len() > MAX_ARCHIVES {
            return Err(ImportError::TooMany(folder.to_owned()));
        }
    }
    found.sort();
    Ok(found)
}

/// Imports one archive; the client is within a namespace and [`LEASE`].
///
/// # Errors
/// [`ImportError`].
pub async fn import(client: &Client, path: &Path) -> Result<Vec<(String, Outcome)>, ImportError> {
    let archive = Archive::open(path)?;
    let mut outcomes = Vec::new();
    for image in &archive.images {
        let outcome = if is_present(client, image).await? {
            Outcome::Present
        } else {
            // The lease is named before it is written to and given up after the names
            // exist; a crash in between leaves it for the next run, which gives it up.
            let lease = || LeaseId { id: LEASE.to_owned() };
            let created = client
                .call::<_, Empty>("/containerd.services.leases.v1.Leases/Create", lease())
                .await;
            unless(Code::AlreadyExists, created)?;
            import_image(client, &archive, image).await?;
            client
                .call::<_, Empty>("/containerd.services.leases.v1.Leases/Delete", lease())
                .await?;
            Outcome::Imported
        };
        outcomes.push((image.name.clone(), outcome));
    }
    Ok(outcomes)
}

/// The two names of an image: its id, by which the runtime interface finds it, and its own.
fn names(image: &ImageEntry) -> [&str; 2] {
    [&image.config.digest, &image.name]
}

/// Labels of both names: kubelet's image collection leaves pinned images alone.
fn image_labels() -> Labels {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    HashMap::from([
        label("io.cri-containerd.image", "managed"),
        label("io.cri-containerd.pinned", "pinned"),
    ])
}

/// Labels of a manifest: containerd's collection follows them from the image downwards.
fn manifest_labels(image: &ImageEntry) -> Labels {
    let reference = |kind: String, blob: &Descriptor| {
        (format!("containerd.io/gc.ref.content.{kind}"), blob.digest.clone())
    };
    let layers = image.layers.iter().enumerate();
    layers
        .map(|(number, layer)| reference(format!("l.{number}"), layer))
        .chain([reference("config".to_owned(), &image.config)])
        .collect()
}

fn holds_all(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn mask(labels: &Labels) -> FieldMask {
    let mut paths: Vec<String> = labels.keys().map(|key| format!("labels.{key}")).collect();
    paths.sort();
    FieldMask { paths }
}

async fn is_present(client: &Client, image: &ImageEntry) -> Result<bool, GrpcError> {
    for name in names(image) {
        let question = ImageName { name: name.to_owned() };
        let answer = client
            .call::<_, ImageMessage>("/containerd.services.images.v1.Images/Get", question)
            .await;
        let found = unless(Code::NotFound, answer)?.and_then(|answer| answer.image);
        let good = found.is_some_and(|found| {
            found.target.is_some_and(|target| target.digest == image.manifest.digest)
                && holds_all(&found.labels, &image_labels())
        });
        if !good {
            return Ok(false);
        }
    }
    for blob in [&image.manifest, &image.config].into_iter().chain(&image.layers) {
        let Some(info) = blob_info(client, blob).await? else { return Ok(false) };
        if blob == &image.manifest && !holds_all(&info.labels, &manifest_labels(image)) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn blob_info(client: &Client, blob: &Descriptor) -> Result<Option<Info>, GrpcError> {
    let question = InfoRequest { digest: blob.digest.clone() };
    let answer = client
        .call::<_, InfoMessage>("/containerd.services.content.v1.Content/Info", question)
        .await;
    Ok(unless(Code::NotFound, answer)?.and_then(|answer| answer.info))
}

async fn import_image(
    client: &Client,
    archive: &Archive,
    image: &ImageEntry,
) -> Result<(), ImportError> {
    // 1. Content, from the leaves up: whoever sees the manifest sees what it names.
    for blob in image.layers.iter().chain([&image.config]) {
        write_blob(client, archive, blob, Labels::new()).await?;
    }
    write_blob(client, archive, &image.manifest, manifest_labels(image)).await?;
    // 2. The id before the name, as containerd itself does.
    for name in names(image) {
        write_image(client, name, image).await?;
    }
    Ok(())
}

async fn write_blob(
    client: &Client,
    archive: &Archive,
    blob: &Descriptor,
    labels: Labels,
) -> Result<(), ImportError> {
    if blob_info(client, blob).await?.is_none() {
        let template = WriteContentRequest {
            r#ref: format!("slipway-{}", blob.digest),
            total: wire_size(blob),
            expected: blob.digest.clone(),
            labels: labels.clone(),
            ..WriteContentRequest::default()
        };
        let mut offset = 0;
        let messages = archive.pieces(blob)?.map(move |data| {
            let begin = offset;
            offset += data.len() as i64;
            let action = if offset == template.total { COMMIT } else { WRITE };
            WriteContentRequest { action, offset: begin, data, ..template.clone() }
        });
        let path = "/containerd.services.content.v1.Content/Write";
        let written = client.stream(path, messages).await.map(|_: Empty| ());
        unless(Code::AlreadyExists, written)?;
        if blob_info(client, blob).await?.is_none() {
            return Err(ImportError::Cut(blob.digest.clone()));
        }
    }
    if !labels.is_empty() {
        // Content that was there already may lack the labels.
        let update_mask = Some(mask(&labels));
        let info = Some(Info { digest: blob.digest.clone(), labels, ..Info::default() });
        let path = "/containerd.services.content.v1.Content/Update";
        client.call::<_, InfoMessage>(path, InfoMessage { info, update_mask }).await?;
    }
    Ok(())
}

/// The archive's limit keeps sizes far below the field's.
fn wire_size(blob: &Descriptor) -> i64 {
    i64::try_from(blob.size).unwrap_or(i64::MAX)
}

async fn write_image(client: &Client, name: &str, image: &ImageEntry) -> Result<(), GrpcError> {
    let target = WireDescriptor {
        media_type: image.manifest.media_type.clone(),
        digest: image.manifest.digest.clone(),
        size: wire_size(&image.manifest),
    };
    let labels = image_labels();
    let mut update_mask = mask(&labels);
    update_mask.paths.insert(0, "target".to_owned());
    let wanted = Image { name: name.to_owned(), labels, target: Some(target) };
    let message = ImageMessage { image: Some(wanted.clone()), update_mask: None };
    let created = client
        .call::<_, ImageMessage>("/containerd.services.images.v1.Images/Create", message)
        .await;
    if unless(Code::AlreadyExists, created)?.is_none() {
        let message = ImageMessage { image: Some(wanted), update_mask: Some(update_mask) };
        client
            .call::<_, ImageMessage>("/containerd.services.images.v1.Images/Update", message)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_archives_are_taken_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.tar", "a.tar", "README", "c.tar.part"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = archives(folder.path()).unwrap();
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["a.tar", "b.tar"]);
        assert!(archives(&folder.path().join("missing")).unwrap().is_empty());
    }

    #[test]
    fn a_manifest_keeps_its_config_and_layers_alive() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), crate::oci_layout::tests::archive(|_, _| {})).unwrap();
        let archive = Archive::open(file.path()).unwrap();
        let image = &archive.images[0];
        let labels = manifest_labels(image);
        assert_eq!(labels["containerd.io/gc.ref.content.config"], image.config.digest);
        assert_eq!(labels["containerd.io/gc.ref.content.l.0"], image.layers[0].digest);
        assert!(mask(&labels).paths[0].starts_with("labels.containerd.io/gc.ref."));
    }
}
