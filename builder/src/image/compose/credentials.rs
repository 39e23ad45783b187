//! Cuts imports of credentials out of units that come from packages: what systemd would import is
//! signed by nobody (ADR 22).
//!
//! In: a tree. Out: the same, with shorter units that say so in their reason. Units of this
//! repository stay as they are: the audit finds an import there.

use super::ComposeError;
use super::composer::Composer;
use crate::formats::tree::{Content, Node, TreePath};

/// Where units are.
const UNIT_FOLDERS: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];
/// Keys that make systemd hand a credential from outside to a service (systemd.exec(5)).
const IMPORTS: [&str; 3] = ["ImportCredential", "LoadCredential", "LoadCredentialEncrypted"];
/// Largest unit that is read, in bytes; a larger one is a finding of the audit.
const MAX_UNIT_BYTES: u64 = 1 << 20;

/// Is this a file that systemd reads as a unit, or as a part of one?
pub fn is_unit(path: &TreePath) -> bool {
    UNIT_FOLDERS
        .iter()
        .any(|folder| path.as_str().strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
}

/// The lines of a unit that import a credential.
pub fn imports(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| is_import(line))
}

fn is_import(line: &str) -> bool {
    let key = line.split_once('=').map(|(key, _)| key.trim());
    key.is_some_and(|key| IMPORTS.contains(&key))
}

/// The text of a unit; none for one that is no text, or too large.
///
/// # Errors
/// When its content cannot be read.
pub fn text_of(content: &Content) -> std::io::Result<Option<String>> {
    if content.size() > MAX_UNIT_BYTES {
        return Ok(None);
    }
    Ok(String::from_utf8(content.read()?).ok())
}

/// Cuts the imports out of all units of packages, in the tree.
///
/// # Errors
/// [`ComposeError::Read`].
pub fn cut(composer: &mut Composer<'_>) -> Result<(), ComposeError> {
    let mut shorter = Vec::new();
    for (path, entry) in composer.tree().iter() {
        let Node::File(content) = &entry.node else { continue };
        if !is_unit(path) || entry.origin.package.is_empty() {
            continue;
        }
        let read = |source| ComposeError::Read { path: path.clone(), source };
        let Some(text) = text_of(content).map_err(read)? else { continue };
        if imports(&text).next().is_some() {
            let kept = text.split_inclusive('\n').filter(|line| !is_import(line));
            shorter.push((path.clone(), kept.collect::<String>()));
        }
    }
    for (path, text) in shorter {
        if let Some(entry) = composer.tree_mut().entry_mut(&path) {
            entry.node = Node::File(Content::from_bytes(text.into_bytes()));
            entry.origin.reason.push_str("; without its imports of credentials");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tree::{Entry, Origin, Tree};
    use crate::image::compose::Packages;

    const UNIT: &str = "[Service]\nExecStart=/x\nImportCredential=sysctl.*\n LoadCredential = a:b\n\
                        LoadCredentialEncrypted=c\n# ImportCredential=x\nSetCredential=d:e\n";
    const CUT: &str = "[Service]\nExecStart=/x\n# ImportCredential=x\nSetCredential=d:e\n";

    fn text_at(composer: &Composer<'_>, path: &str) -> String {
        match &composer.tree().entry(&TreePath::parse(path).unwrap()).unwrap().node {
            Node::File(content) => String::from_utf8(content.read().unwrap()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_units_of_packages_lose_their_imports() {
        let packages: Packages = std::iter::empty::<Tree>().collect();
        let mut composer = Composer::new(&packages);
        let (foreign, own) = ("usr/lib/systemd/system/a.service", "etc/systemd/system/b.d/c.conf");
        let other = "usr/share/doc/a.service";
        for (path, package) in [(foreign, "systemd"), (own, ""), (other, "systemd")] {
            let (part, package) = ("p".to_owned(), package.to_owned());
            let origin = Origin { part, package, reason: "listed".into(), ..Origin::default() };
            let file = Node::File(Content::from_bytes(UNIT.as_bytes()));
            let path = TreePath::parse(path).unwrap();
            composer.put(path, Entry::new(file, 0o644, origin)).unwrap();
        }
        cut(&mut composer).unwrap();
        assert_eq!(text_at(&composer, foreign), CUT);
        assert_eq!(text_at(&composer, own), UNIT);
        assert_eq!(text_at(&composer, other), UNIT);
        let entry = composer.tree().entry(&TreePath::parse(foreign).unwrap()).unwrap();
        assert_eq!(entry.origin.reason, "listed; without its imports of credentials");
    }
}
