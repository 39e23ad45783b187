//! One kernel module as its `.modinfo` describes it, and what it needs of others.

use std::collections::{BTreeMap, BTreeSet};

/// One module that is in the tree.
#[derive(Debug)]
pub struct Module {
    /// Name with underscores, as the kernel knows it.
    pub name: String,
    /// Path below the release's folder, such as `kernel/fs/erofs/erofs.ko`.
    pub relative: String,
    /// Names that `modinfo` gives as `depends`.
    pub depends: Vec<String>,
    /// Aliases in order.
    pub aliases: Vec<String>,
    /// `softdep` lines.
    pub softdeps: Vec<String>,
}

/// All modules that `name` needs, each before what it needs itself, so that loading from
/// the end is right (modules.dep(5)).
pub fn dependencies(name: &str, modules: &BTreeMap<String, Module>) -> Vec<String> {
    fn visit(
        name: &str,
        modules: &BTreeMap<String, Module>,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<String>,
    ) {
        if !seen.insert(name.to_owned()) {
            return;
        }
        let Some(module) = modules.get(name) else { return };
        for needed in &module.depends {
            visit(needed, modules, seen, order);
        }
        order.push(name.to_owned());
    }
    let mut order = Vec::new();
    visit(name, modules, &mut BTreeSet::new(), &mut order);
    order.pop();
    order.reverse();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, depends: &[&str]) -> (String, Module) {
        let module = Module {
            name: name.into(),
            relative: format!("kernel/{name}.ko"),
            depends: depends.iter().map(|name| (*name).to_owned()).collect(),
            aliases: Vec::new(),
            softdeps: Vec::new(),
        };
        (name.into(), module)
    }

    #[test]
    fn what_a_module_needs_comes_after_it() {
        let modules: BTreeMap<_, _> = [
            module("top", &["left", "right"]),
            module("left", &["base"]),
            module("right", &["base", "left"]),
            module("base", &[]),
        ]
        .into();
        assert_eq!(dependencies("top", &modules), ["right", "left", "base"]);
        assert!(dependencies("base", &modules).is_empty());
    }

    #[test]
    fn a_loop_of_modules_ends() {
        let modules: BTreeMap<_, _> = [module("a", &["b"]), module("b", &["a"])].into();
        assert_eq!(dependencies("a", &modules), ["b"]);
    }
}
