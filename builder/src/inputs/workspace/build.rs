//! Runs cargo, or does not when the cache has the program of the same sources.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use contract::Digest;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::WorkspaceError;
use super::sources::{Metadata, find_root};
use crate::formats::tree::{Content, digest_reader};
use crate::inputs::cache::{Cache, persist};
use crate::inputs::child;
use crate::progress::Progress;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "node";
const INSTALL_RUST: &str = "install Rust with rustup (rustup.rs), or `apt-get install cargo`";
const INSTALL_C: &str = "install a C compiler and library (`apt-get install gcc libc6-dev`)";

/// What of the caller's environment reaches cargo: where tools, crates and the network are.
const PASSED: [&str; 16] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// What to build.
#[derive(Debug, Clone, Copy)]
pub struct WorkspaceBuild<'a> {
    /// A file or folder inside the repository, such as the manifest.
    pub near: &'a Path,
    /// Names of the binaries.
    pub programs: &'a [&'a str],
    /// Take crates from this host alone.
    pub offline: bool,
    /// Compilers at a time.
    pub jobs: usize,
}

/// The compilers of the host, as far as they decide the bytes.
struct Host {
    rustc: String,
    sysroot: String,
    c_library: Digest,
}

/// Where and with what one call builds.
struct Workbench<'a> {
    root: &'a Path,
    host: &'a Host,
    cache: &'a Cache,
    progress: &'a Progress,
}

/// What is kept of a build; the program is a blob in the cache.
#[derive(Serialize, Deserialize)]
struct Kept {
    size: u64,
    sha256: Digest,
}

/// Builds the binaries one by one, so that none changes the features of another's crates;
/// with unchanged sources no compiler is started. Dropping the future ends cargo.
///
/// # Errors
/// [`WorkspaceError`], with the last lines of a failing build.
pub async fn build(
    request: &WorkspaceBuild<'_>,
    cache: &Cache,
    progress: &Progress,
) -> Result<BTreeMap<String, Content>, WorkspaceError> {
    let root = find_root(request.near)?;
    let (metadata, host) = tokio::try_join!(metadata(&root), host(&root))?;
    let workbench = Workbench { root: &root, host: &host, cache, progress };
    let mut programs = BTreeMap::new();
    for binary in request.programs {
        let crates = metadata.crates_of(binary)?;
        let key = format!(
            "5\n{binary}\n{PROFILE} {TARGET}\n{}\n{}\n{}",
            crates.digest(&root)?,
            host.rustc,
            host.c_library
        );
        let key = Digest::of(key.as_bytes());
        let kept_file = cache.folder("workspace")?.join(format!("{key}.json"));
        let content = match kept(&kept_file, cache) {
            Some(content) => content,
            None => {
                let task = progress.task(&format!("cargo build {binary}"));
                let built = compile(request, binary, crates.package, &workbench).await?;
                let content = keep(&built, &kept_file, cache)?;
                task.finish(&format!("{} KiB", content.size() >> 10));
                content
            }
        };
        programs.insert((*binary).to_owned(), content);
    }
    Ok(programs)
}

/// A command in the repository, without the caller's settings.
fn command(program: &str, root: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let passed = PASSED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    command.envs(passed).env("LC_ALL", "C.UTF-8");
    command
}

