//! The files of all locked packages as one tree to choose from.
//!
//! In: one tree per package. Out: [`Packages`]. **Invariant:** a path that two packages
//! give differently is remembered and refused when a part asks for it.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};

use crate::formats::tree::{Content, Entry, Node, Tree, TreePath};

/// All files of all locked packages; nothing here enters an image by itself.
#[derive(Debug, Default)]
pub struct Packages {
    tree: Tree,
    /// Paths that two packages give, with the names of both.
    contested: BTreeMap<TreePath, (String, String)>,
}

/// Two packages that give the same path differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contested {
    /// First package.
    pub first: String,
    /// Second package.
    pub second: String,
}

impl FromIterator<Tree> for Packages {
    fn from_iter<T: IntoIterator<Item = Tree>>(trees: T) -> Self {
        let mut packages = Self::default();
        for (path, entry) in trees.into_iter().flatten() {
            if let Some(present) = packages.tree.entry(&path) {
                let folders = present.node == Node::Directory && entry.node == Node::Directory;
                if !folders && present.node != entry.node {
                    let names = (present.origin.package.clone(), entry.origin.package.clone());
                    packages.contested.insert(path, names);
                }
                continue;
            }
            packages.tree.insert(path, entry);
        }
        packages
    }
}

impl Packages {
    /// The entry at exactly this path.
    pub fn entry(&self, path: &TreePath) -> Option<&Entry> {
        self.tree.entry(path)
    }

    /// All entries in path order.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Entry)> {
        self.tree.iter()
    }

    /// Where `path` leads when all links are followed.
    pub fn resolve(&self, path: &TreePath) -> Option<TreePath> {
        self.tree.resolve(path)
    }

    /// The two packages that give this path differently, if any.
    pub fn contested(&self, path: &TreePath) -> Option<Contested> {
        let (first, second) = self.contested.get(path)?;
        Some(Contested { first: first.clone(), second: second.clone() })
    }

    /// The bytes of a regular file or of what a hard link names.
    pub fn content(&self, path: &TreePath) -> Option<&Content> {
        match &self.entry(path)?.node {
            Node::File(content) => Some(content),
            Node::HardLink(target) => match &self.entry(target)?.node {
                Node::File(content) => Some(content),
                _ => None,
            },
            _ => None,
        }
    }

    /// Paths of everything but folders that matches, in path order.
    pub fn matching<'a>(&'a self, glob: &'a GlobMatcher) -> impl Iterator<Item = &'a TreePath> {
        self.iter()
            .filter(|(path, entry)| entry.node != Node::Directory && glob.is_match(path.as_str()))
            .map(|(path, _)| path)
    }
}

/// True for a text with wildcards.
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// Compiles a glob whose `*` stays inside one folder; `**` crosses folders.
///
/// # Errors
/// When the text is not a glob.
pub fn compile(text: &str) -> Result<GlobMatcher, globset::Error> {
    let relative = text.trim_start_matches('/');
    Ok(GlobBuilder::new(relative).literal_separator(true).build()?.compile_matcher())
}
