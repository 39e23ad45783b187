//! Container images that a node carries: one program in one layer, as an OCI layout.
//!
//! In: a name and a program. Out: a tar archive whose bytes depend on them alone
//! (OCI image-spec 1.1).

use std::io;

use contract::{Architecture, Digest};
use serde_json::{Value, json};

use crate::formats::tree::Content;

/// User and group that the program runs as.
const USER: &str = "65535:65535";

/// A container image with one program.
#[derive(Debug)]
pub struct ImageSpec<'a> {
    /// Full reference with a tag, such as `localhost/slipway/pause:1`.
    pub name: &'a str,
    /// File name of the program; it stands in the root folder.
    pub program: &'a str,
    /// Its bytes.
    pub content: &'a Content,
    /// Arguments after the program.
    pub arguments: &'a [String],
    /// What it runs on.
    pub architecture: Architecture,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ContainerImageError {
    /// A name without a tag.
    #[error("the container image name `{0}` has no tag: write one, such as `{0}:1`")]
    NoTag(String),
    /// Content that cannot be read, or an archive that cannot be made.
    #[error("cannot make a container image: build again, or clear the cache")]
    Io(#[from] io::Error),
    /// Only when serialisation fails.
    #[error("cannot write a container image's description")]
    Json(#[from] serde_json::Error),
}

/// Makes the archive.
///
/// # Errors
/// [`ContainerImageError`].
pub fn layout(image: &ImageSpec<'_>) -> Result<Vec<u8>, ContainerImageError> {
    let tag = image.name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'));
    let tag = tag.ok_or_else(|| ContainerImageError::NoTag(image.name.to_owned()))?;
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, image.program, &image.content.read()?, 0o755)?;
    let layer = layer.into_inner()?;
    let mut entrypoint = vec![format!("/{}", image.program)];
    entrypoint.extend(image.arguments.iter().cloned());
    let platform = json!({"architecture": image.architecture.debian(), "os": "linux"});
    let config = serde_json::to_vec(&json!({
        "architecture": image.architecture.debian(),
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "User": USER, "Env": ["PATH=/"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [name_of(&layer)]},
        "history": [{"created_by": "slipway"}],
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["platform"] = platform;
    entry["annotations"] = json!({
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": tag,
    });
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }))?;
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    append(&mut archive, "index.json", &index, 0o644)?;
    for blob in [&manifest, &config, &layer] {
        append(&mut archive, &format!("blobs/sha256/{}", Digest::of(blob)), blob, 0o644)?;
    }
    Ok(archive.into_inner()?)
}

fn name_of(blob: &[u8]) -> String {
    format!("sha256:{}", Digest::of(blob))
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": name_of(blob), "size": blob.len()})
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, name, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> Result<Vec<u8>, ContainerImageError> {
        layout(&ImageSpec {
            name,
            program: "pause",
            content: &Content::from_bytes(*b"program"),
            arguments: &[],
            architecture: Architecture::X86_64,
        })
    }

    #[test]
    fn the_same_image_gives_the_same_bytes() {
        let archive = made("localhost/x:1").unwrap();
        assert_eq!(archive, made("localhost/x:1").unwrap());
        let mut archive = tar::Archive::new(archive.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names[..2], ["oci-layout", "index.json"]);
        assert_eq!(names.len(), 5);
    }

    #[test]
    fn a_name_without_a_tag_is_refused() {
        assert!(made("localhost:5000/x").is_err());
    }
}
