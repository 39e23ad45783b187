//! Running `go build`, and keeping what it made.
//!
//! **Invariant:** nothing of the caller's environment reaches the compiler except where
//! modules come from and where caches are; so the bytes depend on the pins alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use contract::{Architecture, Digest};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{GolangError, Pins};
use crate::formats::tree::Content;
use crate::inputs::cache::{Cache, persist};
use crate::inputs::child;
use crate::progress::Progress;

/// Variables that say where tools are and how to get to the network.
const PASSED: [&str; 11] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// What is taken from the user's Go settings, be they variables or `go env -w`.
const LOCATIONS: [&str; 8] = [
    "GOPROXY",
    "GOSUMDB",
    "GONOSUMDB",
    "GONOPROXY",
    "GOPRIVATE",
    "GOMODCACHE",
    "GOCACHE",
    "GOPATH",
];

/// What to build.
#[derive(Debug)]
pub struct GoBuild<'a> {
    /// The part's pins.
    pub pins: &'a Pins,
    /// Names of the programs.
    pub programs: Vec<&'a str>,
    /// Linker flags, with `{version}`, `{major}` and `{minor}`.
    pub ldflags: &'a [String],
    /// What the programs run on.
    pub architecture: Architecture,
    /// Take modules from the module cache alone.
    pub offline: bool,
    /// Compilers at a time.
    pub jobs: usize,
}

/// What is kept of a build: program to digest; the blobs are in the cache.
#[derive(Serialize, Deserialize)]
struct Kept {
    programs: BTreeMap<String, Digest>,
}

/// Builds the programs, or takes them from the cache when nothing that decides their
/// bytes has changed.
///
/// # Errors
/// [`GolangError`], with the last lines of a failing build.
pub async fn build(
    request: &GoBuild<'_>,
    cache: &Cache,
    progress: &Progress,
) -> Result<BTreeMap<String, Content>, GolangError> {
    let kept_file = cache.folder("go")?.join(format!("{}.json", key(request)));
    if let Some(programs) = kept(&kept_file, cache, request) {
        return Ok(programs);
    }
    let task = progress.task(&format!("go build {}", request.pins.lock.module));
    let out = cache.temporary_folder()?;
    compile(request, &local_go().await?, out.path(), progress).await?;
    let mut digests = BTreeMap::new();
    for program in &request.programs {
        let content = Content::from_file(&out.path().join(program)).map_err(GolangError::Keep)?;
        let mut blob = cache.temporary_file()?;
        let mut reader = content.reader().map_err(GolangError::Keep)?;
        io::copy(&mut reader, &mut blob).map_err(GolangError::Keep)?;
        persist(blob, &cache.blob(&content.digest()))?;
        digests.insert((*program).to_owned(), content.digest());
    }
    let text = serde_json::to_vec(&Kept { programs: digests })
        .map_err(|error| GolangError::Keep(error.into()))?;
    cache.write(&kept_file, &text)?;
    task.finish("built");
    kept(&kept_file, cache, request).ok_or_else(|| {
        GolangError::Keep(io::Error::new(io::ErrorKind::NotFound, "a kept program vanished"))
    })
}

/// Everything that decides the bytes.
fn key(request: &GoBuild<'_>) -> Digest {
    let lock = &request.pins.lock;
    let text = format!(
        "2\n{}\n{}\n{}\n{:?}\n{:?}",
        lock.files, lock.toolchain, request.architecture, request.programs, request.ldflags
    );
    Digest::of(text.as_bytes())
}

/// The programs of an earlier build, when each is still in the cache with its size and
/// digest; a digest is checked again when the image is packed.
fn kept(file: &Path, cache: &Cache, request: &GoBuild<'_>) -> Option<BTreeMap<String, Content>> {
    let kept: Kept = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let mut programs = BTreeMap::new();
    for program in &request.programs {
        let digest = *kept.programs.get(*program)?;
        let blob: PathBuf = cache.blob(&digest);
        let bytes = blob.metadata().ok()?.len();
        programs.insert((*program).to_owned(), Content::from_range(blob.into(), 0, bytes, digest));
    }
    Some(programs)
}

/// The installed `go`.
struct LocalGo {
    version: String,
    /// Where the user's settings fetch modules from and keep them.
    locations: BTreeMap<String, String>,
}

/// Asks `go` for its version; 1.21 is the first that fetches the toolchain go.mod names.
async fn local_go() -> Result<LocalGo, GolangError> {
    let output = Command::new("go")
        .args(["env", "-json", "GOVERSION"])
        .args(LOCATIONS)
        .env("GOTOOLCHAIN", "local")
        .env_remove("GOFLAGS")
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(GolangError::NoGo)?;
    let mut locations: BTreeMap<String, String> =
        serde_json::from_slice(&output.stdout).unwrap_or_default();
    let version = locations.remove("GOVERSION").unwrap_or_default();
    locations.retain(|_, value| !value.is_empty());
    let mut numbers = version.trim_start_matches("go").split(['.', 'r', 'b']);
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    match (next(), next()) {
        (Some(major), Some(minor)) if (major, minor) >= (1, 21) => {
            Ok(LocalGo { version, locations })
        }
        _ => Err(GolangError::OldGo(version)),
    }
}

