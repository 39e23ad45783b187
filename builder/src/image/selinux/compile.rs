//! Running the locked secilc.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use contract::Architecture;
use tokio::process::Command;

use super::{Policy, SelinuxError, label};
use crate::formats::tree::TreePath;
use crate::image::compose::Packages;
use crate::inputs::cache::Cache;
use crate::inputs::child;
use crate::manifest::{Manifest, Selinux};
use crate::progress::Progress;

/// The policy's format, which the node's kernel reads; its file is named for it.
pub const FORMAT: &str = "33";

/// The dynamic linker comes first, because it starts the compiler; the libraries follow.
const TOOLS: [&str; 4] = [
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "usr/bin/secilc",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libsepol.so.2",
];

/// The labels of the manifest, in a folder of the compiler's own.
const LABELS: &str = "labels.cil";

/// Compiles the manifest's policy, when it has one.
///
/// # Errors
/// [`SelinuxError`]; [`SelinuxError::Refused`] also for an `allow` that a `neverallow` forbids, and
/// for a label of a type that the policy does not have.
pub async fn compile(
    manifest: &Manifest,
    packages: &Packages,
    cache: &Cache,
    progress: &Progress,
) -> Result<Option<Policy>, SelinuxError> {
    let Some(selinux) = &manifest.selinux else { return Ok(None) };
    let Architecture::X86_64 = manifest.image.architecture;
    if std::env::consts::ARCH != "x86_64" {
        let image = manifest.image.architecture;
        return Err(SelinuxError::Foreign { image, host: std::env::consts::ARCH });
    }
    let task = progress.task("SELinux policy");
    let folder = tempfile::Builder::new()
        .prefix("selinux-")
        .tempdir_in(
            cache.folder("tmp").map_err(|error| SelinuxError::Run(io::Error::other(error)))?,
        )
        .map_err(SelinuxError::Run)?;
    let tools = put_tools(packages, folder.path())?;
    let labels = folder.path().join(LABELS);
    let statements = label::as_policy(selinux);
    fs::write(&labels, &statements).map_err(SelinuxError::Run)?;
    let sources = sources(selinux)?;
    let (binary, contexts) = (folder.path().join("policy"), folder.path().join("file_contexts"));
    let mut command = Command::new(&tools[0]);
    command
        .env_clear()
        .current_dir(folder.path())
        .arg("--library-path")
        .arg(folder.path())
        .arg(&tools[1])
        .args(["--mls", "true", "--policyvers", FORMAT, "--output"])
        .arg(&binary)
        .arg("--filecontext")
        .arg(&contexts)
        .args(&sources)
        .arg(&labels);
    let outcome = child::run(command, progress).await.map_err(SelinuxError::Run)?;
    if !outcome.status.success() {
        let folder = selinux.resolve();
        let output = with_labels(outcome.last_lines, &statements);
        return Err(SelinuxError::Refused { folder, output });
    }
    let binary = fs::read(&binary).map_err(SelinuxError::Run)?;
    let file_contexts = fs::read(&contexts).map_err(SelinuxError::Run)?;
    task.finish(&format!("{} bytes", binary.len()));
    Ok(Some(Policy { binary, file_contexts }))
}

/// What the compiler says, with the label that it means: it names a line of a file that is gone by then.
fn with_labels(mut output: String, statements: &str) -> String {
    let named = output.split_once(&format!("{LABELS}:")).and_then(|(_, rest)| {
        let digits = rest.split(|sign: char| !sign.is_ascii_digit()).next()?;
        statements.lines().nth(digits.parse::<usize>().ok()?.checked_sub(1)?)
    });
    if let Some(statement) = named {
        output += &format!("\nthe label in [selinux.labels] is {statement}");
    }
    output
}

/// Puts linker, compiler and libraries into `folder`; gives their paths.
fn put_tools(packages: &Packages, folder: &Path) -> Result<Vec<PathBuf>, SelinuxError> {
    use std::os::unix::fs::PermissionsExt;
    let mut placed = Vec::new();
    for tool in TOOLS {
        let Ok(path) = TreePath::parse(tool) else { unreachable!("the names above are paths") };
        let content = packages.resolve(&path).and_then(|path| packages.content(&path).cloned());
        let content = content.ok_or_else(|| SelinuxError::NoCompiler(path.clone()))?;
        let file = folder.join(path.name());
        fs::write(&file, content.read().map_err(SelinuxError::Run)?).map_err(SelinuxError::Run)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).map_err(SelinuxError::Run)?;
        placed.push(file);
    }
    Ok(placed)
}

/// The policy's files in the order of their names, which is the order in which people read them.
fn sources(selinux: &Selinux) -> Result<Vec<PathBuf>, SelinuxError> {
    let folder = selinux.resolve();
    let entries = fs::read_dir(&folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
        .map_err(|error| SelinuxError::Read(folder.clone(), error))?;
    let mut files: Vec<PathBuf> =
        entries.into_iter().filter(|file| file.extension().is_some_and(|e| e == "cil")).collect();
    if files.is_empty() {
        return Err(SelinuxError::Empty(folder));
    }
    files.sort();
    // The compiler runs in a folder of its own, so it needs names from the root of the host.
    files
        .into_iter()
        .map(|file| file.canonicalize().map_err(|error| SelinuxError::Read(file, error)))
        .collect()
}
