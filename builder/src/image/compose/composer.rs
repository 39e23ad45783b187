//! The tree while it grows: one place that knows which part gave which path.
//!
//! **Invariant:** every entry has a part and a reason, no path has two givers, and every
//! parent of an entry is a folder of the tree.

use std::collections::{BTreeMap, BTreeSet};

use super::ComposeError;
use super::packages::Packages;
use crate::formats::tree::{Entry, Node, Origin, Tree, TreePath};

/// A tree with what the audit has to know about it.
#[derive(Debug, Default)]
pub struct Composed {
    /// The tree.
    pub tree: Tree,
    /// Executables that the manifest gives by their full name.
    pub admitted: BTreeSet<TreePath>,
    /// Labels that the manifest gives, by path; none for a tree without labels.
    pub labels: Option<BTreeMap<TreePath, String>>,
}

/// Grows a tree part by part.
pub struct Composer<'a> {
    /// What may be taken.
    pub packages: &'a Packages,
    composed: Composed,
}

impl<'a> Composer<'a> {
    /// An empty tree with only the root folder.
    pub fn new(packages: &'a Packages) -> Self {
        let mut composed = Composed::default();
        let origin =
            Origin { part: "generated".into(), reason: "root folder".into(), ..Origin::default() };
        composed.tree.insert(TreePath::root(), Entry::new(Node::Directory, 0o755, origin));
        Self { packages, composed }
    }

    /// The tree so far.
    pub fn tree(&self) -> &Tree {
        &self.composed.tree
    }

    /// The tree so far, to be changed in place.
    pub fn tree_mut(&mut self) -> &mut Tree {
        &mut self.composed.tree
    }

    /// Ends the growth.
    pub fn finish(self) -> Composed {
        self.composed
    }

    /// Lets an executable pass the audit: the manifest gives it by its full name.
    pub fn admit(&mut self, path: TreePath) {
        self.composed.admitted.insert(path);
    }

    /// Lets the audit ask for a label on every entry, of one of these types.
    pub fn expect_labels(&mut self, labels: BTreeMap<TreePath, String>) {
        self.composed.labels = Some(labels);
    }

    /// Puts an entry and the folders above it into the tree, in memory.
    ///
    /// # Errors
    /// [`ComposeError::TwoParts`] when another part gave the path.
    pub fn put(&mut self, path: TreePath, entry: Entry) -> Result<(), ComposeError> {
        if let Some(present) = self.composed.tree.entry(&path) {
            let both_folders = present.node == Node::Directory && entry.node == Node::Directory;
            let same_giver = present.origin.part == entry.origin.part && present.node == entry.node;
            if both_folders || same_giver {
                return Ok(());
            }
            return Err(ComposeError::TwoParts {
                path,
                first: present.origin.part.clone(),
                second: entry.origin.part.clone(),
            });
        }
        self.put_parents(&path, &entry.origin)?;
        self.composed.tree.insert(path, entry);
        Ok(())
    }

    /// Copies a package's entry; a hard link becomes the file that it names.
    ///
    /// # Errors
    /// When two packages give the path differently, or two parts take it.
    pub fn take(&mut self, part: &str, path: &TreePath, reason: &str) -> Result<(), ComposeError> {
        if let Some(contested) = self.packages.contested(path) {
            return Err(ComposeError::ContestedByPackages {
                part: part.into(),
                path: path.clone(),
                first: contested.first,
                second: contested.second,
            });
        }
        let Some(entry) = self.packages.entry(path) else {
            return Err(ComposeError::NoSuchFile {
                part: part.into(),
                glob: path.to_string(),
                hint: String::new(),
            });
        };
        let mut entry = entry.clone();
        if let (Node::HardLink(_), Some(content)) = (&entry.node, self.packages.content(path)) {
            entry.node = Node::File(content.clone());
        }
        entry.origin.part = part.into();
        entry.origin.reason = reason.into();
        self.put(path.clone(), entry)
    }

    fn put_parents(&mut self, path: &TreePath, origin: &Origin) -> Result<(), ComposeError> {
        for parent in path.ancestors() {
            match self.composed.tree.entry(&parent).map(|entry| &entry.node) {
                Some(Node::Directory) => {}
                Some(_) => {
                    return Err(ComposeError::NotAFolder {
                        path: parent,
                        part: origin.part.clone(),
                    });
                }
                None => {
                    let reason = format!("folder of {path}");
                    let folder = Origin { reason, ..origin.clone() };
                    self.composed.tree.insert(parent, Entry::new(Node::Directory, 0o755, folder));
                }
            }
        }
        Ok(())
    }
}