async fn output(
    mut command: Command,
    tool: &'static str,
    next_step: &'static str,
) -> Result<String, WorkspaceError> {
    let output = command.output().await.map_err(|source| WorkspaceError::NoTool {
        tool,
        next_step,
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let folder = command.as_std().get_current_dir().unwrap_or(Path::new(".")).to_owned();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines[lines.len().saturating_sub(child::KEPT_LINES)..].join("\n");
    Err(WorkspaceError::Tool { tool, folder, output: shown })
}

async fn metadata(root: &Path) -> Result<Metadata, WorkspaceError> {
    let mut cargo = command("cargo", root);
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--locked", "--offline"]);
    let text = output(cargo, "cargo metadata", INSTALL_RUST).await?;
    serde_json::from_str(&text).map_err(|error| WorkspaceError::Tool {
        tool: "cargo metadata",
        folder: root.to_owned(),
        output: error.to_string(),
    })
}

async fn host(root: &Path) -> Result<Host, WorkspaceError> {
    let mut rustc = command("rustc", root);
    rustc.arg("-vV");
    // Not in one start with the version, which silences every `--print`.
    let mut printing = command("rustc", root);
    printing.args(["--print", "sysroot"]);
    let mut cc = command("cc", root);
    cc.arg("-print-file-name=libc.a");
    let (rustc, sysroot, library) = tokio::try_join!(
        output(rustc, "rustc", INSTALL_RUST),
        output(printing, "rustc", INSTALL_RUST),
        output(cc, "cc", INSTALL_C)
    )?;
    // The C library goes into the programs: a fixed one must not be missed.
    let library = PathBuf::from(library.trim());
    let digest = File::open(&library).and_then(|mut file| digest_reader(&mut file));
    let (c_library, _) = digest.map_err(|source| WorkspaceError::NoTool {
        tool: "cc -static",
        next_step: INSTALL_C,
        source,
    })?;
    Ok(Host { rustc, sysroot: sysroot.trim().to_owned(), c_library })
}

/// The program of an earlier build, when it is still in the cache with its size.
fn kept(file: &Path, cache: &Cache) -> Option<Content> {
    let kept: Kept = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let blob = cache.blob(&kept.sha256);
    let whole = blob.metadata().ok()?.len() == kept.size;
    whole.then(|| Content::from_range(blob.into(), 0, kept.size, kept.sha256))
}

fn keep(built: &Path, file: &Path, cache: &Cache) -> Result<Content, WorkspaceError> {
    let failed = |error| WorkspaceError::Keep(built.to_owned(), error);
    let mut copy = cache.temporary_file()?;
    io::copy(&mut File::open(built).map_err(failed)?, &mut copy).map_err(failed)?;
    copy.as_file().sync_all().map_err(failed)?;
    let content = Content::from_file(copy.path()).map_err(failed)?;
    let blob = cache.blob(&content.digest());
    persist(copy, &blob)?;
    let kept = Kept { size: content.size(), sha256: content.digest() };
    let text = serde_json::to_vec(&kept).map_err(|error| failed(error.into()))?;
    cache.write(file, &text)?;
    Ok(Content::from_range(blob.into(), 0, kept.size, kept.sha256))
}

/// Flags for C code in the programs.
const C_FLAGS: &str = "-fno-asynchronous-unwind-tables -fno-unwind-tables";

/// Compiler flags: static, small, and with no path of this host in the program. A panic ends
/// these programs without unwinding, so their own tables for it go. The linker's index of the
/// others (`.eh_frame_hdr`) stays: an error that notes its backtrace, as those of `tough` do,
/// ends the program without it. C code needs no tables either ([`C_FLAGS`]). Packed relocations (`DT_RELR`, glibc 2.36 and later) take 5 KiB
/// where plain ones take 400.
fn flags(root: &Path, sysroot: &str, target: &Path) -> String {
    let home = |variable: &str, name: &str| match std::env::var_os(variable) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(name),
    };
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        "-Cforce-unwind-tables=no".to_owned(),
        "-Clink-arg=-Wl,-z,pack-relative-relocs".to_owned(),
        remap(&home("CARGO_HOME", ".cargo"), "/cargo"),
        remap(Path::new(sysroot), "/rust"),
        remap(root, "/slipway"),
        // What build scripts write, and is compiled from there.
        remap(target, "/target"),
    ];
    // Unlike RUSTFLAGS this form takes folders with spaces.
    flags.join("\u{1f}")
}

