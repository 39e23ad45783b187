//! Programs of this workspace for the node: static, small, the same bytes in any folder.
//!
//! In: names of binaries. Out: their bytes, from the cache when no source has changed.
//! They are linked with the building host's static C library: the same lock gives the
//! same bytes on hosts with the same toolchain (see docs/adr/0003-reproducibility.md).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use release::Digest;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::cache::{Cache, CacheError, persist};
use crate::progress::Progress;
use crate::tree::Content;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The profile of `Cargo.toml` for what runs on a node.
const PROFILE: &str = "node";
const SHOWN_LINES: usize = 20;
const MAX_SOURCES: usize = 20_000;

/// Variables that say where crates and toolchains are, and how to get there.
const PASSED: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "https_proxy",
    "http_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// What to build.
#[derive(Debug)]
pub struct WorkspaceBuild<'a> {
    /// A file inside the workspace, such as the manifest.
    pub near: &'a Path,
    /// Binaries, sorted.
    pub programs: &'a [&'a str],
    /// Use only crates that are there.
    pub offline: bool,
    /// Compilers at a time.
    pub jobs: usize,
}

/// Why the programs were not built.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// No workspace above the manifest.
    #[error("{} is not inside Slipway's workspace, which the programs `{programs}` come from: keep the manifest there", .near.display())]
    NoWorkspace {
        /// The manifest.
        near: PathBuf,
        /// What it wants.
        programs: String,
    },
    /// Cargo cannot be started.
    #[error("cannot run `cargo`: install a Rust toolchain")]
    NoCargo(#[source] io::Error),
    /// The build failed.
    #[error("building {programs} failed:\n{output}")]
    Build {
        /// What was built.
        programs: String,
        /// Last lines of the output.
        output: String,
    },
    /// A source or a built program cannot be read or kept.
    #[error("cannot read or keep {}: check permissions and that the disk is not full", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// See the type.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

#[derive(Serialize, Deserialize)]
struct Kept {
    programs: BTreeMap<String, Digest>,
}

/// Builds the programs, or takes them from the cache.
///
/// # Errors
/// [`WorkspaceError`], with the last lines of a failing build.
pub async fn build(
    request: &WorkspaceBuild<'_>,
    cache: &Cache,
    progress: &Progress,
) -> Result<BTreeMap<String, Content>, WorkspaceError> {
    let root = root_of(request)?;
    let key = key(&root, request).await?;
    let kept_file = cache.folder("workspace")?.join(format!("{key}.json"));
    if let Some(programs) = kept(&kept_file, cache, request) {
        return Ok(programs);
    }
    let task = progress.task(&format!("cargo build {}", request.programs.join(" ")));
    let target = cache.folder("workspace-target")?;
    compile(&root, &target, request).await?;
    let mut programs = BTreeMap::new();
    let mut digests = BTreeMap::new();
    for program in request.programs {
        let path = target.join(TARGET).join(PROFILE).join(program);
        let failed = |error| WorkspaceError::Io(path.clone(), error);
        let bytes = fs::read(&path).map_err(failed)?;
        let content = Content::from_bytes(bytes);
        let mut blob = cache.temporary_file()?;
        io::copy(&mut content.reader().map_err(failed)?, &mut blob).map_err(failed)?;
        persist(blob, &cache.blob(&content.digest()))?;
        digests.insert((*program).to_owned(), content.digest());
        programs.insert((*program).to_owned(), content);
    }
    let text = serde_json::to_vec(&Kept { programs: digests })
        .map_err(|error| WorkspaceError::Io(kept_file.clone(), error.into()))?;
    cache.write(&kept_file, &text)?;
    task.finish("built");
    Ok(programs)
}

/// The nearest folder above the manifest with the workspace's `Cargo.toml`.
fn root_of(request: &WorkspaceBuild<'_>) -> Result<PathBuf, WorkspaceError> {
    let none = || WorkspaceError::NoWorkspace {
        near: request.near.into(),
        programs: request.programs.join(", "),
    };
    let near = request.near.canonicalize().map_err(|_| none())?;
    let found = near.ancestors().find(|folder| {
        let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        text.contains("[workspace]") && folder.join("updater").is_dir()
    });
    found.map(Path::to_owned).ok_or_else(none)
}

/// Everything that decides the bytes: sources, locked crates, compiler.
async fn key(root: &Path, request: &WorkspaceBuild<'_>) -> Result<Digest, WorkspaceError> {
    let compiler = Command::new("rustc")
        .arg("-vV")
        .current_dir(root)
        .output()
        .await
        .map_err(WorkspaceError::NoCargo)?;
    let mut text = String::from_utf8_lossy(&compiler.stdout).into_owned();
    text += &format!("3\n{:?}\n", request.programs);
    for file in sources(root)? {
        let bytes = fs::read(root.join(&file)).map_err(|e| WorkspaceError::Io(file.clone(), e))?;
        text += &format!("{} {}\n", Digest::of(&bytes), file.display());
    }
    Ok(Digest::of(text.as_bytes()))
}

/// Rust sources and Cargo files of all members but the builder, sorted, relative.
fn sources(root: &Path) -> Result<Vec<PathBuf>, WorkspaceError> {
    let mut found = vec![PathBuf::from("Cargo.lock"), PathBuf::from("Cargo.toml")];
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        let path = root.join(&folder);
        let failed = |error| WorkspaceError::Io(path.clone(), error);
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let relative = folder.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            let skipped = name.starts_with('.')
                || name == "target"
                || (folder.as_os_str().is_empty()
                    && ["builder", "manifests", "keys", "docs"].contains(&name.as_str()));
            let kind = entry.file_type().map_err(failed)?;
            if skipped || found.len() > MAX_SOURCES {
                continue;
            } else if kind.is_dir() {
                open.push(relative);
            } else if name.ends_with(".rs") || name == "Cargo.toml" || name.ends_with(".proto") {
                found.push(relative);
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn kept(
    file: &Path,
    cache: &Cache,
    request: &WorkspaceBuild<'_>,
) -> Option<BTreeMap<String, Content>> {
    let kept: Kept = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let mut programs = BTreeMap::new();
    for program in request.programs {
        let digest = *kept.programs.get(*program)?;
        let content = Content::from_file(&cache.blob(&digest)).ok()?;
        if content.digest() != digest {
            return None;
        }
        programs.insert((*program).to_owned(), content);
    }
    Some(programs)
}

async fn compile(
    root: &Path,
    target: &Path,
    request: &WorkspaceBuild<'_>,
) -> Result<(), WorkspaceError> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    // No path of this host may end up in a panic message of the program.
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=/slipway", root.display()),
        format!("--remap-path-prefix={}=/target", target.display()),
    ];
    if let Some(home) = cargo_home {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .env_clear()
        .envs(PASSED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_TARGET_DIR", target)
        .args(["build", "--locked", "--profile", PROFILE, "--target", TARGET])
        .args(["--jobs", &request.jobs.to_string()])
        .args(request.programs.iter().flat_map(|program| ["--bin", program]))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if request.offline {
        command.arg("--offline");
    }
    let output = command.output().await.map_err(WorkspaceError::NoCargo)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
    Err(WorkspaceError::Build { programs: request.programs.join(", "), output: shown })
}
