//! What the packers write, read by tools that this project did not write.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use builder::formats::disk::{Disk, DiskContents};
use builder::formats::erofs::{self, ReadKind};
use builder::formats::tree::{Content, Entry, Node, Origin, Tree, TreePath};
use builder::formats::{disk, initrd, verity};
use contract::Architecture;
use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

/// Runs a tool and demands success.
fn run(package: &str, program: &str, arguments: &[&str]) -> String {
    let output: Output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program} ({error}): apt install {package}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn entry(node: Node, mode: u16) -> Entry {
    Entry::new(node, mode, Origin::default())
}

fn file(bytes: impl Into<Vec<u8>>) -> Entry {
    entry(Node::File(Content::from_bytes(bytes.into())), 0o644)
}

/// A tree with everything that the format distinguishes.
fn varied_tree() -> Tree {
    let mut tree = Tree::new();
    for folder in ["", "usr", "usr/bin", "dev", "many"] {
        tree.insert(path(folder), entry(Node::Directory, 0o755));
    }
    tree.insert(
        path("usr/bin/tool"),
        entry(Node::File(Content::from_bytes(vec![7; 10_000])), 0o755),
    );
    tree.insert(path("usr/bin/same"), entry(Node::HardLink(path("usr/bin/tool")), 0o755));
    tree.insert(path("link"), entry(Node::Symlink("usr/bin/tool".into()), 0o777));
    tree.insert(path("dev/null"), entry(Node::CharacterDevice { major: 1, minor: 3 }, 0o666));
    tree.insert(path("dev/sda"), entry(Node::BlockDevice { major: 8, minor: 300 }, 0o660));
    tree.insert(path("fifo"), entry(Node::Fifo, 0o600));
    for size in [0, 1, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 100_000] {
        tree.insert(path(&format!("size-{size}")), file(vec![size as u8; size]));
    }
    for number in 0..700 {
        tree.insert(path(&format!("many/a-rather-long-name-{number:04}")), file("x"));
    }
    let mut tagged = file("tagged");
    tagged.xattrs.insert("user.note".into(), b"hello".to_vec());
    tagged.xattrs.insert("security.other".into(), vec![1, 2, 3]);
    tagged.uid = 70_000;
    tagged.gid = 80_000;
    tree.insert(path("tagged"), tagged);
    tree
}

