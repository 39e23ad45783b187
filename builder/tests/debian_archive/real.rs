//! The real archive, by the host's apt configuration: the solver gives what apt gives, and
//! trees hold what dpkg-deb lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use builder::formats::tree::Node;
use builder::inputs::cache::Cache;
use builder::inputs::debian::{ExpirationEnforcement, unpack, unpack_all};
use builder::inputs::fetch::mirror::{ENVIRONMENT_VARIABLE, Location};
use builder::inputs::fetch::{Fetching, Mirrors, Source, fetch_all, fill_store};
use builder::lock::{DebianLock, LockRequest, PackageLock, lock_packages};
use builder::progress::Progress;
use contract::Architecture;

const SUITES: [&str; 3] = ["trixie", "trixie-updates", "trixie-security"];
const PACKAGES: &str = "linux-image-cloud-amd64 systemd systemd-repart udev systemd-boot \
    systemd-boot-efi kmod mount iptables runc ca-certificates e2fsprogs systemd-resolved \
    systemd-timesyncd systemd-cryptsetup cryptsetup-bin dmsetup";
/// Another list, rich in alternatives and virtual packages.
const OTHERS: &str = "cloud-init openssh-server network-manager chrony rsyslog nginx-light \
    postgresql default-jre-headless emacs-nox libpam-systemd mailutils python3-full dbus socat \
    containerd nftables conntrack iproute2 login passwd apt bash";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

fn mirrors() -> Mirrors {
    let environment = std::env::var(ENVIRONMENT_VARIABLE).ok();
    Mirrors::discover(None, environment.as_deref(), Path::new("/etc/apt"))
        .expect("this test needs a Debian mirror")
}

fn request(packages: &str) -> LockRequest {
    LockRequest {
        suites: SUITES.map(str::to_owned).to_vec(),
        components: vec!["main".into()],
        packages: packages.split_whitespace().map(str::to_owned).collect(),
        architecture: Architecture::X86_64,
        keyring: KEYRING.into(),
        now: SystemTime::now(),
        // The clock of a test machine may be off; expiry has its own test.
        expiration: ExpirationEnforcement::Ignore,
    }
}

async fn lock(cache: &Cache, packages: &str) -> DebianLock {
    let locked = lock_packages(&request(packages), &mirrors(), cache, &Progress::hidden()).await;
    locked.expect("this test needs a reachable Debian mirror")
}

/// A private apt state over the same mirrors.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn updated(folder: PathBuf) -> Self {
        for name in ["state/lists/partial", "cache/archives/partial", "parts"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let mirrors = mirrors();
        let line = |suite: &str| match mirrors.archive(suite) {
            Location::Web(base) => format!("deb [signed-by={KEYRING}] {base} {suite} main\n"),
            Location::Folder(base) => {
                format!("deb [signed-by={KEYRING}] file:{} {suite} main\n", base.display())
            }
        };
        std::fs::write(folder.join("sources.list"), SUITES.map(line).concat()).unwrap();
        std::fs::write(folder.join("status"), "").unwrap();
        let apt = Self { folder };
        apt.run(&["update"]);
        apt
    }

    fn run(&self, arguments: &[&str]) -> String {
        let place = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C").arg("-qq");
        for (key, value) in [
            ("Dir::State", place("state")),
            ("Dir::State::status", place("status")),
            ("Dir::Cache", place("cache")),
            ("Dir::Etc::sourcelist", place("sources.list")),
            ("Dir::Etc::sourceparts", place("parts")),
            ("Dir::Etc::preferencesparts", place("parts")),
            ("Acquire::Check-Valid-Until", "false".into()),
            ("Acquire::Languages", "none".into()),
            ("APT::Architecture", "amd64".into()),
            ("APT::Architectures", "amd64".into()),
            ("APT::Sandbox::User", String::new()),
        ] {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        let output = command.args(arguments).output().expect("apt-get: install the package apt");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "apt-get {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `apt-get install` would install on an empty system, as `name=version`.
    fn selection(&self, packages: &str) -> BTreeSet<String> {
        let mut install = vec!["-s", "--no-install-recommends", "install"];
        install.extend(packages.split_whitespace());
        let plan = self.run(&install);
        let chosen = plan.lines().filter_map(|line| {
            let mut words = line.strip_prefix("Inst ")?.split_whitespace();
            let (name, version) = (words.next()?, words.next()?);
            Some(format!("{name}={}", version.trim_start_matches('(')))
        });
        chosen.collect()
    }
}

#[tokio::test]
async fn the_solver_gives_what_apt_gives() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let apt = Apt::updated(folder.path().join("apt"));
    for packages in [PACKAGES, OTHERS] {
        let locked = lock(&cache, packages).await.package;
        let ours: BTreeSet<String> =
            locked.iter().map(|package| format!("{}={}", package.name, package.version)).collect();
        let apts = apt.selection(packages);
        let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| -> Vec<String> {
            a.difference(b).cloned().collect()
        };
        assert_eq!(only(&ours, &apts), Vec::<String>::new(), "packages that apt does not take");
        assert_eq!(only(&apts, &ours), Vec::<String>::new(), "packages that only apt takes");
        assert!(ours.len() > 60, "{} packages", ours.len());
    }
}

