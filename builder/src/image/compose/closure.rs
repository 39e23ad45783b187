//! The ELF closure: every shared library that a program in the tree would load.
//!
//! In: a tree with programs. Out: the same tree with their libraries and dynamic linker.
//! Libraries that are opened by name at run time (`dlopen`) are not found here: their
//! part lists them.

use std::collections::VecDeque;

use super::composer::Composer;
use super::elf::{self, Linking};
use super::{ComposeError, LIBRARY_FOLDERS};
use crate::formats::tree::{Node, Origin, TreePath};

/// Adds the libraries of everything that is in the tree.
///
/// # Errors
/// [`ComposeError::NoSuchLibrary`] when no locked package has one.
pub fn add_libraries(composer: &mut Composer<'_>) -> Result<(), ComposeError> {
    let mut open: VecDeque<TreePath> = composer
        .tree()
        .iter()
        .filter(|(_, entry)| matches!(entry.node, Node::File(_)))
        .map(|(path, _)| path.clone())
        .collect();
    while let Some(path) = open.pop_front() {
        let Some((linking, origin)) = linking_of(composer, &path)? else { continue };
        for library in &linking.needed {
            let found = locate(composer, &path, &linking, library).ok_or_else(|| {
                ComposeError::NoSuchLibrary {
                    path: path.clone(),
                    library: library.clone(),
                    part: origin.part.clone(),
                }
            })?;
            open.extend(add_chain(composer, &origin, &found, &format!("library of {path}"))?);
        }
        if let Some(interpreter) = &linking.interpreter {
            let wanted = TreePath::parse(interpreter)?;
            let found = composer.packages.resolve(&usr_merged(&wanted)?);
            let found = found.ok_or_else(|| ComposeError::NoSuchLibrary {
                path: path.clone(),
                library: interpreter.clone(),
                part: origin.part.clone(),
            })?;
            let reason = format!("dynamic linker of {path}");
            add_chain(composer, &origin, &usr_merged(&wanted)?, &reason)?;
            composer.admit(found);
        }
    }
    Ok(())
}

fn linking_of(
    composer: &Composer<'_>,
    path: &TreePath,
) -> Result<Option<(Linking, Origin)>, ComposeError> {
    let Some(entry) = composer.tree().entry(path) else { return Ok(None) };
    let Node::File(content) = &entry.node else { return Ok(None) };
    // A kernel module is ELF without dynamic linking.
    if path.as_str().ends_with(".ko") {
        return Ok(None);
    }
    let linking = elf::linking(content)
        .map_err(|source| ComposeError::Read { path: path.clone(), source })?;
    Ok(linking.map(|linking| (linking, entry.origin.clone())))
}

/// `/lib64/x` as `/usr/lib64/x`: packages are read with /usr merged.
fn usr_merged(path: &TreePath) -> Result<TreePath, ComposeError> {
    let merged = ["bin/", "sbin/", "lib/", "lib64/"];
    if merged.iter().any(|folder| path.as_str().starts_with(folder)) {
        return Ok(TreePath::parse(&format!("usr/{}", path.as_str()))?);
    }
    Ok(path.clone())
}

/// The files that the dynamic linker would try, in its order: run path, then the default
/// folders (ld.so(8)). A library of a private folder comes last in line for its
/// neighbours: the program that loads it has that folder in its own run path.
pub fn candidates(path: &TreePath, linking: &Linking, library: &str) -> Vec<TreePath> {
    let origin = path.parent().unwrap_or_else(TreePath::root).to_string();
    let own = linking
        .search
        .iter()
        .map(|folder| folder.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin));
    own.chain(LIBRARY_FOLDERS.iter().map(|folder| (*folder).to_owned()))
        .chain((!linking.program).then(|| origin.clone()))
        .filter_map(|folder| TreePath::parse(&format!("{folder}/{library}")).ok())
        .filter_map(|path| usr_merged(&path).ok())
        .collect()
}

fn locate(
    composer: &Composer<'_>,
    path: &TreePath,
    linking: &Linking,
    library: &str,
) -> Option<TreePath> {
    candidates(path, linking, library).into_iter().find(|candidate| {
        let inside = composer.tree().resolve(candidate).is_some();
        inside || composer.packages.resolve(candidate).is_some()
    })
}

/// Adds a library under the name that is asked for and every link on the way to the
/// file; gives the file's path when it is new.
fn add_chain(
    composer: &mut Composer<'_>,
    origin: &Origin,
    first: &TreePath,
    reason: &str,
) -> Result<Option<TreePath>, ComposeError> {
    const MAX_LINKS: usize = 8;
    let mut path = first.clone();
    for _ in 0..MAX_LINKS {
        let is_new = !composer.tree().contains(&path);
        if is_new {
            composer.take(&origin.part, &path, reason)?;
        }
        let Some(entry) = composer.tree_mut().entry_mut(&path) else { break };
        match &entry.node {
            Node::Symlink(target) => path = usr_merged(&path.resolve_link(target))?,
            _ => {
                // Debian marks libc and the dynamic linker executable; only the latter,
                // whose reason says so, has to be.
                if is_new && !reason.starts_with("dynamic linker") {
                    entry.mode &= !0o111;
                }
                if reason.starts_with("dynamic linker") {
                    entry.mode = 0o755;
                }
                return Ok(is_new.then_some(path));
            }
        }
    }
    Ok(None)
}
