//! `report.json`: every file of an image, with the part that brought it and the reason.
//!
//! In: audited trees. Out: [`Report`], as JSON and as text for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use contract::{Digest, ReleaseVersion};
use serde::{Deserialize, Serialize};

use crate::formats::tree::{Node, Tree, TreePath};
use crate::image::audit::Audited;
use crate::image::selinux::label_type;

/// The format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Largest report that is read, in bytes.
pub const MAX_REPORT_BYTES: u64 = 64 << 20;

/// Everything that is in an image, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Image name of the manifest.
    pub image: String,
    /// Version of the release.
    pub version: ReleaseVersion,
    /// Every entry of the root, in path order.
    pub root: Vec<ReportEntry>,
    /// Every entry of the initrd, in path order.
    pub initrd: Vec<ReportEntry>,
    /// What the audit found and the manifest lets pass.
    pub exceptions: Vec<ReportException>,
}

/// One entry of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportEntry {
    /// Path from the root, with a leading slash.
    pub path: String,
    /// `file`, `directory`, `link`, `hard-link` or `device`.
    pub kind: String,
    /// Permission bits in octal, such as `0755`.
    pub mode: String,
    /// Size of a file in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// SHA-256 of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Target of a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Type of its SELinux label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Part of the manifest.
    pub part: String,
    /// Package, module or workspace that it comes from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub package: String,
    /// Version of that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Why it is there.
    pub reason: String,
}

/// A finding of the audit that the manifest lets pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportException {
    /// The finding.
    pub finding: String,
    /// The manifest's reason.
    pub reason: String,
}

// serde's `skip_serializing_if` wants a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Report {
    /// The report of both trees.
    pub fn new(image: &str, version: &ReleaseVersion, root: &Audited, initrd: &Audited) -> Self {
        let excused = root.excused().iter().chain(initrd.excused());
        Self {
            format: FORMAT,
            image: image.to_owned(),
            version: version.clone(),
            root: entries(root.tree()),
            initrd: entries(initrd.tree()),
            exceptions: excused
                .map(|(finding, reason)| ReportException {
                    finding: finding.to_string(),
                    reason: reason.clone(),
                })
                .collect(),
        }
    }

    /// The JSON text, with a final newline.
    ///
    /// # Errors
    /// Only when serialisation fails, which no value of this type causes.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// A table for people: per part its files and sizes, executables first.
    pub fn to_text(&self) -> String {
        let mut text = format!("{} {}\n", self.image, self.version);
        for (title, entries) in [("root", &self.root), ("initrd", &self.initrd)] {
            let mut parts: BTreeMap<&str, Vec<&ReportEntry>> = BTreeMap::new();
            for entry in entries {
                parts.entry(&entry.part).or_default().push(entry);
            }
            let total: u64 = entries.iter().map(|entry| entry.bytes).sum();
            line(&mut text, format_args!("\n{title}: {} entries, {}", entries.len(), mib(total)));
            for (part, files) in parts {
                let bytes: u64 = files.iter().map(|file| file.bytes).sum();
                line(
                    &mut text,
                    format_args!("\n  {part}: {} entries, {}", files.len(), mib(bytes)),
                );
                for file in files.iter().filter(|file| file.kind != "directory") {
                    let from = match (file.package.is_empty(), file.version.is_empty()) {
                        (true, _) => String::new(),
                        (false, true) => format!(" [{}]", file.package),
                        (false, false) => format!(" [{} {}]", file.package, file.version),
                    };
                    let target = file
                        .target
                        .as_ref()
                        .map(|target| format!(" -> {target}"))
                        .unwrap_or_default();
                    // What most files are says nothing about one of them.
                    let label = match file.label.as_deref() {
                        None | Some("root_t") => String::new(),
                        Some(label) => format!(" ({label})"),
                    };
                    line(
                        &mut text,
                        format_args!(
                            "    {} {}{target}{label}{from}: {}",
                            file.mode, file.path, file.reason
                        ),
                    );
                }
            }
        }
        for exception in &self.exceptions {
            line(
                &mut text,
                format_args!("\nlet pass: {}: {}", exception.finding, exception.reason),
            );
        }
        text
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    text.write_fmt(arguments).unwrap_or_default();
    text.push('\n');
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

fn entries(tree: &Tree) -> Vec<ReportEntry> {
    tree.iter().map(|(path, entry)| report_entry(path, entry)).collect()
}

fn report_entry(path: &TreePath, entry: &crate::formats::tree::Entry) -> ReportEntry {
    let (kind, bytes, sha256, target) = match &entry.node {
        Node::Directory => ("directory", 0, None, None),
        Node::File(content) => ("file", content.size(), Some(content.digest()), None),
        Node::Symlink(target) => ("link", 0, None, Some(target.clone())),
        Node::HardLink(target) => ("hard-link", 0, None, Some(target.to_string())),
        Node::CharacterDevice { .. } | Node::BlockDevice { .. } | Node::Fifo => {
            ("device", 0, None, None)
        }
    };
    let origin = entry.origin.clone();
    ReportEntry {
        path: path.to_string(),
        kind: kind.to_owned(),
        mode: format!("{:04o}", entry.mode),
        bytes,
        sha256,
        target,
        label: label_type(entry).map(str::to_owned),
        part: origin.part,
        package: origin.package,
        version: origin.version,
        reason: origin.reason,
    }
}
