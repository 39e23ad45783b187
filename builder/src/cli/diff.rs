//! `slipway diff`: what an update would change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use contract::ReleaseDocument;
use serde_json::{Value, json};

use super::build::read_report;
use super::describe::size;
use super::inspect::read_document;
use super::outcome::{Answer, Failed};
use crate::image::report::{Report, ReportEntry};

/// Compares two release folders.
pub fn diff(old: &Path, new: &Path) -> Result<Answer, Failed> {
    let (old_document, _) = read_document(old)?;
    let (new_document, _) = read_document(new)?;
    let (old_report, new_report) = (read_report(old)?, read_report(new)?);
    let (components, component_text) = compare_components(&old_document, &new_document);
    let files = compare_files(&old_report, &new_report);
    let mut text = format!(
        "{} {} -> {} {}\n",
        old_document.image, old_document.version, new_document.image, new_document.version
    );
    if old_document.root.root_hash == new_document.root.root_hash {
        text += "the roots are the same, bit for bit\n";
    }
    text += &component_text;
    for file in &files {
        text += &format!("{:<8} {}  {}\n", file.change, file.path, file.detail());
    }
    let bytes: u64 = files.iter().map(|file| file.new_bytes).sum();
    text += &format!("{} files differ, {} of content in the new ones\n", files.len(), size(bytes));
    let json = json!({
        "old": old_document.version,
        "new": new_document.version,
        "sameRoot": old_document.root.root_hash == new_document.root.root_hash,
        "components": components,
        "files": files.iter().map(FileChange::to_json).collect::<Vec<_>>(),
        "bytes": bytes,
    });
    Ok(Answer { text, json })
}

fn compare_components(old: &ReleaseDocument, new: &ReleaseDocument) -> (Vec<Value>, String) {
    let versions = |document: &ReleaseDocument| -> BTreeMap<String, String> {
        document.components.iter().map(|c| (c.name.clone(), c.version.clone())).collect()
    };
    let (old, new) = (versions(old), versions(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut text = String::new();
    let mut changes = Vec::new();
    for name in names {
        let (before, after) = (old.get(name), new.get(name));
        if before != after {
            let show = |version: Option<&String>| version.cloned().unwrap_or_else(|| "-".into());
            text += &format!("{name}: {} -> {}\n", show(before), show(after));
            changes.push(json!({ "name": name, "old": before, "new": after }));
        }
    }
    (changes, text)
}

struct FileChange {
    path: String,
    change: &'static str,
    part: String,
    old_bytes: u64,
    new_bytes: u64,
}

impl FileChange {
    fn detail(&self) -> String {
        format!("{} -> {} ({})", size(self.old_bytes), size(self.new_bytes), self.part)
    }

    fn to_json(&self) -> Value {
        json!({
            "path": self.path,
            "change": self.change,
            "part": self.part,
            "oldBytes": self.old_bytes,
            "newBytes": self.new_bytes,
        })
    }
}

/// Every entry of root and initrd that is new, gone, or has other content or mode.
fn compare_files(old: &Report, new: &Report) -> Vec<FileChange> {
    let mut changes = Vec::new();
    for (place, old, new) in [("", &old.root, &new.root), ("initrd:", &old.initrd, &new.initrd)] {
        let by_path = |entries: &[ReportEntry]| -> BTreeMap<String, ReportEntry> {
            entries.iter().map(|entry| (entry.path.clone(), entry.clone())).collect()
        };
        let (old, new) = (by_path(old), by_path(new));
        let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for path in paths {
            let (before, after) = (old.get(path), new.get(path));
            let change = match (before, after) {
                (None, Some(_)) => "added",
                (Some(_), None) => "removed",
                (Some(before), Some(after)) if !same(before, after) => "changed",
                _ => continue,
            };
            changes.push(FileChange {
                path: format!("{place}{path}"),
                change,
                part: after.or(before).map(|entry| entry.part.clone()).unwrap_or_default(),
                old_bytes: before.map_or(0, |entry| entry.bytes),
                new_bytes: after.map_or(0, |entry| entry.bytes),
            });
        }
    }
    changes
}

fn same(left: &ReportEntry, right: &ReportEntry) -> bool {
    left.kind == right.kind
        && left.mode == right.mode
        && left.sha256 == right.sha256
        && left.target == right.target
}
