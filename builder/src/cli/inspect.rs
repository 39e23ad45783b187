//! `slipway inspect`: what a release folder, disk image or UKI holds.

use std::fs::{self, File};
use std::path::Path;

use contract::release::layout::ESP_UKI_DIR;
use contract::{ReleaseDocument, Slot};
use serde_json::{Value, json};

use super::describe::{document_text, size};
use super::outcome::{Answer, ExitStatus, Failed};
use crate::assemble::RELEASE_FILE;
use crate::formats::disk::Disk;
use crate::formats::erofs::{self, ReadKind};
use crate::formats::uki::{self, MAX_UKI_BYTES};
use crate::signing::secure_boot::{SignerInfo, signers};

/// Tells by looking what `path` is, and describes it.
pub fn inspect(path: &Path) -> Result<Answer, Failed> {
    let metadata = fs::metadata(path).map_err(|error| refuse(path, &error.to_string()))?;
    if metadata.is_dir() {
        return release(path);
    }
    let mut head = [0; 2];
    let read =
        File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head));
    read.map_err(|error| refuse(path, &error.to_string()))?;
    if &head == b"MZ" && metadata.len() <= MAX_UKI_BYTES as u64 {
        let bytes = fs::read(path).map_err(|error| refuse(path, &error.to_string()))?;
        let (text, json) = describe_uki(&bytes)?;
        return Ok(Answer { text, json });
    }
    disk(path)
}

fn refuse(path: &Path, problem: &str) -> Failed {
    Failed {
        message: format!(
            "cannot inspect {}: {problem}: give a release folder, a raw disk image or a UKI",
            path.display()
        ),
        status: ExitStatus::Input,
    }
}

/// Reads `release.json` of a folder.
pub fn read_document(folder: &Path) -> Result<(ReleaseDocument, Vec<u8>), Failed> {
    let bytes = read_document_bytes(folder)?;
    Ok((parse_document(folder, &bytes)?, bytes))
}

/// The bytes of `release.json`, which may be anything until its signature is checked.
pub fn read_document_bytes(folder: &Path) -> Result<Vec<u8>, Failed> {
    let path = folder.join(RELEASE_FILE);
    let bytes = fs::metadata(&path).and_then(|metadata| {
        if metadata.len() > contract::release::document::MAX_DOCUMENT_BYTES {
            return Err(std::io::Error::other("too large for a release document"));
        }
        fs::read(&path)
    });
    bytes.map_err(|error| refuse(folder, &error.to_string()))
}

/// Parses what [`read_document_bytes`] gave.
pub fn parse_document(folder: &Path, bytes: &[u8]) -> Result<ReleaseDocument, Failed> {
    ReleaseDocument::from_json(bytes).map_err(|error| {
        refuse(folder, &format!("{RELEASE_FILE} is {}", Failed::input(error).message))
    })
}

fn release(folder: &Path) -> Result<Answer, Failed> {
    let (document, _) = read_document(folder)?;
    let mut text = document_text(&document);
    let mut ukis = Vec::new();
    for slot in Slot::ALL {
        let name = format!("slipway-{slot}.efi");
        let bytes = fs::read(folder.join(&name)).map_err(|e| refuse(folder, &e.to_string()))?;
        let (described, json) = describe_uki(&bytes)?;
        text += &format!("\n{name}\n{described}");
        ukis.push(json);
    }
    Ok(Answer { text, json: json!({ "release": document, "ukis": ukis }) })
}

fn describe_uki(bytes: &[u8]) -> Result<(String, Value), Failed> {
    let uki = uki::inspect(bytes).map_err(Failed::input)?;
    let signed_by = signers(bytes).map_err(Failed::input)?;
    let mut text = format!("  kernel     {}\n  cmdline    {}\n", uki.uname, uki.cmdline);
    for section in uki.sections.iter().filter(|s| [".linux", ".initrd"].contains(&s.name.as_str()))
    {
        text += &format!("  {:<10} {}\n", section.name, size(section.range.len() as u64));
    }
    text += &signers_text(&signed_by);
    let json = json!({
        "kernel": uki.uname,
        "cmdline": uki.cmdline,
        "rootHash": uki::root_hash(&uki.cmdline),
        "signedBy": signers_json(&signed_by),
    });
    Ok((text, json))
}

fn signers_text(signers: &[SignerInfo]) -> String {
    if signers.is_empty() {
        return "  signed by  nobody\n".into();
    }
    let line = |signer: &SignerInfo| {
        format!("  signed by  {} (SHA-256 {})\n", signer.subject, signer.sha256)
    };
    signers.iter().map(line).collect()
}

fn signers_json(signers: &[SignerInfo]) -> Vec<Value> {
    let one = |signer: &SignerInfo| json!({ "subject": signer.subject, "sha256": signer.sha256 });
    signers.iter().map(one).collect()
}

fn disk(path: &Path) -> Result<Answer, Failed> {
    let mut disk = Disk::open(path).map_err(Failed::input)?;
    let mut text = String::from("partitions\n");
    let mut partitions = Vec::new();
    for partition in disk.partitions() {
        text += &format!(
            "  {:<10} {:>12} at {}\n",
            partition.label,
            size(partition.bytes),
            partition.start
        );
        partitions.push(
            json!({ "label": partition.label, "start": partition.start, "bytes": partition.bytes }),
        );
    }
    let (mut ukis, mut loaders) = (Vec::new(), Vec::new());
    for (file, bytes) in disk.esp_files().map_err(Failed::input)? {
        text += &format!("{file}  {}\n", size(bytes.len() as u64));
        if file.as_str().starts_with(ESP_UKI_DIR) {
            let (described, json) = describe_uki(&bytes)?;
            text += &described;
            ukis.push(json);
        } else if file.as_str().starts_with("EFI/") {
            let signed_by = signers(&bytes).map_err(Failed::input)?;
            text += &signers_text(&signed_by);
            loaders.push(json!({ "file": file, "signedBy": signers_json(&signed_by) }));
        }
    }
    let root = disk.partition(&Slot::A.root_label()).map_err(Failed::input)?;
    let entries = erofs::read(disk.file(), root.start).map_err(Failed::input)?;
    let bytes: u64 = entries
        .iter()
        .map(|entry| match entry.kind {
            ReadKind::File { size, .. } => size,
            _ => 0,
        })
        .sum();
    text += &format!("root-a holds {} entries, {}\n", entries.len(), size(bytes));
    let json = json!({
        "partitions": partitions,
        "ukis": ukis,
        "loaders": loaders,
        "root": { "entries": entries.len(), "bytes": bytes },
    });
    Ok(Answer { text, json })
}