fn ldflags(request: &GoBuild<'_>) -> String {
    let version = request.pins.lock.version.as_str();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let all = request.ldflags.join(" ");
    all.replace("{version}", version).replace("{major}", major).replace("{minor}", minor)
}

async fn compile(
    request: &GoBuild<'_>,
    go: &LocalGo,
    out: &Path,
    progress: &Progress,
) -> Result<(), GolangError> {
    let pins = request.pins;
    let tools: Vec<&str> =
        request.programs.iter().map(|program| pins.tool(program)).collect::<Result<_, _>>()?;
    let pinned = pins.lock.toolchain.as_str();
    let toolchain = if go.version == pinned { "local" } else { pinned };
    let mut command = Command::new("go");
    command
        .current_dir(&pins.folder)
        .env_clear()
        .envs(PASSED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
        .envs(&go.locations)
        // Neither a `go env -w` file nor a go.work above the part has a say in the bytes.
        .envs([("GOENV", "off"), ("GOWORK", "off"), ("LC_ALL", "C.UTF-8")])
        .envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=readonly"), ("GOOS", "linux")])
        .envs([("GOAMD64", "v1"), ("GOTOOLCHAIN", toolchain)])
        .env("GOARCH", request.architecture.debian())
        .args(["build", "-trimpath", "-buildvcs=false", "-p", &request.jobs.to_string()])
        .arg(format!("-ldflags={}", ldflags(request)))
        .arg("-o")
        .arg(format!("{}/", out.display()))
        .args(tools);
    if request.offline {
        command.env("GOPROXY", "off");
    }
    let folder = pins.folder.clone();
    let outcome = child::run(command, progress).await.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => GolangError::Interrupted(folder.clone()),
        _ => GolangError::NoGo(error),
    })?;
    if outcome.status.success() {
        return Ok(());
    }
    Err(explain(request, outcome.last_lines))
}

/// What a failed build was about, from what `go` says of it.
fn explain(request: &GoBuild<'_>, output: String) -> GolangError {
    let folder = request.pins.folder.clone();
    let says = |texts: &[&str]| texts.iter().any(|text| output.contains(text));
    if says(&["checksum mismatch", "SECURITY ERROR"]) {
        GolangError::Sum { folder, output }
    } else if request.offline
        && says(&["module lookup disabled", "GOPROXY=off", "toolchain not available"])
    {
        GolangError::Missing { folder, output }
    } else {
        GolangError::Build { folder, output }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with one program that needs no other module.
    fn module(folder: &Path, source: &str) -> Pins {
        fs::create_dir_all(folder.join("cmd/tiny")).unwrap();
        fs::write(folder.join("go.mod"), "module tiny.invalid\n\ngo 1.21\n").unwrap();
        fs::write(folder.join("go.sum"), "").unwrap();
        fs::write(folder.join("cmd/tiny/main.go"), source).unwrap();
        let lock = crate::lock::GoLock {
            module: "tiny.invalid".into(),
            version: "v1.2.3".into(),
            sum: "h1:".into(),
            toolchain: "local".into(),
            files: Digest::of(source.as_bytes()),
        };
        Pins { folder: folder.into(), tools: vec!["tiny.invalid/cmd/tiny".into()], lock }
    }

    async fn built(source: &str) -> Result<Digest, GolangError> {
        let folder = tempfile::tempdir().unwrap();
        let pins = module(folder.path(), source);
        let cache = Cache::open(&folder.path().join("cache")).unwrap();
        let ldflags = ["-X".to_owned(), "main.version={version}".to_owned()];
        let request = GoBuild {
            pins: &pins,
            programs: vec!["tiny"],
            ldflags: &ldflags,
            architecture: Architecture::X86_64,
            offline: true,
            jobs: 2,
        };
        let programs = build(&request, &cache, &Progress::hidden()).await?;
        let again = build(&request, &cache, &Progress::hidden()).await?;
        assert_eq!(programs["tiny"].digest(), again["tiny"].digest());
        Ok(programs["tiny"].digest())
    }

    #[tokio::test]
    async fn two_folders_give_the_same_bytes() {
        let source = "package main\nvar version string\nfunc main() { println(version) }\n";
        assert_eq!(built(source).await.unwrap(), built(source).await.unwrap());
    }

    #[tokio::test]
    async fn a_failing_build_shows_its_last_lines() {
        let error = built("package main\nfunc main() { nonsense }\n").await.unwrap_err();
        assert!(error.to_string().contains("undefined: nonsense"), "{error}");
    }
}
