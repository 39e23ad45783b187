//! kmod's module indexes: the text files and the tries that `libkmod` maps.
//!
//! The trie's layout is that of kmod's `libkmod-index.h`: a big-endian header of magic,
//! version and root offset; then nodes, each after its children. The upper bits of a
//! node's offset say which of prefix, children and values it has.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::module::{Module, dependencies};

const MAGIC: u32 = 0xB007_F457;
const VERSION: u32 = 0x0002_0001;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;

/// A set of keys, each with values in order of priority.
#[derive(Debug, Default)]
pub struct Index {
    root: TrieNode,
}

#[derive(Debug, Default)]
struct TrieNode {
    prefix: Vec<u8>,
    children: BTreeMap<u8, TrieNode>,
    values: Vec<(u32, String)>,
}

impl Index {
    /// Adds a value, in memory; a lower priority comes first.
    pub fn insert(&mut self, key: &str, value: &str, priority: u32) {
        self.root.insert(key.as_bytes(), value, priority);
    }

    /// The index of `modules.builtin`, one path per line.
    pub fn of_builtin(text: &str) -> Self {
        let mut index = Self::default();
        for path in text.lines() {
            let file = path.rsplit('/').next().unwrap_or(path);
            index.insert(&file.trim_end_matches(".ko").replace('-', "_"), "", 0);
        }
        index
    }

    /// The alias index of `modules.builtin.modinfo`, fields `NAME.alias=ALIAS` ended by NUL.
    pub fn of_builtin_aliases(text: &str) -> Self {
        let mut index = Self::default();
        for field in text.split('\0') {
            let parsed = field.split_once(".alias=");
            if let Some((name, alias)) = parsed.filter(|(name, _)| !name.contains('=')) {
                index.insert(&normalised(alias), &name.replace('-', "_"), 0);
            }
        }
        index
    }

    /// The file as kmod maps it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC.to_be_bytes());
        out.extend(VERSION.to_be_bytes());
        out.extend([0; 4]);
        let root = self.root.write(&mut out);
        out[8..12].copy_from_slice(&root.to_be_bytes());
        out
    }
}

impl TrieNode {
    fn insert(&mut self, key: &[u8], value: &str, priority: u32) {
        let shared = self.prefix.iter().zip(key).take_while(|(left, right)| left == right).count();
        if shared < self.prefix.len() {
            self.split(shared);
        }
        match key.get(shared..).and_then(<[u8]>::split_first) {
            Some((first, rest)) => {
                let child = self
                    .children
                    .entry(*first)
                    .or_insert_with(|| TrieNode { prefix: rest.to_vec(), ..Self::default() });
                child.insert(rest, value, priority);
            }
            None => {
                let place = self.values.partition_point(|(present, _)| *present < priority);
                self.values.insert(place, (priority, value.to_owned()));
            }
        }
    }

    /// Moves everything after the first `at` bytes of the prefix into a child.
    fn split(&mut self, at: usize) {
        let rest = self.prefix.split_off(at);
        let Some((first, prefix)) = rest.split_first() else { return };
        let lower = TrieNode {
            prefix: prefix.to_vec(),
            children: std::mem::take(&mut self.children),
            values: std::mem::take(&mut self.values),
        };
        self.children.insert(*first, lower);
    }

    /// Appends children and then this node; gives the offset with its flags.
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        let written: BTreeMap<u8, u32> =
            self.children.iter().map(|(byte, child)| (*byte, child.write(out))).collect();
        let mut offset = out.len() as u32;
        if !self.prefix.is_empty() {
            out.extend(&self.prefix);
            out.push(0);
            offset |= HAS_PREFIX;
        }
        if let (Some((first, _)), Some((last, _))) =
            (written.first_key_value(), written.last_key_value())
        {
            out.extend([*first, *last]);
            for byte in *first..=*last {
                out.extend(written.get(&byte).copied().unwrap_or_default().to_be_bytes());
            }
            offset |= HAS_CHILDREN;
        }
        if !self.values.is_empty() {
            out.extend((self.values.len() as u32).to_be_bytes());
            for (priority, value) in &self.values {
                out.extend(priority.to_be_bytes());
                out.extend(value.as_bytes());
                out.push(0);
            }
            offset |= HAS_VALUES;
        }
        offset
    }
}