fn write_erofs(tree: &Tree, to: &Path) {
    let options = erofs::Options { uuid: [5; 16], time: 1_700_000_000 };
    let mut out = File::create(to).unwrap();
    let bytes = erofs::write(tree, &options, &mut out).unwrap();
    assert_eq!(bytes % 4096, 0);
    out.set_len(bytes).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn fsck_erofs_accepts_and_extracts_the_image() {
    let folder = TempDir::new().unwrap();
    let image = folder.path().join("root.erofs");
    write_erofs(&varied_tree(), &image);
    run("erofs-utils", "fsck.erofs", &[text(&image)]);
    let dump = run("erofs-utils", "dump.erofs", &["--path=/usr/bin/tool", text(&image)]);
    assert!(dump.contains("Links: 2"), "{dump}");
    assert!(dump.contains("Size: 10000"), "{dump}");
}

#[test]
fn another_reader_finds_the_same_files() {
    let folder = TempDir::new().unwrap();
    let image = folder.path().join("root.erofs");
    write_erofs(&varied_tree(), &image);
    let listing = run("erofs-utils", "dump.erofs", &["--ls", "--path=/many", text(&image)]);
    assert!(listing.contains("a-rather-long-name-0699"), "{listing}");
    let out = folder.path().join("out");
    let extract = format!("--extract={}", text(&out));
    // Devices cannot be made without root: only files and links matter here.
    let mut tree = varied_tree();
    for device in ["dev/null", "dev/sda"] {
        tree.remove(&path(device));
    }
    if let Some(entry) = tree.entry_mut(&path("tagged")) {
        (entry.uid, entry.gid) = (0, 0);
        entry.xattrs.clear();
    }
    write_erofs(&tree, &image);
    run("erofs-utils", "fsck.erofs", &["--no-preserve", &extract, text(&image)]);
    assert_eq!(fs::read(out.join("tagged")).unwrap(), b"tagged");
    assert_eq!(fs::read(out.join("usr/bin/same")).unwrap(), vec![7; 10_000]);
}

#[test]
fn the_hash_tree_is_veritysetups_own() {
    let folder = TempDir::new().unwrap();
    let (data, ours, theirs) =
        (folder.path().join("data"), folder.path().join("ours"), folder.path().join("theirs"));
    let uuid = Uuid::from_bytes([3; 16]);
    for blocks in [1_usize, 2, 128, 129, 16_385] {
        let bytes: Vec<u8> = (0..blocks * 4096).map(|at| ((at * 31) >> 5) as u8).collect();
        fs::write(&data, &bytes).unwrap();
        let options = verity::Options { salt: [0xab; 32].into(), uuid };
        let mut out = Vec::new();
        let root =
            verity::format(&mut bytes.as_slice(), bytes.len() as u64, &options, &mut out).unwrap();
        fs::write(&ours, out).unwrap();
        if theirs.exists() {
            fs::remove_file(&theirs).unwrap();
        }
        let salt = "ab".repeat(32);
        let printed = run(
            "cryptsetup-bin",
            "veritysetup",
            &["format", "--salt", &salt, "--uuid", &uuid.to_string(), text(&data), text(&theirs)],
        );
        assert!(printed.contains(&root.to_string()), "{blocks} blocks: {printed}");
        assert_eq!(fs::read(&ours).unwrap(), fs::read(&theirs).unwrap(), "{blocks} blocks");
        let root = root.to_string();
        run("cryptsetup-bin", "veritysetup", &["verify", text(&data), text(&ours), &root]);
    }
}

fn written_disk(folder: &Path) -> std::path::PathBuf {
    let (root, hashes) = (folder.join("root.erofs"), folder.join("verity"));
    write_erofs(&varied_tree(), &root);
    let data = fs::read(&root).unwrap();
    let options = verity::Options { salt: [1; 32].into(), uuid: uuid::Uuid::from_bytes([2; 16]) };
    let mut out = File::create(&hashes).unwrap();
    verity::format(&mut data.as_slice(), data.len() as u64, &options, &mut out).unwrap();
    let mut esp = BTreeMap::new();
    esp.insert(path("EFI/BOOT/BOOTX64.EFI"), Content::from_bytes(vec![1; 100_000]));
    esp.insert(path("EFI/Linux/slipway-000001-a+3.efi"), Content::from_bytes(vec![2; 3_000_001]));
    esp.insert(path("loader/loader.conf"), Content::from_bytes(b"timeout 0\n".to_vec()));
    for number in 0..200 {
        let name = format!("many/a-file-with-a-long-name-{number}.txt");
        esp.insert(path(&name), Content::from_bytes(name.into_bytes()));
    }
    let contents = DiskContents {
        esp,
        root: &root,
        verity: &hashes,
        architecture: Architecture::X86_64,
        seed: Uuid::from_bytes([9; 16]),
    };
    let raw = folder.join("disk.raw");
    disk::write(
        &contents,
        &mut File::create_new(&raw).unwrap_or_else(|_| {
            fs::remove_file(&raw).unwrap();
            File::create_new(&raw).unwrap()
        }),
    )
    .unwrap();
    raw
}

#[test]
fn sgdisk_and_fsck_fat_find_nothing_to_say() {
    let folder = TempDir::new().unwrap();
    let raw = written_disk(folder.path());
    let table = run("gdisk", "sgdisk", &["-v", text(&raw)]);
    assert!(table.contains("No problems found"), "{table}");
    let mut opened = Disk::open(&raw).unwrap();
    let esp = opened.partition("esp").unwrap();
    let volume = folder.path().join("esp.img");
    let bytes = fs::read(&raw).unwrap();
    fs::write(&volume, &bytes[esp.start as usize..(esp.start + esp.bytes) as usize]).unwrap();
    let checked = run("dosfstools", "fsck.fat", &["-n", "-v", text(&volume)]);
    assert!(!checked.contains("differ") && !checked.contains("Orphan"), "{checked}");
    let target = folder.path().join("out.efi");
    let source = "::EFI/Linux/slipway-000001-a+3.efi";
    run("mtools", "mcopy", &["-n", "-i", text(&volume), source, text(&target)]);
    assert_eq!(fs::read(&target).unwrap(), vec![2; 3_000_001]);
    let own = opened.esp_files().unwrap();
    assert_eq!(own.len(), 203);
    assert_eq!(own[&path("loader/loader.conf")], b"timeout 0\n");
}

#[test]
fn qemu_img_finds_qcow2_equal_to_raw() {
    let folder = TempDir::new().unwrap();
    let raw = written_disk(folder.path());
    let converted = folder.path().join("disk.qcow2");
    disk::write_qcow2(&mut File::open(&raw).unwrap(), &mut File::create(&converted).unwrap())
        .unwrap();
    run("qemu-utils", "qemu-img", &["check", text(&converted)]);
    run(
        "qemu-utils",
        "qemu-img",
        &["compare", "-f", "raw", "-F", "qcow2", text(&raw), text(&converted)],
    );
}

#[test]
fn the_same_contents_give_the_same_disk() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let first = fs::read(written_disk(one.path())).unwrap();
    assert!(first == fs::read(written_disk(two.path())).unwrap());
}

