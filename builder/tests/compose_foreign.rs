//! The kernel module indexes of a built root, judged by kmod: what `modprobe` reads in them
//! is what it reads in those that `depmod` makes of the same modules.
//!
//! depmod's order of a module's dependencies is one of many right ones; so lists are
//! compared as sets, and that each module comes after what it needs.
//!
//! `symbol:` aliases are left out of images on purpose and of the comparison too: only
//! `symbol_request` asks for them, in drivers of television cards and the like.

#![allow(clippy::unwrap_used)]

mod tiny_image;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use builder::assemble::read_lock;
use builder::inputs::cache::Cache;
use builder::inputs::debian::unpack_all;
use builder::progress::Progress;
use tempfile::TempDir;

use tiny_image::{built, repository};

/// Runs a tool; gives its exit code and standard output.
fn run(package: &str, program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program} ({error}): apt install {package}"));
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same modules twice: with slipway's indexes and with depmod's.
struct Judged {
    _folder: TempDir,
    ours: PathBuf,
    theirs: PathBuf,
    release: String,
}

impl Judged {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        let image = built().join("out/root.erofs");
        let extract = format!("--extract={}", ours.display());
        let (done, text) = run("erofs-utils", "fsck.erofs", &[&extract, image.to_str().unwrap()]);
        assert!(done, "{text}");
        let modules = ours.join("usr/lib/modules");
        let name = fs::read_dir(&modules).unwrap().next().unwrap().unwrap().file_name();
        let release = name.into_string().unwrap();
        copy_modules(&modules.join(&release), &theirs.join("lib/modules").join(&release));
        add_package_lists(&theirs.join("lib/modules").join(&release));
        let base = theirs.to_str().unwrap();
        let (done, text) = run("kmod", "depmod", &["-b", base, &release]);
        assert!(done, "{text}");
        Self { _folder: folder, ours, theirs, release }
    }

    /// modprobe's exit code and lines, without the tree's own folder.
    fn modprobe(&self, tree: &Path, arguments: &[&str]) -> (bool, Vec<String>) {
        let folder = tree.to_str().unwrap();
        // Not the configuration of this host.
        let mut all = vec!["-C", "/dev/null", "-d", folder, "-S", &self.release];
        all.extend(arguments);
        let (done, text) = run("kmod", "modprobe", &all);
        (done, text.lines().map(|line| line.replace(folder, "")).collect())
    }

    fn in_both(&self, arguments: &[&str]) -> [(bool, Vec<String>); 2] {
        [self.modprobe(&self.ours, arguments), self.modprobe(&self.theirs, arguments)]
    }

    /// A file beside the modules in depmod's tree.
    fn theirs(&self, file: &str) -> String {
        let path = self.theirs.join("lib/modules").join(&self.release).join(file);
        String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
    }
}

/// Copies the folder `kernel`, without any index.
fn copy_modules(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let kernel = from.join("kernel");
    let (done, _) = run("coreutils", "cp", &["-r", kernel.to_str().unwrap(), to.to_str().unwrap()]);
    assert!(done);
}

/// Adds what depmod reads of the kernel's own package.
fn add_package_lists(to: &Path) {
    let lock = read_lock(&repository().join("manifests/images/node.lock")).unwrap();
    let kernel: Vec<_> = lock
        .debian
        .package
        .into_iter()
        .filter(|package| package.name.starts_with("linux-image-6"))
        .collect();
    let cache = Cache::open_default().unwrap();
    for package in unpack_all(&kernel, 1, &cache, &Progress::hidden()).unwrap() {
        for (path, entry) in package.tree.iter() {
            let wanted = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];
            if let builder::formats::tree::Node::File(content) = &entry.node
                && wanted.contains(&path.name())
            {
                fs::write(to.join(path.name()), content.read().unwrap()).unwrap();
            }
        }
    }
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Module file to all that it needs, as depmod found out from the modules' symbols.
fn needs(dep: &str) -> BTreeMap<String, BTreeSet<String>> {
    let lines = dep.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(file, needed)| {
            (file.to_owned(), needed.split_whitespace().map(str::to_owned).collect())
        })
        .collect()
}

/// Each file that is inserted comes after all that it needs.
fn assert_loadable(wanted: &str, lines: &[String], needs: &BTreeMap<String, BTreeSet<String>>) {
    let mut loaded = BTreeSet::new();
    for line in lines.iter().filter(|line| line.starts_with("insmod ")) {
        let (_, file) = line.split_once("/kernel/").unwrap();
        let file = format!("kernel/{}", file.trim());
        for needed in &needs[&file] {
            assert!(loaded.contains(needed), "{wanted}: {file} is loaded before {needed}");
        }
        loaded.insert(file);
    }
}

#[test]
fn modprobe_finds_in_our_indexes_what_it_finds_in_those_of_depmod() {
    let judged = Judged::new();
    let needs = needs(&judged.theirs("modules.dep"));
    assert!(needs.len() > 300, "{} modules", needs.len());
    for file in needs.keys() {
        let name = file.rsplit('/').next().unwrap().trim_end_matches(".ko");
        let [ours, theirs] = judged.in_both(&["--show-depends", name]);
        assert!(ours.0, "{name}");
        assert_loadable(name, &ours.1, &needs);
        assert_eq!(sorted(ours.1), sorted(theirs.1), "{name}");
    }
    let [ours, theirs] = judged.in_both(&["--showconfig"]);
    let theirs: Vec<String> =
        theirs.1.into_iter().filter(|line| !line.starts_with("alias symbol:")).collect();
    assert_eq!(sorted(ours.1), sorted(theirs));
    let devname = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let ours = judged.ours.join("usr/lib/modules").join(&judged.release).join("modules.devname");
    let ours = devname(&fs::read_to_string(ours).unwrap());
    assert_eq!(sorted(ours), sorted(devname(&judged.theirs("modules.devname"))));
}

#[test]
fn modprobe_resolves_every_alias_of_modules_and_of_the_kernel_itself() {
    let judged = Judged::new();
    let mut aliases: BTreeSet<String> = judged
        .theirs("modules.alias")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("alias ")?.split_once(' ')?.0.to_owned()))
        .collect();
    let built_in = judged.theirs("modules.builtin.modinfo");
    aliases.extend(
        built_in.split('\0').filter_map(|field| Some(field.split_once(".alias=")?.1.to_owned())),
    );
    let names = judged.theirs("modules.builtin");
    aliases.extend(
        names
            .lines()
            .map(|path| path.rsplit('/').next().unwrap().trim_end_matches(".ko").to_owned()),
    );
    aliases.insert("pci:v00001D0Fd0000EC20sv00001D0Fsd00000000bc02sc00i00".into());
    aliases.insert("there-is-no-such-alias".into());
    assert!(aliases.len() > 800, "{} aliases", aliases.len());
    for alias in aliases {
        // A pattern stands for one of the names that it matches.
        let name = alias.replace('*', "0");
        let [ours, theirs] = judged.in_both(&["-R", &name]);
        assert_eq!(ours.0, theirs.0, "{name}");
        assert_eq!(sorted(ours.1), sorted(theirs.1), "{name}");
    }
}
