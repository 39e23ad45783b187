//! `slipway verify`: is this release what its signer made?

use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use contract::release::layout::ESP_UKI_DIR;
use contract::{ReleaseDocument, Slot};
use der::{DecodePem, Encode};
use ed25519_dalek::pkcs8::DecodePublicKey;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::json;

use super::arguments::VerifyArguments;
use super::inspect::{parse_document, read_document_bytes};
use super::outcome::{Answer, ExitStatus, Failed};
use crate::assemble::SIGNATURE_FILE;
use crate::formats::disk::Disk;
use crate::formats::tree::digest_reader;
use crate::formats::{uki, verity};
use crate::signing::secure_boot::verify_pe;

/// Largest key or signature file that is read, in bytes.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Checks everything; the first thing that is wrong ends it.
pub fn verify(arguments: &VerifyArguments) -> Result<Answer, Failed> {
    let folder = arguments.release.as_path();
    let bytes = read_document_bytes(folder)?;
    let mut checked = Vec::new();
    verify_signature(folder, &bytes, &arguments.keys)?;
    let document = parse_document(folder, &bytes)?;
    checked.push("release.json is signed by the release key".to_owned());
    verify_files(folder, &document)?;
    checked
        .push(format!("{} files have the sizes and digests of release.json", document.files.len()));
    let certificate = certificate(&arguments.keys)?;
    for slot in Slot::ALL {
        let name = format!("slipway-{slot}.efi");
        let bytes =
            fs::read(folder.join(&name)).map_err(|error| wrong(&name, &error.to_string()))?;
        verify_uki(&name, &bytes, &certificate, &document)?;
    }
    checked.push("both UKIs are signed by db and name the root hash".to_owned());
    verify_disk(&folder.join("disk.raw"), &certificate, &document)?;
    checked.push("the disk image holds this root, its hash tree and signed boot files".to_owned());
    let text = checked.iter().map(|line| format!("ok  {line}\n")).collect();
    let json = json!({ "valid": true, "rootHash": document.root.root_hash, "checked": checked });
    Ok(Answer { text, json })
}

fn wrong(what: &str, problem: &str) -> Failed {
    Failed {
        message: format!(
            "{what}: {problem}: do not use this release; build it again, or fetch it anew"
        ),
        status: ExitStatus::Input,
    }
}

fn read_small(path: &Path) -> Result<String, Failed> {
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX_KEY_BYTES).read_to_string(&mut text)).map_err(
        |error| Failed {
            message: format!(
                "cannot read {}: {error}: give the signer's folder with --keys",
                path.display()
            ),
            status: ExitStatus::Input,
        },
    )?;
    Ok(text)
}

fn certificate(keys: &Path) -> Result<Vec<u8>, Failed> {
    let text = read_small(&keys.join("db.pem"))?;
    x509_cert::Certificate::from_pem(text.as_bytes())
        .and_then(|certificate| certificate.to_der())
        .map_err(Failed::input)
}

fn verify_signature(folder: &Path, document: &[u8], keys: &Path) -> Result<(), Failed> {
    let public = VerifyingKey::from_public_key_pem(&read_small(&keys.join("release.pub"))?);
    let public = public.map_err(|error| wrong("release.pub", &error.to_string()))?;
    let text = read_small(&folder.join(SIGNATURE_FILE))?;
    let parsed = text.trim().parse::<Signature>();
    let signature = parsed.map_err(|_| wrong(SIGNATURE_FILE, "not a signature"))?;
    public
        .verify_strict(document, &signature)
        .map_err(|_| wrong("release.json", "not signed by this release key"))
}

fn verify_files(folder: &Path, document: &ReleaseDocument) -> Result<(), Failed> {
    for file in &document.files {
        let read =
            File::open(folder.join(&file.name)).and_then(|mut open| digest_reader(&mut open));
        let (sha256, bytes) = read.map_err(|error| wrong(&file.name, &error.to_string()))?;
        if bytes != file.bytes || sha256 != file.sha256 {
            return Err(wrong(&file.name, "not the file that release.json describes"));
        }
    }
    Ok(())
}

fn verify_uki(
    name: &str,
    bytes: &[u8],
    certificate: &[u8],
    document: &ReleaseDocument,
) -> Result<(), Failed> {
    verify_pe(bytes, certificate).map_err(|error| wrong(name, &error.to_string()))?;
    let uki = uki::inspect(bytes).map_err(|error| wrong(name, &error.to_string()))?;
    if uki::root_hash(&uki.cmdline) != Some(document.root.root_hash) {
        return Err(wrong(name, "it names another root hash than release.json"));
    }
    Ok(())
}

fn verify_disk(path: &Path, certificate: &[u8], document: &ReleaseDocument) -> Result<(), Failed> {
    let mut disk = Disk::open(path).map_err(Failed::input)?;
    for (file, bytes) in disk.esp_files().map_err(Failed::input)? {
        if file.as_str().starts_with(ESP_UKI_DIR) {
            verify_uki(&file.to_string(), &bytes, certificate, document)?;
        } else if file.as_str().starts_with("EFI/") {
            verify_pe(&bytes, certificate).map_err(|e| wrong(&file.to_string(), &e.to_string()))?;
        }
    }
    let root = disk.partition(&Slot::A.root_label()).map_err(Failed::input)?;
    let hashes = disk.partition(&Slot::A.verity_label()).map_err(Failed::input)?;
    if document.root.bytes > root.bytes || document.root.verity_bytes > hashes.bytes {
        return Err(wrong("disk.raw", "its partitions are smaller than the root"));
    }
    let unreadable = |error: std::io::Error| wrong("disk.raw", &error.to_string());
    disk.file().seek(SeekFrom::Start(root.start)).map_err(unreadable)?;
    let mut tree = BufReader::new(File::open(path).map_err(unreadable)?);
    tree.seek(SeekFrom::Start(hashes.start)).map_err(unreadable)?;
    let mut data = BufReader::new(disk.file());
    verity::verify(&mut data, document.root.bytes, &mut tree, &document.root.root_hash)
        .map_err(Failed::input)
}
