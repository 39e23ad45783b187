//! Enabling units: the links that `systemctl enable` would make, made while composing,
//! because /etc is read-only on the node.

use std::collections::BTreeMap;

use super::composer::Composer;
use super::{ComposeError, file_at};
use crate::formats::tree::{Entry, Node, Origin, TreePath};
use crate::manifest::Part;

const UNIT_FOLDERS: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

/// Largest unit file that is read, in bytes.
const MAX_UNIT_BYTES: u64 = 1 << 20;

/// Makes the links for every unit that a part enables.
///
/// # Errors
/// [`ComposeError::Unit`] for a unit that is not in the tree or says nothing of where it
/// belongs.
pub fn enable(
    composer: &mut Composer<'_>,
    parts: &BTreeMap<String, Part>,
) -> Result<(), ComposeError> {
    for (part, unit) in
        parts.iter().flat_map(|(name, part)| part.enable.iter().map(move |unit| (name, unit)))
    {
        enable_unit(composer, part, unit)?;
    }
    Ok(())
}

fn enable_unit(composer: &mut Composer<'_>, part: &str, unit: &str) -> Result<(), ComposeError> {
    let wrong = |problem| ComposeError::Unit { part: part.into(), unit: unit.into(), problem };
    let mut found = None;
    for folder in UNIT_FOLDERS {
        let path = TreePath::parse(&format!("{folder}/{unit}"))?;
        if let Some(content) = file_at(composer, &path) {
            found = Some((path, content.clone()));
            break;
        }
    }
    let Some((path, content)) = found else { return Err(wrong("is not in the image")) };
    if content.size() > MAX_UNIT_BYTES {
        return Err(wrong("is larger than 1 MiB"));
    }
    let bytes =
        content.read().map_err(|source| ComposeError::Read { path: path.clone(), source })?;
    let install = Install::parse(&String::from_utf8_lossy(&bytes));
    if install.links.is_empty() && install.aliases.is_empty() {
        return Err(wrong("has no WantedBy=, RequiredBy= or Alias= in [Install]"));
    }
    let links = install.links.iter().map(|(target, kind)| format!("{target}.{kind}/{unit}"));
    for link in links.chain(install.aliases.iter().cloned()) {
        let origin =
            Origin { part: part.into(), reason: format!("enables {unit}"), ..Origin::default() };
        let link = TreePath::parse(&format!("etc/systemd/system/{link}"))?;
        let target = Node::Symlink(path.to_string());
        composer.put(link, Entry::new(target, 0o777, origin))?;
    }
    Ok(())
}

/// The `[Install]` section.
#[derive(Debug, Default, PartialEq, Eq)]
struct Install {
    /// Target and `wants` or `requires`.
    links: Vec<(String, &'static str)>,
    aliases: Vec<String>,
}

impl Install {
    fn parse(text: &str) -> Self {
        let mut install = Self::default();
        let mut inside = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                inside = line == "[Install]";
            } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
                let words = value.split_whitespace().map(str::to_owned);
                match key.trim() {
                    "WantedBy" => install.links.extend(words.map(|word| (word, "wants"))),
                    "RequiredBy" => install.links.extend(words.map(|word| (word, "requires"))),
                    "Alias" => install.aliases.extend(words),
                    _ => {}
                }
            }
        }
        install
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_install_section_counts() {
        let text = "[Unit]\nWantedBy=no.target\n[Install]\n# x\nWantedBy=a.target b.target\nAlias=c.service\n";
        let install = Install::parse(text);
        assert_eq!(install.links, [("a.target".into(), "wants"), ("b.target".into(), "wants")]);
        assert_eq!(install.aliases, ["c.service"]);
    }
}