#[test]
fn cpio_lists_the_initrd() {
    let folder = TempDir::new().unwrap();
    let packed = folder.path().join("initrd.zst");
    initrd::write(&varied_tree(), &mut File::create(&packed).unwrap()).unwrap();
    let archive = folder.path().join("initrd.cpio");
    run("zstd", "zstd", &["-q", "-d", text(&packed), "-o", text(&archive)]);
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let status = Command::new("cpio")
        .args(["-i", "-d", "--quiet", "--no-absolute-filenames", "usr/*", "link"])
        .current_dir(&out)
        .stdin(File::open(&archive).unwrap())
        .status()
        .unwrap_or_else(|error| panic!("cannot run cpio ({error}): apt install cpio"));
    assert!(status.success());
    assert_eq!(fs::read(out.join("usr/bin/same")).unwrap(), vec![7; 10_000]);
    assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("usr/bin/tool"));
}

#[test]
fn an_image_too_large_for_its_partition_is_refused() {
    let folder = TempDir::new().unwrap();
    let (root, hashes) = (folder.path().join("root"), folder.path().join("verity"));
    File::create(&root).unwrap().set_len((1 << 30) + 4096).unwrap();
    File::create(&hashes).unwrap().write_all(&[0; 4096]).unwrap();
    let contents = DiskContents {
        esp: BTreeMap::new(),
        root: &root,
        verity: &hashes,
        architecture: Architecture::X86_64,
        seed: Uuid::nil(),
    };
    let mut out = File::create(folder.path().join("disk.raw")).unwrap();
    let error = disk::write(&contents, &mut out).unwrap_err().to_string();
    assert!(error.contains("1073745920 bytes"), "{error}");
}

fn small_tree() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = "[a-z]{1,12}";
    prop::collection::vec((name, prop::collection::vec(any::<u8>(), 0..9000)), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_written_is_read_back(files in small_tree()) {
        let mut tree = Tree::new();
        tree.insert(path(""), entry(Node::Directory, 0o755));
        tree.insert(path("d"), entry(Node::Directory, 0o700));
        for (name, bytes) in files {
            tree.insert(path(&format!("d/{name}")), file(bytes));
        }
        let mut image = std::io::Cursor::new(Vec::new());
        erofs::write(&tree, &erofs::Options { uuid: [0; 16], time: 0 }, &mut image).unwrap();
        let found = erofs::read(&mut image, 0).unwrap();
        let digests: BTreeMap<_, _> = found.iter().filter_map(|entry| match entry.kind {
            ReadKind::File { digest, .. } => Some((entry.path.clone(), digest)),
            _ => None,
        }).collect();
        let expected: BTreeMap<_, _> = tree.iter().filter_map(|(path, entry)| match &entry.node {
            Node::File(content) => Some((path.clone(), content.digest())),
            _ => None,
        }).collect();
        prop_assert_eq!(digests, expected);
    }

    #[test]
    fn damaged_images_never_panic(at in 1024_usize..9000, value in any::<u8>()) {
        let mut image = std::io::Cursor::new(Vec::new());
        erofs::write(&varied_tree(), &erofs::Options { uuid: [0; 16], time: 0 }, &mut image).unwrap();
        image.get_mut()[at] = value;
        // Either outcome is right; a panic is not.
        drop(erofs::read(&mut image, 0));
    }
}
