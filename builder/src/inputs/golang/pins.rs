//! `go.mod` and `go.sum`, as far as a lock needs them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use contract::Digest;

use super::GolangError;
use crate::lock::GoLock;

/// Largest go.mod or go.sum that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// What a part's two files pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    /// The folder.
    pub folder: PathBuf,
    /// Packages of the `tool` lines.
    pub tools: Vec<String>,
    /// The module that the tools come from, and the digest of both files.
    pub lock: GoLock,
}

impl Pins {
    /// Reads both files.
    ///
    /// # Errors
    /// [`GolangError`] for what does not pin module, sum and toolchain.
    pub fn read(folder: &Path) -> Result<Self, GolangError> {
        let (mod_file, sum_file) = (folder.join("go.mod"), folder.join("go.sum"));
        let (module, sums) = (read(&mod_file)?, read(&sum_file)?);
        let pins = parse(&module, &sums).map_err(|(in_sum, problem)| GolangError::Pins {
            file: if in_sum { sum_file } else { mod_file },
            problem,
        })?;
        let files = Digest::of([module.as_bytes(), &[0], sums.as_bytes()].concat().as_slice());
        let (tools, module, version, sum, toolchain) = pins;
        let lock = GoLock { module, version, sum, toolchain, files };
        Ok(Self { folder: folder.to_owned(), tools, lock })
    }

    /// The tool whose program has this name.
    ///
    /// # Errors
    /// [`GolangError::NoTool`].
    pub fn tool(&self, program: &str) -> Result<&str, GolangError> {
        let found = self.tools.iter().find(|tool| tool.rsplit('/').next() == Some(program));
        found.map(String::as_str).ok_or_else(|| GolangError::NoTool {
            file: self.folder.join("go.mod"),
            program: program.to_owned(),
        })
    }
}

fn read(path: &Path) -> Result<String, GolangError> {
    let failed = |error| GolangError::Read(path.into(), error);
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(GolangError::TooLarge(path.into()));
    }
    Ok(text)
}

type Parsed = (Vec<String>, String, String, String, String);

/// Tools, module, version, sum and toolchain; an error says whether go.sum is to blame.
fn parse(module: &str, sums: &str) -> Result<Parsed, (bool, String)> {
    let (mut tools, mut required, mut replaced, mut toolchain) =
        (Vec::new(), Vec::new(), Vec::new(), None);
    for (directive, words) in directives(module) {
        match (directive.as_str(), words.as_slice()) {
            ("tool", [tool]) => tools.push((*tool).to_owned()),
            ("require", [name, version, ..]) => required.push((*name, *version)),
            // Another module's version is pinned by go.sum like any other; a folder is not.
            ("replace", [name, .., "=>", _, version]) if version.starts_with('v') => {
                replaced.push(*name);
            }
            ("replace", words) => {
                let words = words.join(" ");
                return Err((
                    false,
                    format!(
                        "`replace {words}`: go.sum pins no folder; name a module and its version"
                    ),
                ));
            }
            ("toolchain", [name]) => toolchain = Some((*name).to_owned()),
            _ => {}
        }
    }
    let in_mod = |problem: &str| (false, problem.to_owned());
    let toolchain = toolchain
        .ok_or_else(|| in_mod("no `toolchain` line: add one such as `toolchain go1.26.8`"))?;
    let first = tools
        .first()
        .ok_or_else(|| in_mod("no `tool` line: run `go get -tool PACKAGE@VERSION` there"))?;
    let (name, version) = required
        .iter()
        .filter(|(name, _)| first == name || first.starts_with(&format!("{name}/")))
        .max_by_key(|(name, _)| name.len())
        .copied()
        .ok_or_else(|| {
            in_mod(&format!("no `require` line for the module of {first}: run `go mod tidy` there"))
        })?;
    if replaced.contains(&name) {
        return Err(in_mod(&format!("{name} is replaced: a part is built from its own module")));
    }
    let sum = sums
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} {version} h1:")))
        .map(|sum| format!("h1:{}", sum.trim()))
        .ok_or_else(|| (true, format!("no sum for {name} {version}: run `go mod tidy` there")))?;
    Ok((tools, name.to_owned(), version.to_owned(), sum, toolchain))
}

/// Directives with their words, one for each line of a block.
fn directives(text: &str) -> Vec<(String, Vec<&str>)> {
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), &block) {
            ([], _) => {}
            ([")"], _) => block = None,
            ([directive, "("], None) => block = Some((*directive).to_owned()),
            (_, Some(directive)) => found.push((directive.clone(), words)),
            ([directive, rest @ ..], None) => found.push(((*directive).to_owned(), rest.to_vec())),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "module x\n\ngo 1.26.0\n\ntoolchain go1.26.8\n\ntool (\n\ta.example/b/v2/cmd/one\n\ta.example/b/v2/cmd/two // why\n)\n\nrequire a.example/b/v2 v2.1.0\nrequire a.example/b v1.0.0 // indirect\n";
    const SUMS: &str = "a.example/b/v2 v2.1.0 h1:abc=\na.example/b/v2 v2.1.0/go.mod h1:def=\n";

    #[test]
    fn module_version_sum_and_toolchain_are_read() {
        let (tools, name, version, sum, toolchain) = parse(MODULE, SUMS).unwrap();
        assert_eq!(tools.len(), 2);
        assert_eq!((name.as_str(), version.as_str()), ("a.example/b/v2", "v2.1.0"));
        assert_eq!((sum.as_str(), toolchain.as_str()), ("h1:abc=", "go1.26.8"));
    }

    #[test]
    fn what_is_not_pinned_is_refused() {
        for (module, sums, expected) in [
            (MODULE.replace("toolchain go1.26.8", ""), SUMS, "toolchain"),
            (MODULE.replace("tool (", "nothing ("), SUMS, "`tool`"),
            (
                MODULE
                    .replace("require a.example/b/v2 v2.1.0", "")
                    .replace("require a.example/b v", "require c v"),
                SUMS,
                "`require`",
            ),
            (MODULE.into(), "", "no sum"),
            (
                MODULE.to_owned() + "replace a.example/b/v2 => c.example/d v1.0.0\n",
                SUMS,
                "replaced",
            ),
            (MODULE.to_owned() + "replace c.example/d => ../evil\n", SUMS, "no folder"),
        ] {
            let (_, problem) = parse(&module, sums).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
