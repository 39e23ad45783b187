//! Reading manifests: TOML text in, [`Manifest`] out; `extends` is followed here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_spanned::Spanned;

use super::document::{Document, PartTable};
use super::error::nearest;
use super::{Image, Manifest, ManifestError, Part, Position, selinux};
use crate::formats::tree::TreePath;

/// Largest manifest that is read, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;

const MAX_EXTENDS: usize = 8;

/// The lock's file name beside its manifest: `node.toml` has `node.lock`.
pub fn lock_path(manifest: &Path) -> PathBuf {
    manifest.with_extension("lock")
}

/// Reads a manifest and all that it extends.
///
/// # Errors
/// [`ManifestError`], with file, line and column where the text itself is wrong.
pub fn read(file: &Path) -> Result<Manifest, ManifestError> {
    let mut chain = Vec::new();
    let mut next = Some(file.to_owned());
    while let Some(path) = next {
        if chain.len() == MAX_EXTENDS {
            return Err(ManifestError::ExtendsLoop { file: file.into(), limit: MAX_EXTENDS });
        }
        let text = read_text(&path)?;
        let document = parse(&path, &text)?;
        next = document.extends.as_ref().map(|base| folder_of(&path).join(base));
        chain.push(ManifestFile { path, text, document });
    }
    let files = chain.iter().map(|file| file.path.clone()).collect();
    let mut base_first = chain.into_iter().rev();
    let Some(base) = base_first.next() else { unreachable!("the chain starts with `file`") };
    let mut manifest = from_base(base)?;
    for file in base_first {
        extend(&mut manifest, file)?;
    }
    manifest.file = file.to_owned();
    manifest.chain = files;
    Ok(manifest)
}

/// One file of the chain.
struct ManifestFile {
    path: PathBuf,
    text: String,
    document: Document,
}

impl ManifestFile {
    fn invalid(&self, message: impl Into<String>) -> ManifestError {
        ManifestError::Invalid { file: self.path.clone(), message: message.into() }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).into()
}

fn read_text(file: &Path) -> Result<String, ManifestError> {
    let failed = |source| ManifestError::Read { file: file.into(), source };
    let mut text = String::new();
    let opened = File::open(file).map_err(failed)?;
    opened.take(MAX_MANIFEST_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooLarge { file: file.into(), limit: MAX_MANIFEST_BYTES });
    }
    Ok(text)
}

/// Parses one file; an unknown key gets the nearest known one.
fn parse(file: &Path, text: &str) -> Result<Document, ManifestError> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let mut message = error.message().trim().to_owned();
        if message.starts_with("unknown field") || message.starts_with("unknown variant") {
            let mut quoted = message.split('`').skip(1).step_by(2);
            if let Some(name) = quoted.next() {
                let candidates: Vec<&str> = quoted.collect();
                if let Some(meant) = nearest(name, candidates) {
                    message = format!("unknown key `{name}`: did you mean `{meant}`?");
                }
            }
        }
        ManifestError::Syntax { file: file.into(), position: Position::of(text, offset), message }
    })
}

/// A manifest from the document that extends no other.
fn from_base(mut file: ManifestFile) -> Result<Manifest, ManifestError> {
    if let Some(part) = file.document.without.first() {
        return Err(file.invalid(format!(
            "`without` names `{}`, but there is no `extends`: remove the line",
            part.get_ref()
        )));
    }
    let missing = |table: &str| {
        file.invalid(format!(
            "the table [{table}] is missing: add it, or `extends = \"node.toml\"` at the top"
        ))
    };
    let image = &file.document.image;
    let Some(name) = image.name.clone() else { return Err(missing("image] with `name")) };
    let Some(version) = image.version.clone() else {
        return Err(missing("image] with `version"));
    };
    let architecture = image.architecture.unwrap_or(contract::Architecture::X86_64);
    let debian = file.document.debian.clone().ok_or_else(|| missing("debian"))?;
    let boot = file.document.boot.clone().ok_or_else(|| missing("boot"))?;
    file.document.image = super::document::ImageTable::default();
    file.document.debian = None;
    file.document.boot = None;
    let mut manifest = Manifest {
        file: file.path.clone(),
        chain: Vec::new(),
        image: Image { name, architecture, version },
        debian,
        boot,
        initrd: Part::default(),
        parts: BTreeMap::new(),
        users: BTreeMap::new(),
        selinux: None,
        exceptions: Vec::new(),
    };
    extend(&mut manifest, file)?;
    Ok(manifest)
}