/// An alias as kmod looks it up: dashes outside brackets are underscores.
fn normalised(alias: &str) -> String {
    let mut in_brackets = false;
    alias
        .chars()
        .map(|c| {
            match c {
                '[' => in_brackets = true,
                ']' => in_brackets = false,
                _ => {}
            }
            if c == '-' && !in_brackets { '_' } else { c }
        })
        .collect()
}

/// `modules.dep`, `.alias`, `.softdep`, `.devname` and `.order` with their tries, for the
/// modules that are in the tree; `order` is the kernel package's `modules.order`.
pub fn text_indexes(
    modules: &BTreeMap<String, Module>,
    order: &str,
) -> Vec<(&'static str, Vec<u8>)> {
    let by_path: BTreeMap<&str, &Module> =
        modules.values().map(|module| (module.relative.as_str(), module)).collect();
    let mut sorted: Vec<&Module> =
        order.lines().filter_map(|line| by_path.get(line).copied()).collect();
    let unordered = modules.values().filter(|module| !order.lines().any(|l| l == module.relative));
    sorted.extend(unordered);
    let (mut dep, mut alias, mut softdep, mut devname, mut list) =
        (String::new(), String::new(), String::new(), String::new(), String::new());
    let (mut dep_index, mut alias_index) = (Index::default(), Index::default());
    for (priority, module) in sorted.iter().enumerate() {
        let priority = priority as u32;
        let needed: Vec<&str> = dependencies(&module.name, modules)
            .iter()
            .filter_map(|name| Some(modules.get(name)?.relative.as_str()))
            .collect();
        let mut line = format!("{}:", module.relative);
        for path in needed {
            line = line + " " + path;
        }
        dep_index.insert(&module.name, &line, priority);
        dep = dep + &line + "\n";
        list = list + &module.relative + "\n";
        for name in &module.aliases {
            alias_index.insert(&normalised(name), &module.name, priority);
            // Writing to a String does not fail.
            writeln!(alias, "alias {name} {}", module.name).unwrap_or_default();
        }
        for text in &module.softdeps {
            writeln!(softdep, "softdep {} {text}", module.name).unwrap_or_default();
        }
        if let Some(line) = devname_line(module) {
            devname.push_str(&line);
        }
    }
    vec![
        ("modules.dep", dep.into_bytes()),
        ("modules.dep.bin", dep_index.to_bytes()),
        ("modules.alias", alias.into_bytes()),
        ("modules.alias.bin", alias_index.to_bytes()),
        // Empty: only `symbol_request` reads it, in drivers that no node has.
        ("modules.symbols.bin", Index::default().to_bytes()),
        ("modules.softdep", softdep.into_bytes()),
        ("modules.devname", devname.into_bytes()),
        ("modules.order", list.into_bytes()),
    ]
}

/// `fuse fuse c10:229` for a module that names its device node and number in aliases.
fn devname_line(module: &Module) -> Option<String> {
    let device = module.aliases.iter().find_map(|alias| alias.strip_prefix("devname:"))?;
    let number = |kind: &str, letter: char| {
        module.aliases.iter().find_map(|alias| {
            let (major, minor) = alias.strip_prefix(kind)?.split_once('-')?;
            let numbers = (major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?);
            Some(format!("{letter}{}:{}", numbers.0, numbers.1))
        })
    };
    let number = number("char-major-", 'c').or_else(|| number("block-major-", 'b'))?;
    Some(format!("{} {device} {number}\n", module.name))
}
