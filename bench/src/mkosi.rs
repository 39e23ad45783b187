//! mkosi, with the Debian packages of the node image and the machine's own mirror.
//!
//! What it is asked for, and what Slipway makes besides, is said in docs/benchmarks.md.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use vm_tests::workspace;

/// Whether mkosi may start from the root that it kept of an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From the downloaded packages: mkosi's default.
    FromPackages,
    /// From the kept root: `Incremental=yes`.
    FromKeptRoot,
}

/// What mkosi makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// A disk image with an ext4 root, by systemd-repart.
    Disk,
    /// A folder.
    Folder,
}

/// A configuration in a folder of its own.
#[derive(Debug)]
pub struct Mkosi {
    folder: PathBuf,
}

impl Mkosi {
    /// Writes the configuration for `packages` into `folder`; runs nothing.
    ///
    /// # Errors
    /// When mkosi cannot work here, with what it lacks.
    pub fn new(folder: &Path, packages: &[String], start: Start, product: Product) -> Result<Self> {
        ensure!(fs::metadata("/proc/self")?.uid() == 0, "mkosi builds for Debian only as root");
        let version = Command::new("mkosi").arg("--version").output();
        version.context("cannot run mkosi: apt install -t bookworm-backports mkosi")?;
        for name in ["out", "extra", "../mkosi-packages"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let incremental = if start == Start::FromKeptRoot { "yes" } else { "no" };
        let format = if product == Product::Disk { "disk" } else { "directory" };
        let text = format!(
            "[Distribution]\nDistribution=debian\nRelease=trixie\nArchitecture=x86-64\n\
             LocalMirror={mirror}\n\n\
             [Output]\nFormat={format}\nOutput=peer\nOutputDirectory=out\n\
             CacheDirectory={packages_kept}\n\n\
             [Content]\nBootable=no\nBootloader=none\nWithDocs=no\n\
             ExtraTrees=extra:/\nPackages={packages}\n\n\
             [Host]\nIncremental={incremental}\n",
            mirror = mirror()?,
            packages_kept = fs::canonicalize(folder.join("../mkosi-packages"))?.display(),
            packages = packages.join(","),
        );
        fs::write(folder.join("mkosi.conf"), text)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Puts a file of the machine's administrator into the image.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn change(&self, text: &str) -> Result<()> {
        let file = self.folder.join("extra/usr/share/bench/changed");
        fs::create_dir_all(file.parent().context("no folder")?)?;
        Ok(fs::write(file, text)?)
    }

    /// The command that builds.
    pub fn command(&self) -> Command {
        let mut command = Command::new("mkosi");
        command.args(["--force", "build"]).current_dir(&self.folder);
        command
    }

    /// What the command leaves.
    pub fn output(&self) -> PathBuf {
        self.folder.join("out/peer")
    }
}

/// The packages that the node image asks Debian for, from its lock.
///
/// # Errors
/// When there is no lock.
pub fn requested() -> Result<Vec<String>> {
    let path = workspace().join("manifests/images/node.lock");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let list = text.split_once("requested = [").and_then(|(_, rest)| rest.split_once(']'));
    let Some((list, _)) = list else { bail!("{} has no `requested`", path.display()) };
    let names = list.split(',').map(|name| name.trim().trim_matches('"').to_owned());
    Ok(names.filter(|name| !name.is_empty()).collect())
}

/// The Debian archive that apt uses on this machine; it is read at each run.
fn mirror() -> Result<String> {
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)"])
        .output()
        .context("cannot run apt-get")?;
    let text = String::from_utf8_lossy(&targets.stdout);
    let found = text.lines().find(|line| line.ends_with("/debian/"));
    Ok(found.context("apt is not configured with a Debian archive")?.to_owned())
}
