//! One part of the manifest into the tree: listed files, its tree folder, links, folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::composer::Composer;
use super::packages::{compile, is_glob};
use super::{BuiltFile, ComposeError};
use crate::formats::tree::{Content, Entry, Node, Origin, TreePath};
use crate::manifest::Part;

/// Most files in a part's tree folder.
const MAX_TREE_FILES: usize = 10_000;

/// Largest file in a part's tree folder, in bytes.
const MAX_TREE_FILE_BYTES: u64 = 64 << 20;

/// Adds everything that a part gives, except kernel modules, units and modes.
///
/// # Errors
/// [`ComposeError`], which names part and path.
pub fn add(composer: &mut Composer<'_>, name: &str, part: &Part) -> Result<(), ComposeError> {
    for listed in &part.files {
        add_listed(composer, name, listed)?;
    }
    if let Some(folder) = &part.tree {
        add_tree(composer, name, &part.resolve(folder))?;
    }
    for path in &part.directories {
        composer.put(path.clone(), Entry::new(Node::Directory, 0o755, listed_by(name)))?;
    }
    for (path, target) in &part.links {
        let link = Node::Symlink(target.clone());
        composer.put(path.clone(), Entry::new(link, 0o777, listed_by(name)))?;
    }
    for (path, glob) in &part.concatenate {
        concatenate(composer, name, path, glob)?;
    }
    Ok(())
}

/// Adds a file that was built or downloaded for the part.
///
/// # Errors
/// [`ComposeError::TwoParts`].
pub fn add_built(
    composer: &mut Composer<'_>,
    name: &str,
    built: &BuiltFile,
) -> Result<(), ComposeError> {
    let origin = Origin {
        part: name.into(),
        package: built.package.clone(),
        version: built.version.clone(),
        reason: "listed".into(),
    };
    let mode = if built.executable { 0o755 } else { 0o644 };
    if built.executable {
        composer.admit(built.path.clone());
    }
    composer.put(built.path.clone(), Entry::new(Node::File(built.content.clone()), mode, origin))
}

/// Replaces permission bits, in the tree, as the parts' `modes` say.
///
/// # Errors
/// [`ComposeError::ModeOfNothing`].
pub fn set_modes(
    composer: &mut Composer<'_>,
    parts: &BTreeMap<String, Part>,
) -> Result<(), ComposeError> {
    for (name, part) in parts {
        for (path, mode) in &part.modes {
            let nothing = || ComposeError::ModeOfNothing { part: name.clone(), path: path.clone() };
            let entry = composer.tree_mut().entry_mut(path).ok_or_else(nothing)?;
            entry.mode = *mode;
        }
    }
    Ok(())
}

fn listed_by(part: &str) -> Origin {
    Origin { part: part.into(), reason: "listed".into(), ..Origin::default() }
}

fn add_listed(composer: &mut Composer<'_>, part: &str, text: &str) -> Result<(), ComposeError> {
    if is_glob(text) {
        return add_matching(composer, part, text);
    }
    let path = TreePath::parse(text)?;
    match composer.packages.entry(&path).map(|entry| &entry.node) {
        None => Err(no_such_file(composer, part, text)),
        Some(Node::Directory) => Err(ComposeError::Folder { part: part.into(), path }),
        Some(_) => {
            composer.admit(path.clone());
            composer.take(part, &path, "listed")
        }
    }
}

fn add_matching(composer: &mut Composer<'_>, part: &str, glob: &str) -> Result<(), ComposeError> {
    let matcher = matcher(part, glob)?;
    let found: Vec<TreePath> = composer.packages.matching(&matcher).cloned().collect();
    if found.is_empty() {
        return Err(no_such_file(composer, part, glob));
    }
    for path in found {
        composer.take(part, &path, &format!("matches {glob}"))?;
    }
    Ok(())
}

fn matcher(part: &str, glob: &str) -> Result<globset::GlobMatcher, ComposeError> {
    compile(glob).map_err(|source| ComposeError::Glob {
        part: part.into(),
        glob: glob.into(),
        source,
    })
}