/// Adds a document's content to the manifest, in memory.
fn extend(manifest: &mut Manifest, mut file: ManifestFile) -> Result<(), ManifestError> {
    for name in std::mem::take(&mut file.document.without) {
        leave_out(manifest, &file, &name)?;
    }
    let image = std::mem::take(&mut file.document.image);
    if let Some(name) = image.name {
        manifest.image.name = name;
    }
    if let Some(version) = image.version {
        manifest.image.version = version;
    }
    if let Some(architecture) = image.architecture {
        manifest.image.architecture = architecture;
    }
    if let Some(debian) = file.document.debian.take() {
        manifest.debian = debian;
    }
    if let Some(boot) = file.document.boot.take() {
        manifest.boot = boot;
    }
    manifest.boot.command_line.append(&mut file.document.append_command_line);
    manifest.exceptions.append(&mut file.document.audit.exceptions);
    if let Some(table) = file.document.selinux.take() {
        let folder = folder_of(&file.path);
        selinux::extend(&mut manifest.selinux, table, folder).map_err(|why| file.invalid(why))?;
    }
    selinux::check_command_line(&manifest.boot.command_line).map_err(|why| file.invalid(why))?;
    if let Some(table) = file.document.initrd.take() {
        let more = part(&file, "initrd", table)?;
        append_to_initrd(&mut manifest.initrd, more)
            .map_err(|key| file.invalid(format!("[initrd] cannot have `{key}` here: remove it")))?;
    }
    for (name, user) in std::mem::take(&mut file.document.users) {
        if manifest.users.insert(name.clone(), user).is_some() {
            return Err(file.invalid(format!(
                "the account `{name}` is already in the extended manifest: remove it here"
            )));
        }
    }
    add_parts(manifest, &mut file)?;
    check_name(&file, &manifest.image.name)
}

fn add_parts(manifest: &mut Manifest, file: &mut ManifestFile) -> Result<(), ManifestError> {
    for (name, table) in std::mem::take(&mut file.document.parts) {
        let position = Position::of(&file.text, table.span().start);
        let table = table.into_inner();
        let at = |message| ManifestError::Syntax { file: file.path.clone(), position, message };
        check_name(file, &name)?;
        if table.why.trim().is_empty() {
            return Err(at(format!(
                "part `{name}` has no `why`: say in one sentence what it is for"
            )));
        }
        if manifest.parts.contains_key(&name) {
            return Err(at(format!(
                "part `{name}` is already in the extended manifest: choose another name, or leave that part out with `without = [\"{name}\"]`"
            )));
        }
        let part = part(file, &name, table)?;
        manifest.parts.insert(name, part);
    }
    Ok(())
}

fn leave_out(
    manifest: &mut Manifest,
    file: &ManifestFile,
    name: &Spanned<String>,
) -> Result<(), ManifestError> {
    if manifest.parts.remove(name.get_ref()).is_some() {
        return Ok(());
    }
    let known = manifest.parts.keys().map(String::as_str);
    let hint = nearest(name.get_ref(), known)
        .map_or_else(String::new, |meant| format!(": did you mean `{meant}`?"));
    Err(ManifestError::Syntax {
        file: file.path.clone(),
        position: Position::of(&file.text, name.span().start),
        message: format!("unknown part `{}`{hint}", name.get_ref()),
    })
}

/// Names become file names, unit names and words of the report.
fn check_name(file: &ManifestFile, name: &str) -> Result<(), ManifestError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 40 || !name.chars().all(plain) {
        return Err(file.invalid(format!(
            "`{name}` is not a name: use at most 40 lower-case letters, digits and dashes"
        )));
    }
    Ok(())
}

fn part(manifest: &ManifestFile, name: &str, table: PartTable) -> Result<Part, ManifestError> {
    let path = |text: &str| {
        TreePath::parse(text).map_err(|error| manifest.invalid(format!("part `{name}`: {error}")))
    };
    let mut part = Part {
        folder: folder_of(&manifest.path),
        why: table.why,
        packages: table.packages,
        files: table.files,
        modules: table.modules,
        tree: table.tree,
        enable: table.enable,
        go: table.go,
        downloads: table.downloads,
        container_images: table.container_images,
        ..Part::default()
    };
    for (link, target) in table.links {
        part.links.insert(path(&link)?, target);
    }
    for folder in table.directories {
        part.directories.push(path(&folder)?);
    }
    for (file, mode) in table.modes {
        let bits = u16::from_str_radix(&mode, 8).ok().filter(|bits| *bits <= 0o7777);
        let bits = bits.ok_or_else(|| {
            manifest
                .invalid(format!("part `{name}`: `{mode}` is not an octal mode such as \"0755\""))
        })?;
        part.modes.insert(path(&file)?, bits);
    }
    for (file, glob) in table.concatenate {
        part.concatenate.insert(path(&file)?, glob);
    }
    for (program, file) in table.workspace {
        part.workspace.insert(program, path(&file)?);
    }
    Ok(part)
}