/// Paths and kinds as `dpkg-deb --contents` lists them, in our form.
fn dpkg_contents(deb: &PathBuf) -> BTreeMap<String, char> {
    let output = Command::new("dpkg-deb")
        .env("LC_ALL", "C.UTF-8")
        .arg("--contents")
        .arg(deb)
        .output()
        .expect("dpkg-deb: install the package dpkg");
    assert!(output.status.success(), "{output:?}");
    let listing = String::from_utf8(output.stdout).unwrap();
    let mut found = BTreeMap::new();
    for line in listing.lines() {
        let kind = line.chars().next().unwrap();
        let path = &line[line.find(" ./").unwrap() + 3..];
        let path = path.split(" -> ").next().unwrap();
        let (path, kind) = match path.split_once(" link to ") {
            Some((path, _)) => (path, 'h'),
            None => (path, kind),
        };
        // tar's listing doubles backslashes.
        let path = path.trim_end_matches('/').replace("\\\\", "\\");
        let path = match path.strip_suffix(".ko.xz") {
            Some(stem) => format!("{stem}.ko"),
            None => path,
        };
        let top = path.split('/').next().unwrap();
        let merged = matches!(top, "bin" | "sbin" | "lib" | "lib64");
        if !(merged && kind == 'l' && !path.contains('/')) {
            found.insert(if merged { format!("usr/{path}") } else { path }, kind);
        }
    }
    found
}

fn our_contents(package: &PackageLock, cache: &Cache) -> BTreeMap<String, char> {
    let tree = unpack(package, cache).unwrap();
    let kind = |node: &Node| match node {
        Node::Directory => 'd',
        Node::File(_) => '-',
        Node::Symlink(_) => 'l',
        Node::HardLink(_) => 'h',
        other => panic!("{other:?}"),
    };
    tree.iter().map(|(path, entry)| (path.as_str().to_owned(), kind(&entry.node))).collect()
}

#[tokio::test]
async fn packages_are_fetched_unpacked_and_stored() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let progress = Progress::hidden();
    let packages = lock(&cache, PACKAGES).await.package;
    let source = Source::Mirrors(mirrors());
    let fetching = Fetching { source: &source, jobs: 8, cache: &cache, progress: &progress };
    let fetched = fetch_all(&packages, &fetching).await.unwrap();
    assert_eq!(fetched.downloaded, packages.len());

    let unpacked = unpack_all(&packages, 2, &cache, &progress).unwrap();
    let started = std::time::Instant::now();
    let again = unpack_all(&packages, 2, &cache, &progress).unwrap();
    println!("{} packages read from the cache in {:?}", again.len(), started.elapsed());
    assert!(unpacked == again, "the index gives what unpacking gave");
    for package in &packages {
        let expected = dpkg_contents(&cache.blob(&package.sha256));
        let ours = our_contents(package, &cache);
        let differs = |path: &&String| ours.get(*path) != expected.get(*path);
        let different: BTreeSet<&String> =
            ours.keys().chain(expected.keys()).filter(differs).collect();
        assert!(different.is_empty(), "{}: {different:?}", package.name);
    }

    // A store stands in for the mirror.
    let store = folder.path().join("store");
    assert_eq!(fill_store(&packages, &store, &cache).unwrap(), packages.len());
    assert_eq!(fill_store(&packages, &store, &cache).unwrap(), 0);
    let other = Cache::open(&folder.path().join("other")).unwrap();
    let source = Source::Mirrors(Mirrors::parse(store.to_str().unwrap()).unwrap());
    let fetching = Fetching { source: &source, cache: &other, ..fetching };
    assert_eq!(fetch_all(&packages, &fetching).await.unwrap().downloaded, packages.len());
}