fn no_such_file(composer: &Composer<'_>, part: &str, listed: &str) -> ComposeError {
    let wanted = listed.rsplit('/').next().unwrap_or(listed);
    let best = composer
        .packages
        .iter()
        .map(|(path, _)| (strsim::jaro_winkler(wanted, path.name()), path))
        .filter(|(score, _)| *score > 0.85)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    let hint = best.map_or_else(String::new, |(_, path)| format!(" (did you mean {path}?)"));
    ComposeError::NoSuchFile { part: part.into(), glob: listed.into(), hint }
}

fn concatenate(
    composer: &mut Composer<'_>,
    part: &str,
    path: &TreePath,
    glob: &str,
) -> Result<(), ComposeError> {
    let matcher = matcher(part, glob)?;
    let mut bytes = Vec::new();
    let mut origin = Origin { reason: format!("all of {glob}"), ..listed_by(part) };
    for source in composer.packages.matching(&matcher) {
        let Some(content) = composer.packages.content(source) else { continue };
        let failed = |error| ComposeError::Read { path: source.clone(), source: error };
        bytes.append(&mut content.read().map_err(failed)?);
        if bytes.last() != Some(&b'\n') {
            bytes.push(b'\n');
        }
        if let Some(entry) = composer.packages.entry(source) {
            origin.package.clone_from(&entry.origin.package);
            origin.version.clone_from(&entry.origin.version);
        }
    }
    if bytes.is_empty() {
        return Err(no_such_file(composer, part, glob));
    }
    composer.put(path.clone(), Entry::new(Node::File(Content::from_bytes(bytes)), 0o644, origin))
}

/// Copies a folder of the repository; owner, times and permission bits of the building
/// host do not enter.
fn add_tree(composer: &mut Composer<'_>, part: &str, folder: &Path) -> Result<(), ComposeError> {
    let mut open = vec![(folder.to_owned(), TreePath::root())];
    let mut count = 0;
    while let Some((folder, below)) = open.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(&folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(|error| unreadable(part, &folder, &error))?;
        entries.sort();
        for file in entries {
            count += 1;
            if count > MAX_TREE_FILES {
                return Err(tree_file(part, &folder, "holds more than 10,000 files: check `tree`"));
            }
            let name = file.file_name().and_then(|name| name.to_str());
            let name =
                name.ok_or_else(|| tree_file(part, &file, "has no UTF-8 name: rename it"))?;
            let path = below.join(name)?;
            let kind =
                fs::symlink_metadata(&file).map_err(|error| unreadable(part, &file, &error))?;
            if kind.is_dir() {
                open.push((file, path));
            } else {
                let (node, mode) = tree_node(part, &file, &kind)?;
                composer.put(path, Entry::new(node, mode, listed_by(part)))?;
            }
        }
    }
    Ok(())
}

fn tree_node(part: &str, file: &Path, kind: &fs::Metadata) -> Result<(Node, u16), ComposeError> {
    if kind.is_symlink() {
        let target = fs::read_link(file).map_err(|error| unreadable(part, file, &error))?;
        let target = target.to_str().ok_or_else(|| {
            tree_file(part, file, "is a link to a name that is not UTF-8: correct it")
        })?;
        return Ok((Node::Symlink(target.into()), 0o777));
    }
    if !kind.is_file() {
        return Err(tree_file(part, file, "is neither file, folder nor link: remove it"));
    }
    if kind.len() > MAX_TREE_FILE_BYTES {
        return Err(tree_file(part, file, "is larger than 64 MiB: give it by URL instead"));
    }
    let bytes = fs::read(file).map_err(|error| unreadable(part, file, &error))?;
    Ok((Node::File(Content::from_bytes(bytes)), 0o644))
}

fn tree_file(part: &str, file: &Path, problem: &str) -> ComposeError {
    ComposeError::TreeFile { part: part.into(), file: file.into(), problem: problem.into() }
}

fn unreadable(part: &str, file: &Path, error: &std::io::Error) -> ComposeError {
    tree_file(part, file, &format!("cannot be read ({error}): check the path and its permissions"))
}
