//! Which crates a program is made of, and a digest over their sources.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use contract::Digest;
use serde::Deserialize;

use super::WorkspaceError;
use crate::formats::tree::digest_reader;

/// Most files of one crate.
pub(super) const MAX_FILES: usize = 5_000;
/// Largest Cargo.toml that is looked at for `[workspace]`, in bytes.
const MAX_CARGO_TOML: u64 = 1 << 20;
/// Folders of a crate that no program is made of.
const SKIPPED: [&str; 4] = ["target", "tests", "benches", "examples"];

/// The repository around `folder`: the next folder upwards whose Cargo.toml has
/// `[workspace]` with `members`.
///
/// # Errors
/// [`WorkspaceError::NoWorkspace`].
pub fn find_root(folder: &Path) -> Result<PathBuf, WorkspaceError> {
    let start =
        fs::canonicalize(folder).map_err(|error| WorkspaceError::Read(folder.into(), error))?;
    let root = start.ancestors().find(|folder| is_workspace(&folder.join("Cargo.toml")));
    root.map(Path::to_owned).ok_or(WorkspaceError::NoWorkspace(start))
}

fn is_workspace(file: &Path) -> bool {
    let small = file.metadata().is_ok_and(|found| found.len() <= MAX_CARGO_TOML);
    let text = if small { fs::read_to_string(file).unwrap_or_default() } else { String::new() };
    text.parse::<toml::Table>().is_ok_and(|document| {
        document.get("workspace").and_then(|workspace| workspace.get("members")).is_some()
    })
}

/// What `cargo metadata --no-deps` says of the workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    kind: Option<String>,
    path: Option<PathBuf>,
}

impl Package {
    fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    fn binaries(&self) -> impl Iterator<Item = &str> {
        let binaries = self.targets.iter().filter(|target| target.kind.iter().any(|k| k == "bin"));
        binaries.map(|target| target.name.as_str())
    }
}

impl Metadata {
    /// The package with that binary, and the folders of it and of the local crates under it.
    pub(super) fn crates_of(&self, binary: &str) -> Result<Crates<'_>, WorkspaceError> {
        let owner = self.packages.iter().find(|package| package.binaries().any(|b| b == binary));
        let owner = owner.ok_or_else(|| {
            let known: BTreeSet<&str> = self.packages.iter().flat_map(Package::binaries).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            WorkspaceError::NoBinary { name: binary.to_owned(), known }
        })?;
        let mut folders = BTreeSet::new();
        let mut open = vec![owner];
        while let Some(package) = open.pop() {
            if !folders.insert(package.folder().to_owned()) {
                continue;
            }
            let needed = package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev"));
            let paths: Vec<&Path> = needed.filter_map(|found| found.path.as_deref()).collect();
            open.extend(self.packages.iter().filter(|other| paths.contains(&other.folder())));
        }
        Ok(Crates { package: &owner.name, folders })
    }
}

/// The local crates that a program is made of.
pub(super) struct Crates<'a> {
    /// Package that has the binary.
    pub(super) package: &'a str,
    folders: BTreeSet<PathBuf>,
}

impl Crates<'_> {
    /// Digest over all sources, with paths relative to `root`.
    pub(super) fn digest(&self, root: &Path) -> Result<Digest, WorkspaceError> {
        let mut lines = Vec::new();
        for name in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo/config.toml"] {
            let file = root.join(name);
            if file.exists() {
                lines.push(digest_line(root, &file)?);
            }
        }
        for folder in &self.folders {
            let before = lines.len();
            add_folder(root, folder, folder, before, &mut lines)?;
        }
        lines.sort();
        Ok(Digest::of(lines.join("\n").as_bytes()))
    }
}

fn digest_line(root: &Path, file: &Path) -> Result<String, WorkspaceError> {
    let failed = |error| WorkspaceError::Read(file.into(), error);
    let (digest, _) = digest_reader(&mut File::open(file).map_err(failed)?).map_err(failed)?;
    Ok(format!("{digest} {}", file.strip_prefix(root).unwrap_or(file).display()))
}

/// Adds the files below `folder`, without those of other crates inside it.
fn add_folder(
    root: &Path,
    crate_folder: &Path,
    folder: &Path,
    before: usize,
    lines: &mut Vec<String>,
) -> Result<(), WorkspaceError> {
    let failed = |error| WorkspaceError::Read(folder.into(), error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let skipped = folder == crate_folder && SKIPPED.contains(&name.as_ref());
        if name.starts_with('.') || (is_folder && (skipped || path.join("Cargo.toml").exists())) {
            continue;
        }
        if is_folder {
            add_folder(root, crate_folder, &path, before, lines)?;
        } else {
            lines.push(digest_line(root, &path)?);
        }
        if lines.len() - before > MAX_FILES {
            return Err(WorkspaceError::TooMany(crate_folder.into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn metadata(root: &Path) -> Metadata {
        let package = |name: &str, dependencies: serde_json::Value| {
            serde_json::json!({
                "name": name,
                "manifest_path": root.join(name).join("Cargo.toml"),
                "targets": [{"name": format!("{name}-bin"), "kind": ["bin"]}],
                "dependencies": dependencies,
            })
        };
        serde_json::from_value(serde_json::json!({"packages": [
            package("a", serde_json::json!([
                {"kind": null, "path": root.join("b")},
                {"kind": "dev", "path": root.join("c")},
                {"kind": null},
            ])),
            package("b", serde_json::json!([])),
            package("c", serde_json::json!([])),
        ]}))
        .unwrap()
    }

    fn repository() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "Cargo.toml", "[workspace]\nmembers = [\"a\", \"b\", \"c\"]\n");
        for name in ["a", "b", "c"] {
            write(root.path(), &format!("{name}/Cargo.toml"), "[package]\n");
            write(root.path(), &format!("{name}/src/main.rs"), "fn main() {}\n");
        }
        root
    }

    #[test]
    fn the_repository_is_found_from_a_folder_inside_it() {
        let root = repository();
        write(root.path(), "manifests/images/node.toml", "");
        let found = find_root(&root.path().join("manifests/images")).unwrap();
        assert_eq!(found, fs::canonicalize(root.path()).unwrap());
        assert_eq!(find_root(&root.path().join("a/src")).unwrap(), found);
        let elsewhere = tempfile::tempdir().unwrap();
        let error = find_root(elsewhere.path()).unwrap_err();
        assert!(matches!(error, WorkspaceError::NoWorkspace(_)), "{error}");
    }

    #[test]
    fn only_sources_of_needed_crates_change_the_digest() {
        let root = repository();
        let metadata = metadata(root.path());
        let digest = || metadata.crates_of("a-bin").unwrap().digest(root.path()).unwrap();
        let first = digest();
        for untouched in ["c/src/main.rs", "a/tests/x.rs", "a/target/x", "a/.hidden", "README"] {
            write(root.path(), untouched, "changed");
            assert_eq!(digest(), first, "{untouched}");
        }
        let mut seen = vec![first];
        for source in ["b/src/more.rs", "a/src/main.rs", "Cargo.lock", "a/build.rs"] {
            write(root.path(), source, "changed");
            assert!(!seen.contains(&digest()), "{source}");
            seen.push(digest());
        }
    }

    #[test]
    fn an_unknown_binary_is_answered_with_the_known_ones() {
        let root = repository();
        let error = metadata(root.path()).crates_of("pauze").err().unwrap();
        assert!(error.to_string().contains("a-bin, b-bin, c-bin"), "{error}");
    }
}
