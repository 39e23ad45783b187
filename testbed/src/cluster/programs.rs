//! The programs of the control plane, built by `go` from the modules that `testbed/control-plane/`
//! pins, into `target/vm/cluster/`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use contract::Digest;

use crate::times::{self, Phase};
use crate::{artefacts, lock, workspace};

/// Module's folder, its package, and the program's name.
type Program = (&'static str, &'static str, &'static str);

/// The API server.
pub const API_SERVER: &str = "kube-apiserver";
/// The one that signs certificates.
pub const CONTROLLER_MANAGER: &str = "kube-controller-manager";
/// The one that gives pods their nodes.
pub const SCHEDULER: &str = "kube-scheduler";

const PROGRAMS: [Program; 5] = [
    ("etcd", "go.etcd.io/etcd/server/v3", "etcd"),
    ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", API_SERVER),
    ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", CONTROLLER_MANAGER),
    ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", SCHEDULER),
    ("kubernetes", "k8s.io/kubernetes/cmd/kubectl", "kubectl"),
];
/// The minor version before, with which its module and its programs end.
const OLDER: &str = "-1.36";
/// Of these there is an older one too: none may be newer than the API server.
const SERVERS: [&str; 3] = [API_SERVER, CONTROLLER_MANAGER, SCHEDULER];

/// Which programs a control plane is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Those of the minor version before.
    Older,
    /// Those of the version under test.
    Current,
}

impl Generation {
    /// The file of a program of Kubernetes.
    pub(super) fn program(self, name: &str) -> PathBuf {
        folder().join(match self {
            Generation::Older => format!("{name}{OLDER}"),
            Generation::Current => name.to_owned(),
        })
    }
}

/// Where the programs are.
pub fn folder() -> PathBuf {
    artefacts().join("cluster")
}

/// All programs are there.
///
/// # Errors
/// When one is missing.
pub(super) fn check(generation: Generation) -> Result<()> {
    let current = PROGRAMS.iter().map(|(_, _, name)| folder().join(name));
    for program in current.chain(SERVERS.map(|name| generation.program(name))) {
        ensure!(program.is_file(), "{} was not built: call `build` first", program.display());
    }
    Ok(())
}

/// Builds those whose pins have changed since. Minutes at first, then nothing. Another process
/// that builds them is waited for.
///
/// # Errors
/// When `go` fails; its own message is on the console.
pub fn build() -> Result<()> {
    PROGRAMS.iter().try_for_each(|(module, package, name)| build_one(module, package, name))
}

/// As [`build`], with the control plane of the minor version before.
///
/// # Errors
/// As [`build`].
pub fn build_with_older() -> Result<()> {
    build()?;
    SERVERS.iter().try_for_each(|name| {
        let package = format!("k8s.io/kubernetes/cmd/{name}");
        build_one(&format!("kubernetes{OLDER}"), &package, &format!("{name}{OLDER}"))
    })
}

fn build_one(module: &str, package: &str, name: &str) -> Result<()> {
    fs::create_dir_all(folder())?;
    let _alone = times::during(Phase::Building, || lock("control-plane"))?;
    let pins = workspace().join("testbed/control-plane").join(module);
    let mod_file = fs::read(pins.join("go.mod"))?;
    let pinned = Digest::of(&[mod_file, fs::read(pins.join("go.sum"))?].concat()).to_string();
    let (program, mark) = (folder().join(name), folder().join(format!("{name}.pins")));
    if program.is_file() && fs::read_to_string(&mark).is_ok_and(|built| built == pinned) {
        return Ok(());
    }
    println!("building {name} from {package}");
    let version = version(&pins, package)?;
    let mut numbers = version.trim_start_matches('v').split('.');
    let mut number = || numbers.next().unwrap_or_default().to_owned();
    let (major, minor) = (number(), number());
    let variable = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {variable}.gitVersion={version} -X {variable}.gitMajor={major} -X \
         {variable}.gitMinor={minor}"
    );
    let mut go = Command::new("go");
    go.current_dir(&pins)
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &flags, "-o"])
        .arg(&program)
        .arg(package);
    let status = times::during(Phase::Building, || go.status())
        .context("cannot run go: run setup/install-dependencies")?;
    ensure!(status.success(), "`go build` failed; its own message is above");
    Ok(fs::write(&mark, pinned)?)
}

/// The version of the package's module.
fn version(pins: &std::path::Path, package: &str) -> Result<String> {
    let output = Command::new("go")
        .current_dir(pins)
        .args(["list", "-f", "{{.Module.Version}}", package])
        .output()
        .context("cannot run go: run setup/install-dependencies")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