async fn compile(
    request: &WorkspaceBuild<'_>,
    binary: &str,
    package: &str,
    bench: &Workbench<'_>,
) -> Result<PathBuf, WorkspaceError> {
    // Cargo takes crates that were compiled with other remapped paths for current ones;
    // so a toolchain at another place gets a folder of its own.
    let rust = flags(Path::new(""), &bench.host.sysroot, Path::new(""));
    let places = Digest::of(format!("{rust}\n{C_FLAGS}").as_bytes());
    let target_folder = bench.cache.folder(&format!("cargo/{places}"))?;
    let mut cargo = command("cargo", bench.root);
    cargo.args(["build", "--locked", "--profile", PROFILE, "--target", TARGET]);
    cargo.args(["--package", package, "--bin", binary]);
    cargo.args(["--jobs", &request.jobs.max(1).to_string()]);
    cargo.arg("--target-dir").arg(&target_folder);
    cargo.env("CFLAGS", C_FLAGS);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(bench.root, &bench.host.sysroot, &target_folder));
    cargo.env("RUSTC_WRAPPER", "").env("CARGO_TERM_COLOR", "never");
    if request.offline {
        cargo.arg("--offline");
    }
    let outcome =
        child::run(cargo, bench.progress).await.map_err(|source| match source.kind() {
            io::ErrorKind::Interrupted => WorkspaceError::Interrupted(binary.to_owned()),
            _ => WorkspaceError::NoTool { tool: "cargo", next_step: INSTALL_RUST, source },
        })?;
    let output = outcome.last_lines;
    if outcome.status.success() {
        return Ok(target_folder.join(TARGET).join(PROFILE).join(binary));
    }
    if request.offline && output.contains("--offline") {
        return Err(WorkspaceError::Missing { binary: binary.to_owned(), output });
    }
    Err(WorkspaceError::Tool { tool: "cargo build", folder: bench.root.to_owned(), output })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, source: &str) {
        fs::create_dir_all(root.join("tiny/src")).unwrap();
        let workspace = "[workspace]\nmembers = [\"tiny\"]\n[profile.node]\n\
                         inherits = \"release\"\n";
        fs::write(root.join("Cargo.toml"), workspace).unwrap();
        fs::write(
            root.join("Cargo.lock"),
            "version = 4\n[[package]]\nname = \"tiny\"\nversion = \"0.1.0\"\n",
        )
        .unwrap();
        let package = "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
        fs::write(root.join("tiny/Cargo.toml"), package).unwrap();
        fs::write(root.join("tiny/src/main.rs"), source).unwrap();
    }

    async fn built(root: &Path, cache: &Path) -> Result<Content, WorkspaceError> {
        let request = WorkspaceBuild { near: root, programs: &["tiny"], offline: true, jobs: 1 };
        let cache = Cache::open(cache)?;
        let mut programs = build(&request, &cache, &Progress::hidden()).await?;
        Ok(programs.remove("tiny").unwrap())
    }

    #[tokio::test]
    async fn two_folders_give_the_same_static_program() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let source = "fn main() { assert!(std::env::args().count() < 9, \"{}\", file!()); }\n";
        write(&at("one"), source);
        write(&at("other/two"), source);
        let first = built(&at("one"), &at("cache")).await.unwrap();
        let second = built(&at("other/two"), &at("cache2")).await.unwrap();
        assert_eq!(first.digest(), second.digest());
        let bytes = first.read().unwrap();
        let elf = goblin::elf::Elf::parse(&bytes).unwrap();
        assert!(elf.interpreter.is_none() && elf.libraries.is_empty());
        // Without cargo's own folder only the kept program can answer.
        fs::remove_dir_all(at("cache/cargo")).unwrap();
        assert_eq!(built(&at("one"), &at("cache")).await.unwrap(), first);
        assert!(!at("cache/cargo").exists());
    }

    #[tokio::test]
    async fn a_failing_build_shows_the_line_of_the_source() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "fn main() { missing() }\n");
        let error = built(folder.path(), &folder.path().join("cache")).await.unwrap_err();
        assert!(error.to_string().contains("main.rs:1:13"), "{error}");
    }
}
