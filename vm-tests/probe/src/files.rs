//! Every entry on the root's device, with the digest of its bytes, so that a test can
//! compare the booted system with what was built.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::errno;
use crate::http::Answer;

/// Where the root is seen without what is mounted on it.
const BARE_ROOT: &str = "/run/slipway-probe-root";
/// Largest file that is sent, in bytes.
const MAX_READ: u64 = 256 << 20;

/// A list of all entries in path order. The header `X-Below-Mounts` says whether it holds
/// what mount points hide.
pub fn all() -> Answer {
    // A bind mount is not recursive: in it, the folders under mount points are bare.
    let bare = fs::create_dir_all(BARE_ROOT)
        .and_then(|()| mount_bind("/", BARE_ROOT).map_err(io::Error::from));
    if let Err(error) = &bare {
        eprintln!("probe: what is below mount points stays hidden: {}", errno::name(error));
    }
    let root = Path::new(if bare.is_ok() { BARE_ROOT } else { "/" });
    let listed = list(root);
    if bare.is_ok()
        && let Err(error) = unmount(BARE_ROOT, UnmountFlags::DETACH)
    {
        eprintln!("probe: cannot unmount {BARE_ROOT}: {error}");
    }
    match listed {
        Ok(entries) => Answer::json(&Value::Array(entries))
            .with_header("X-Below-Mounts", if bare.is_ok() { "yes" } else { "no" }),
        Err(error) => Answer::error(500, &errno::name(&error)),
    }
}

/// The bytes of one file.
pub fn read(path: Option<&str>) -> Answer {
    let Some(path) = path else { return Answer::error(400, "path is missing") };
    let mut bytes = Vec::new();
    let file = File::open(path);
    match file.and_then(|file| file.take(MAX_READ).read_to_end(&mut bytes)) {
        Ok(_) => Answer::bytes(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Answer::error(404, "ENOENT"),
        Err(error) => Answer::error(500, &errno::name(&error)),
    }
}

fn list(root: &Path) -> io::Result<Vec<Value>> {
    let metadata = fs::symlink_metadata(root)?;
    let device = metadata.dev();
    let mut entries = vec![("/".to_owned(), describe(root, &metadata)?)];
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.dev() != device {
                continue;
            }
            let name = path.strip_prefix(root).unwrap_or(&path);
            entries.push((format!("/{}", name.display()), describe(&path, &metadata)?));
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    let with_path = |(path, mut value): (String, Value)| {
        value["path"] = Value::String(path);
        value
    };
    Ok(entries.into_iter().map(with_path).collect())
}

fn describe(path: &Path, metadata: &Metadata) -> io::Result<Value> {
    let kind = metadata.file_type();
    let mut value = json!({
        "kind": match () {
            () if kind.is_dir() => "directory",
            () if kind.is_file() => "file",
            () if kind.is_symlink() => "symlink",
            () if kind.is_block_device() => "block-device",
            () if kind.is_char_device() => "character-device",
            () if kind.is_fifo() => "fifo",
            () => "socket",
        },
        "mode": format!("{:04o}", metadata.mode() & 0o7777),
        "uid": metadata.uid(),
        "gid": metadata.gid(),
    });
    if kind.is_file() {
        value["bytes"] = metadata.len().into();
        value["sha256"] = digest(path)?.into();
    } else if kind.is_symlink() {
        value["target"] = fs::read_link(path)?.display().to_string().into();
    }
    Ok(value)
}

fn digest(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn entries_are_listed_in_order_with_mode_digest_and_target() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("b/file");
        fs::create_dir(root.path().join("b")).unwrap();
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4750)).unwrap();
        symlink("b/file", root.path().join("a")).unwrap();
        let entries = list(root.path()).unwrap();
        let paths: Vec<&str> = entries.iter().filter_map(|entry| entry["path"].as_str()).collect();
        assert_eq!(paths, ["/", "/a", "/b", "/b/file"]);
        assert_eq!(entries[1]["target"], "b/file");
        assert_eq!(entries[3]["mode"], "4750");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(entries[3]["sha256"], empty);
    }
}