/// Adds to the initrd; an error is a key that has no meaning there.
fn append_to_initrd(initrd: &mut Part, mut more: Part) -> Result<(), &'static str> {
    let first = initrd.folder.as_os_str().is_empty();
    let senseless = [
        ("go", more.go.is_some()),
        ("workspace", !more.workspace.is_empty()),
        ("downloads", !more.downloads.is_empty()),
        ("container-images", !more.container_images.is_empty()),
        ("tree", !first && more.tree.is_some()),
        ("concatenate", !first && !more.concatenate.is_empty()),
    ];
    if let Some((key, _)) = senseless.into_iter().find(|(_, given)| *given) {
        return Err(key);
    }
    if first {
        *initrd = more;
        return Ok(());
    }
    initrd.packages.append(&mut more.packages);
    initrd.files.append(&mut more.files);
    initrd.modules.append(&mut more.modules);
    initrd.directories.append(&mut more.directories);
    initrd.enable.append(&mut more.enable);
    initrd.links.append(&mut more.links);
    initrd.modes.append(&mut more.modes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
[image]
name = "node"
version = "0.1.0"
[debian]
suites = ["trixie"]
components = ["main"]
keyring = "/k.gpg"
[boot]
kernel = "boot/vmlinuz-*"
stub = "s"
loader = "l"
command-line = ["ro"]
loader-conf = []
[parts.udev]
why = "Devices."
files = ["usr/bin/udevadm"]
"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn error(files: &[(&str, &str)]) -> String {
        let folder = folder(files);
        let text = read(&folder.path().join(files[0].0)).unwrap_err().to_string();
        text.replace(folder.path().to_str().unwrap(), "")
    }

    #[test]
    fn an_unknown_key_is_placed_and_the_nearest_named() {
        let text = BASE.replace("files = [", "fils = [");
        let error = error(&[("a.toml", &text)]);
        assert_eq!(error, "/a.toml:17:1: unknown key `fils`: did you mean `files`?");
    }

    #[test]
    fn an_unknown_part_is_placed_and_the_nearest_named() {
        let error =
            error(&[("b.toml", "extends = \"a.toml\"\nwithout = [\"udevd\"]\n"), ("a.toml", BASE)]);
        assert_eq!(error, "/b.toml:2:12: unknown part `udevd`: did you mean `udev`?");
    }

    #[test]
    fn an_extension_adds_and_replaces() {
        let more = "extends = \"a.toml\"\nappend-command-line = [\"quiet\"]\n[image]\nname = \"test\"\n[parts.more]\nwhy = \"Tests.\"\n";
        let folder = folder(&[("b.toml", more), ("a.toml", BASE)]);
        let manifest = read(&folder.path().join("b.toml")).unwrap();
        assert_eq!(manifest.image.name, "test");
        assert_eq!(manifest.boot.command_line, ["ro", "quiet"]);
        assert_eq!(manifest.parts.keys().collect::<Vec<_>>(), ["more", "udev"]);
    }

    #[test]
    fn two_parts_of_one_name_are_refused() {
        let more = "extends = \"a.toml\"\n[parts.udev]\nwhy = \"Again.\"\n";
        let error = error(&[("b.toml", more), ("a.toml", BASE)]);
        assert!(error.starts_with("/b.toml:2:1: part `udev` is already"), "{error}");
    }

    #[test]
    fn a_loop_of_extends_is_refused() {
        let error = error(&[("a.toml", "extends = \"a.toml\"\n")]);
        assert!(error.contains("leads back to itself"), "{error}");
    }

    #[test]
    fn a_part_says_why() {
        let error = error(&[("a.toml", &BASE.replace("why = \"Devices.\"\n", ""))]);
        assert!(error.contains("part `udev` has no `why`"), "{error}");
    }

    #[test]
    fn not_toml_is_placed() {
        let error = error(&[("a.toml", "[image\n")]);
        assert!(error.starts_with("/a.toml:1:"), "{error}");
    }
}
