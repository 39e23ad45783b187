//! The initrd's tree: what `[initrd]` lists, with libraries and kernel modules.

use std::collections::BTreeMap;

use super::composer::{Composed, Composer};
use super::{ComposeError, Packages, closure, credentials, generated, modules, part, units};
use crate::formats::tree::{Content, Entry, Node, Origin, TreePath};
use crate::manifest::Manifest;

/// Composes the initrd.
///
/// # Errors
/// [`ComposeError`], which names the path.
pub fn compose(manifest: &Manifest, packages: &Packages) -> Result<Composed, ComposeError> {
    let mut composer = Composer::new(packages);
    let parts = BTreeMap::from([("initrd".to_owned(), manifest.initrd.clone())]);
    part::add(&mut composer, "initrd", &manifest.initrd)?;
    modules::add(&mut composer, &parts)?;
    // systemd takes a root with this file for an initrd (initrd-release is os-release(5)).
    let origin =
        Origin { part: "generated".into(), reason: "marks the initrd".into(), ..Origin::default() };
    let text = generated::os_release(manifest, None);
    let file = Node::File(Content::from_bytes(text.into_bytes()));
    composer.put(TreePath::parse("etc/initrd-release")?, Entry::new(file, 0o644, origin))?;
    closure::add_libraries(&mut composer)?;
    part::set_modes(&mut composer, &parts)?;
    units::enable(&mut composer, &parts)?;
    credentials::cut(&mut composer)?;
    Ok(composer.finish())
}
