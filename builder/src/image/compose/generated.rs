//! Files that the builder writes itself: os-release, accounts, the unit preset.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::composer::Composer;
use super::{ComposeError, Naming};
use crate::formats::tree::{Content, Entry, Node, Origin, TreePath};
use crate::manifest::{Manifest, User};

/// Adds all generated files.
///
/// # Errors
/// When a part gives one of them too, or two accounts share a number.
pub fn add(
    composer: &mut Composer<'_>,
    manifest: &Manifest,
    naming: &Naming,
) -> Result<(), ComposeError> {
    let (passwd, group) = accounts(&manifest.users)?;
    let enabled = manifest.parts.values().flat_map(|part| part.enable.iter());
    let mut preset = String::from("# Only what the manifest enables; nothing else starts.\n");
    for unit in enabled {
        preset = preset + "enable " + unit + "\n";
    }
    preset.push_str("disable *\n");
    let files = [
        ("usr/lib/os-release", os_release(manifest, Some(naming)), "names image and version"),
        ("etc/passwd", passwd, "accounts of the manifest"),
        ("etc/group", group, "accounts of the manifest"),
        ("usr/lib/systemd/system-preset/00-slipway.preset", preset, "units of the manifest"),
    ];
    for (path, text, reason) in files {
        let file = Node::File(Content::from_bytes(text.into_bytes()));
        composer.put(TreePath::parse(path)?, Entry::new(file, 0o644, origin(reason)))?;
    }
    let link = Node::Symlink("../usr/lib/os-release".into());
    let path = TreePath::parse("etc/os-release")?;
    composer.put(path, Entry::new(link, 0o777, origin("names image and version")))
}

fn origin(reason: &str) -> Origin {
    Origin { part: "generated".into(), reason: reason.into(), ..Origin::default() }
}

/// os-release(5). Without `naming` it carries no version: systemd-boot then orders the
/// UKIs by their file names, which is what a rollback relies on.
pub fn os_release(manifest: &Manifest, naming: Option<&Naming>) -> String {
    let name = &manifest.image.name;
    let mut text = format!("ID=slipway\nNAME=Slipway\nIMAGE_ID={name}\nDEFAULT_HOSTNAME=node\n");
    let Some(naming) = naming else {
        return text + "PRETTY_NAME=\"Slipway\"\n";
    };
    let version = &naming.version;
    let mark = if naming.development { " (development build, throw-away keys)" } else { "" };
    let variant = if naming.development { "VARIANT_ID=development\n" } else { "" };
    // Writing to a String does not fail.
    write!(
        text,
        "VERSION_ID={version}\nIMAGE_VERSION={version}\n{variant}PRETTY_NAME=\"Slipway {name} {version}{mark}\"\n"
    )
    .unwrap_or_default();
    text
}

/// `/etc/passwd` and `/etc/group`: root, nobody and what the manifest names; nobody can
/// log in, and there is no shell to do it with.
fn accounts(users: &BTreeMap<String, User>) -> Result<(String, String), ComposeError> {
    let mut by_number: BTreeMap<u32, (&str, &str, bool)> = BTreeMap::new();
    by_number.insert(0, ("root", "System administrator", false));
    by_number.insert(65534, ("nobody", "Unprivileged", false));
    for (name, user) in users {
        let account = (name.as_str(), user.comment.as_str(), user.group_only);
        if let Some((other, ..)) = by_number.insert(user.id, account) {
            return Err(ComposeError::AccountNumber { first: other.into(), second: name.clone() });
        }
    }
    let (mut passwd, mut group) = (String::new(), String::new());
    for (id, (name, comment, group_only)) in by_number {
        let home = if id == 0 { "/root" } else { "/" };
        // Field separators would start another field.
        let comment = comment.replace([':', '\n'], " ");
        if !group_only {
            passwd += &format!("{name}:x:{id}:{id}:{comment}:{home}:/usr/sbin/nologin\n");
        }
        let group_name = if id == 65534 { "nogroup" } else { name };
        group += &format!("{group_name}:x:{id}:\n");
    }
    Ok((passwd, group))
}
