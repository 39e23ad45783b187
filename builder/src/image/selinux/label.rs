//! Labels: `security.selinux` on every entry of the root.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Policy;
use super::compile::FORMAT;
use crate::formats::tree::{Content, Entry, Node, Origin, TreePath};
use crate::image::compose::{ComposeError, Composer};
use crate::manifest::{Manifest, Selinux, SelinuxState};

/// The extended attribute that holds a label.
pub const ATTRIBUTE: &str = "security.selinux";

/// Where the node looks for the policy of that name in `/etc/selinux/config`.
const FOLDER: &str = "etc/selinux/slipway";

/// The type of an entry's label, when it has one.
pub fn label_type(entry: &Entry) -> Option<&str> {
    let text = std::str::from_utf8(entry.xattrs.get(ATTRIBUTE)?).ok()?;
    text.trim_end_matches('\0').split(':').nth(2)
}

/// The labels as statements of the policy, so that the compiler checks that each type exists.
pub fn as_policy(selinux: &Selinux) -> String {
    let mut text = String::new();
    for (path, label) in &selinux.labels {
        // Names in a file_contexts are regular expressions.
        let exact = path.to_string().replace('.', "\\.").replace('+', "\\+");
        // Writing to a String does not fail.
        writeln!(text, "(filecon \"{exact}\" any (system_u object_r {label} ((s0) (s0))))")
            .unwrap_or_default();
    }
    text
}

/// Puts policy and configuration into the tree, then a label on every entry.
///
/// # Errors
/// [`ComposeError`]: a part gives one of the files too, or a label is for nothing.
pub fn add(
    composer: &mut Composer<'_>,
    selinux: &Selinux,
    policy: &Policy,
) -> Result<(), ComposeError> {
    let state = match selinux.state {
        SelinuxState::Labelled => "disabled",
        SelinuxState::Permissive => "permissive",
        SelinuxState::Enforcing => "enforcing",
    };
    let config = format!("SELINUX={state}\nSELINUXTYPE=slipway\n");
    let files = [
        ("etc/selinux/config".to_owned(), config.into_bytes(), "state of [selinux]"),
        (format!("{FOLDER}/policy/policy.{FORMAT}"), policy.binary.clone(), "policy of [selinux]"),
        (
            format!("{FOLDER}/contexts/files/file_contexts"),
            policy.file_contexts.clone(),
            "policy of [selinux]",
        ),
    ];
    for (path, bytes, reason) in files {
        let origin =
            Origin { part: "generated".into(), reason: reason.into(), ..Origin::default() };
        let file = Node::File(Content::from_bytes(bytes));
        composer.put(TreePath::parse(&path)?, Entry::new(file, 0o644, origin))?;
    }
    Ok(())
}

/// Labels every entry of the finished tree: the label of the nearest path above it that has one.
///
/// # Errors
/// [`ComposeError::LabelOfNothing`].
pub fn label_all(
    composer: &mut Composer<'_>,
    manifest: &Manifest,
    selinux: &Selinux,
) -> Result<(), ComposeError> {
    for path in selinux.labels.keys() {
        // A manifest that leaves parts out keeps the labels of the one that it extends.
        if manifest.chain.len() == 1 && !composer.tree().contains(path) {
            return Err(ComposeError::LabelOfNothing { path: path.clone() });
        }
    }
    let paths: Vec<TreePath> = composer.tree().iter().map(|(path, _)| path.clone()).collect();
    for path in paths {
        let Some(label) = nearest(&selinux.labels, &path) else { continue };
        let value = format!("system_u:object_r:{label}:s0\0").into_bytes();
        if let Some(entry) = composer.tree_mut().entry_mut(&path) {
            entry.xattrs.insert(ATTRIBUTE.into(), value);
        }
    }
    composer.expect_labels(selinux.labels.clone());
    Ok(())
}

fn nearest<'a>(labels: &'a BTreeMap<TreePath, String>, path: &TreePath) -> Option<&'a String> {
    std::iter::successors(Some(path.clone()), TreePath::parent).find_map(|path| labels.get(&path))
}
