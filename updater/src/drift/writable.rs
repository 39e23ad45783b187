//! The folders of the image where network add-ons may write: overlays whose upper folder is in
//! memory. Whatever is in there was not signed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use contract::node::api::{DriftItem, Outcome, Subject, printable};

use super::item;
use crate::pod_network;

/// Most files of a folder that are listed one by one.
const MAX_FILES: usize = 100;
/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 8;
/// Larger files are not slipwayd's own.
const MAX_OWN_BYTES: u64 = 4096;

/// A folder where others may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable {
    /// Its name on the node.
    pub folder: PathBuf,
    /// The upper folder of its overlay.
    pub upper: PathBuf,
}

impl Writable {
    /// The two that the image has.
    pub fn of_the_image() -> Vec<Self> {
        [("/etc/cni/net.d", "net.d"), ("/opt/cni/bin", "bin")]
            .map(|(folder, name)| Self {
                folder: folder.into(),
                upper: Path::new("/run/slipway/cni").join(name).join("upper"),
            })
            .into()
    }
}

/// An item for each file that was added, changed or removed; one for the folder when there is
/// none.
pub fn items(writable: &Writable) -> Vec<DriftItem> {
    let name = writable.folder.display().to_string();
    let mut items = Vec::new();
    let mut left = MAX_FILES;
    match walk(writable, Path::new(""), MAX_DEPTH, &mut left, &mut items) {
        Err(error) => {
            let detail = format!("cannot be read: {error}");
            items.push(item(Subject::File, name, Outcome::Unknown, detail));
        }
        Ok(()) if left == 0 => {
            let detail = format!("more than {MAX_FILES} files, or too deep: not all are listed");
            items.push(item(Subject::File, name, Outcome::Added, detail));
        }
        Ok(()) if items.is_empty() => {
            items.push(item(Subject::File, name, Outcome::Same, "as the image has it"));
        }
        Ok(()) => {}
    }
    items
}

fn walk(
    writable: &Writable,
    below: &Path,
    depth: usize,
    left: &mut usize,
    items: &mut Vec<DriftItem>,
) -> io::Result<()> {
    for entry in fs::read_dir(writable.upper.join(below))? {
        if *left == 0 {
            return Ok(());
        }
        let entry = entry?;
        let path = below.join(entry.file_name());
        let metadata = entry.metadata()?;
        let kind = metadata.file_type();
        if kind.is_dir() && depth > 0 {
            walk(writable, &path, depth - 1, left, items)?;
            continue;
        }
        if kind.is_dir() {
            *left = 0;
            return Ok(());
        }
        *left -= 1;
        let is_own = |text: String| pod_network::is_own(&path, &text);
        if kind.is_file()
            && metadata.len() <= MAX_OWN_BYTES
            && fs::read_to_string(entry.path()).is_ok_and(is_own)
        {
            continue;
        }
        // overlayfs marks what was removed with such a device (kernel: filesystems/overlayfs).
        let detail = if kind.is_char_device() && metadata.rdev() == 0 {
            "a file of the image was removed".to_owned()
        } else {
            format!("{} bytes, mode {:o}", metadata.len(), metadata.mode() & 0o7777)
        };
        let name = printable(&writable.folder.join(&path).to_string_lossy());
        items.push(item(Subject::File, name, Outcome::Added, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fill: impl FnOnce(&Path)) -> Vec<(String, Outcome)> {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        let writable = Writable { folder: "/opt/cni/bin".into(), upper: folder.path().into() };
        items(&writable).into_iter().map(|item| (item.name, item.outcome)).collect()
    }

    #[test]
    fn an_untouched_folder_is_the_same() {
        assert_eq!(found(|_| ()), [("/opt/cni/bin".to_owned(), Outcome::Same)]);
    }

    #[test]
    fn added_files_are_named_as_the_node_names_them() {
        let found = found(|upper| {
            fs::create_dir(upper.join("deep")).unwrap();
            fs::write(upper.join("deep/evil\n"), "x").unwrap();
        });
        assert_eq!(found, [("/opt/cni/bin/deep/evil ".to_owned(), Outcome::Added)]);
    }

    #[test]
    fn a_folder_without_end_is_cut_off() {
        let many = found(|upper| {
            for n in 0..=MAX_FILES {
                fs::write(upper.join(n.to_string()), "").unwrap();
            }
        });
        assert_eq!(many.len(), MAX_FILES + 1);
        assert_eq!(many[MAX_FILES].0, "/opt/cni/bin");
        let deep = found(|upper| {
            fs::create_dir_all(upper.join(["x"; 20].join("/"))).unwrap();
        });
        assert_eq!(deep, [("/opt/cni/bin".to_owned(), Outcome::Added)]);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_unknown() {
        let gone = Writable { folder: "/opt/cni/bin".into(), upper: "/nonexistent".into() };
        assert_eq!(items(&gone)[0].outcome, Outcome::Unknown);
    }
}
