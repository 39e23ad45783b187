//! Every entry of the root file system, without what is mounted over it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A list of entries by path; a folder that something is mounted over is listed and not
/// entered.
pub fn files() -> Value {
    let mut entries = Vec::new();
    let root_device = fs::metadata("/usr").map(|metadata| metadata.dev()).unwrap_or_default();
    let mut open = vec![PathBuf::from("/")];
    while let Some(path) = open.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            entries.push(json!({ "path": path, "kind": "unreadable" }));
            continue;
        };
        let covered = metadata.dev() != root_device;
        entries.push(describe(&path, &metadata, covered));
        if metadata.is_dir() && !covered {
            let names = fs::read_dir(&path).into_iter().flatten().flatten();
            open.extend(names.map(|entry| entry.path()));
        }
    }
    Value::Array(entries)
}

fn describe(path: &Path, metadata: &fs::Metadata, covered: bool) -> Value {
    let kind = match metadata.file_type() {
        kind if kind.is_dir() => "directory",
        kind if kind.is_file() => "file",
        kind if kind.is_symlink() => "link",
        _ => "device",
    };
    let mut entry = json!({
        "path": path,
        "kind": kind,
        "mode": format!("{:04o}", metadata.permissions().mode() & 0o7777),
        "covered": covered,
    });
    if kind == "file" && !covered {
        entry["bytes"] = json!(metadata.len());
        entry["sha256"] = json!(sha256(path));
    } else if kind == "link" {
        entry["target"] = json!(fs::read_link(path).ok());
    }
    entry
}

fn sha256(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
