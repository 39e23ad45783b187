//! Kernel modules: those that the parts ask for, all that they depend on, and the indexes
//! that kmod reads instead of searching.
//!
//! The indexes describe only the modules that are in the tree, as `depmod` run inside
//! the finished image would.

use std::collections::BTreeMap;

use goblin::elf::Elf;

use super::ComposeError;
use super::composer::Composer;
use super::module::Module;
use super::module_index::{Index, text_indexes};
use super::packages::{compile, is_glob};
use crate::formats::tree::{Content, Entry, Node, Origin, TreePath};
use crate::manifest::Part;

const MODULES_FOLDER: &str = "usr/lib/modules";

/// Adds the modules that the parts list, with dependencies and indexes.
///
/// # Errors
/// [`ComposeError::NoSuchModule`].
pub fn add(
    composer: &mut Composer<'_>,
    parts: &BTreeMap<String, Part>,
) -> Result<(), ComposeError> {
    let available = available(composer);
    let mut taken: BTreeMap<String, Module> = BTreeMap::new();
    for (part_name, part) in parts {
        for wanted in &part.modules {
            for name in named(part_name, wanted, &available)? {
                let reason =
                    if is_glob(wanted) { format!("matches {wanted}") } else { "listed".into() };
                take(composer, part_name, name, &reason, &available, &mut taken)?;
            }
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    write_indexes(composer, &taken)
}

/// Every module of the locked kernel: name with underscores to path.
fn available(composer: &Composer<'_>) -> BTreeMap<String, TreePath> {
    composer
        .packages
        .iter()
        .filter(|(path, _)| path.as_str().starts_with(MODULES_FOLDER))
        .filter_map(|(path, _)| Some((kernel_name(path.name().strip_suffix(".ko")?), path.clone())))
        .collect()
}

fn kernel_name(file: &str) -> String {
    file.replace('-', "_")
}

fn named<'a>(
    part: &str,
    wanted: &str,
    available: &'a BTreeMap<String, TreePath>,
) -> Result<Vec<&'a str>, ComposeError> {
    let matcher = compile(&kernel_name(wanted)).map_err(|source| ComposeError::Glob {
        part: part.into(),
        glob: wanted.into(),
        source,
    })?;
    let found: Vec<&str> =
        available.keys().map(String::as_str).filter(|name| matcher.is_match(name)).collect();
    if found.is_empty() {
        let nearest = available
            .keys()
            .map(|name| (strsim::jaro_winkler(&kernel_name(wanted), name), name))
            .max_by(|left, right| left.0.total_cmp(&right.0));
        let hint = nearest.map_or_else(String::new, |(_, name)| format!(" (nearest: {name})"));
        return Err(ComposeError::NoSuchModule { part: part.into(), module: wanted.into(), hint });
    }
    Ok(found)
}

fn take(
    composer: &mut Composer<'_>,
    part: &str,
    name: &str,
    reason: &str,
    available: &BTreeMap<String, TreePath>,
    taken: &mut BTreeMap<String, Module>,
) -> Result<(), ComposeError> {
    let mut open = vec![(name.to_owned(), reason.to_owned())];
    while let Some((name, reason)) = open.pop() {
        // What is not a file is built into the kernel.
        let Some(path) = available.get(&name) else { continue };
        if taken.contains_key(&name) {
            continue;
        }
        composer.take(part, path, &reason)?;
        let Some(content) = composer.packages.content(path) else { continue };
        let module = parse(&name, path, content)?;
        for needed in &module.depends {
            open.push((needed.clone(), format!("module needed by {name}")));
        }
        for softdep in &module.softdeps {
            let earlier = softdep.split("post:").next().unwrap_or_default();
            for needed in earlier.split_whitespace().filter(|word| *word != "pre:") {
                open.push((kernel_name(needed), format!("module preferred by {name}")));
            }
        }
        taken.insert(name, module);
    }
    Ok(())
}

fn parse(name: &str, path: &TreePath, content: &Content) -> Result<Module, ComposeError> {
    let failed = |source| ComposeError::Read { path: path.clone(), source };
    let damaged = |text: &str| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
    let bytes = content.read().map_err(failed)?;
    let elf = Elf::parse(&bytes).map_err(|_| damaged("the module is not an ELF file"))?;
    let section = elf
        .section_headers
        .iter()
        .find(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(".modinfo"))
        .and_then(goblin::elf::SectionHeader::file_range)
        .and_then(|range| bytes.get(range))
        .ok_or_else(|| damaged("the module has no .modinfo section"))?;
    let mut module = Module {
        name: name.to_owned(),
        relative: path.as_str().split('/').skip(4).collect::<Vec<_>>().join("/"),
        depends: Vec::new(),
        aliases: Vec::new(),
        softdeps: Vec::new(),
    };
    for field in section.split(|byte| *byte == 0) {
        let field = String::from_utf8_lossy(field);
        match field.split_once('=') {
            Some(("depends", names)) => {
                let names = names.split(',').filter(|name| !name.is_empty());
                module.depends = names.map(kernel_name).collect();
            }
            Some(("alias", alias)) => module.aliases.push(alias.to_owned()),
            Some(("softdep", text)) => module.softdeps.push(text.to_owned()),
            _ => {}
        }
    }
    Ok(module)
}

fn write_indexes(
    composer: &mut Composer<'_>,
    modules: &BTreeMap<String, Module>,
) -> Result<(), ComposeError> {
    let Some(folder) = release_folder(composer) else { return Ok(()) };
    let package = |name: &str| -> Result<String, ComposeError> {
        let path = folder.join(name)?;
        let Some(content) = composer.packages.content(&path) else { return Ok(String::new()) };
        let bytes = content.read().map_err(|source| ComposeError::Read { path, source })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let order = package("modules.order")?;
    let builtin = package("modules.builtin")?;
    let builtin_info = package("modules.builtin.modinfo")?;
    let mut files = text_indexes(modules, &order);
    files.push(("modules.builtin.bin", Index::of_builtin(&builtin).to_bytes()));
    files.push(("modules.builtin.alias.bin", Index::of_builtin_aliases(&builtin_info).to_bytes()));
    files.push(("modules.builtin", builtin.into_bytes()));
    for (name, bytes) in files {
        let origin = Origin {
            part: "generated".into(),
            reason: "index of the kernel modules in this image".into(),
            ..Origin::default()
        };
        let file = Node::File(Content::from_bytes(bytes));
        composer.put(folder.join(name)?, Entry::new(file, 0o644, origin))?;
    }
    Ok(())
}

/// `usr/lib/modules/RELEASE` of the modules in the tree.
fn release_folder(composer: &Composer<'_>) -> Option<TreePath> {
    let module = composer.tree().iter().find(|(path, _)| path.as_str().ends_with(".ko"))?.0;
    let names: Vec<&str> = module.as_str().split('/').take(4).collect();
    TreePath::parse(&names.join("/")).ok()
}
