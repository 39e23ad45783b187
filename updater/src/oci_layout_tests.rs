//! Honest and hostile archives.

use serde_json::json;

use super::*;

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, bytes).unwrap();
}

fn descriptor(kind: &str, bytes: &[u8]) -> serde_json::Value {
    json!({
        "mediaType": format!("application/vnd.oci.image.{kind}"),
        "digest": format!("sha256:{}", Digest::of(bytes)),
        "size": bytes.len(),
    })
}

/// An archive with one image; `change` may damage its index or its blobs.
pub(crate) fn archive(
    change: impl FnOnce(&mut serde_json::Value, &mut BTreeMap<String, Vec<u8>>),
) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "program", b"#!/bin/false\n");
    let layer = layer.into_inner().unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/program"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", Digest::of(&layer))]},
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar", &layer)],
    })
    .to_string()
    .into_bytes();
    let mut entry = descriptor("manifest.v1+json", &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": "localhost/slipway/test:1"});
    let mut index = json!({"schemaVersion": 2, "manifests": [entry]});
    let blob = |bytes: Vec<u8>| (format!("blobs/sha256/{}", Digest::of(&bytes)), bytes);
    let mut blobs = BTreeMap::from([blob(manifest), blob(config), blob(layer)]);
    change(&mut index, &mut blobs);
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    append(&mut archive, "index.json", index.to_string().as_bytes());
    for (name, bytes) in &blobs {
        append(&mut archive, name, bytes);
    }
    archive.into_inner().unwrap()
}

fn opened(bytes: &[u8]) -> Result<Archive, LayoutError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    Archive::open(file.path())
}

fn problem(bytes: &[u8]) -> String {
    opened(bytes).unwrap_err().to_string()
}

#[test]
fn an_image_and_its_blobs_are_found() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), archive(|_, _| {})).unwrap();
    let archive = Archive::open(file.path()).unwrap();
    let image = &archive.images[0];
    assert_eq!(image.name, "localhost/slipway/test:1");
    let layer = &image.layers[0];
    let bytes: Vec<u8> = archive.pieces(layer).unwrap().flatten().collect();
    assert_eq!(format!("sha256:{}", Digest::of(&bytes)), layer.digest);
}

#[test]
fn a_changed_blob_is_refused() {
    let changed = archive(|_, blobs| {
        let last = blobs.values_mut().max_by_key(|bytes| bytes.len()).unwrap();
        last[0] ^= 1;
    });
    assert!(problem(&changed).contains("bytes of its digest"), "{}", problem(&changed));
}

#[test]
fn a_missing_or_longer_blob_is_refused() {
    let missing = archive(|_, blobs| {
        blobs.pop_first();
    });
    assert!(problem(&missing).contains("missing"), "{}", problem(&missing));
    let longer = archive(|_, blobs| blobs.values_mut().for_each(|bytes| bytes.push(b' ')));
    assert!(problem(&longer).contains("bytes, not"), "{}", problem(&longer));
}

#[test]
fn a_digest_that_is_a_path_is_refused() {
    for digest in ["sha256:../../index.json", "../etc/passwd", "md5:0", "sha256:"] {
        let hostile = archive(|index, _| index["manifests"][0]["digest"] = digest.into());
        assert!(problem(&hostile).contains("no SHA-256 digest"), "{}", problem(&hostile));
    }
}

#[test]
fn names_that_containerd_would_not_take_are_refused() {
    for name in ["", "a b", "a\nb", &"x".repeat(600)] {
        let hostile = archive(|index, _| {
            index["manifests"][0]["annotations"]["io.containerd.image.name"] = name.into();
        });
        assert!(problem(&hostile).contains("image name"), "{}", problem(&hostile));
    }
}

#[test]
fn rubbish_and_cut_archives_are_refused() {
    let whole = archive(|_, _| {});
    opened(b"").unwrap_err();
    opened(&[0xff; 4096]).unwrap_err();
    for length in (0..whole.len() - 1024).step_by(512) {
        opened(&whole[..length]).unwrap_err();
    }
}
