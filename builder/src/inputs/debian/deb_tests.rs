//! Packages made by hand: proper ones in every compression, and hostile ones. In the real
//! archive none of these exists; a mirror of one's own may hold any.

use std::io::{self, Write};

use proptest::prelude::*;
use tar::{EntryType, Header};

use super::deb::{Kind, MAX_ENTRIES, PackedEntry, read_deb};
use super::deb_error::DebError;
use crate::formats::tree::{Node, Tree, TreePath};
use crate::inputs::cache::Cache;
use crate::inputs::debian::{UnpackError, unpack};
use crate::lock::PackageLock;
use crate::progress::Progress;
use contract::Digest;

/// One tar entry, without the checks that the tar crate makes when writing.
fn entry(path: &[u8], kind: EntryType, link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    let fields = header.as_gnu_mut().unwrap();
    fields.name[..path.len()].copy_from_slice(path);
    fields.linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(path: &str, content: &[u8]) -> Vec<u8> {
    entry(path.as_bytes(), EntryType::Regular, b"", content)
}

fn folder(path: &str) -> Vec<u8> {
    entry(path.as_bytes(), EntryType::Directory, b"", b"")
}

fn symlink(path: &str, target: &str) -> Vec<u8> {
    entry(path.as_bytes(), EntryType::Symlink, target.as_bytes(), b"")
}

fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut member = Vec::new();
    let (zero, mode, size) = (0, 100_644, bytes.len());
    writeln!(member, "{name:<16}{zero:<12}{zero:<6}{zero:<6}{mode:<8}{size:<10}`").unwrap();
    member.extend(bytes);
    member.resize(member.len().next_multiple_of(2), b'\n');
    member
}

fn deb_of(data_name: &str, data: &[u8]) -> Vec<u8> {
    let control = member("control.tar.xz", b"odd");
    let head = [b"!<arch>\n".to_vec(), member("debian-binary", b"2.0\n"), control].concat();
    [head, member(data_name, data)].concat()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn tar_of(entries: &[Vec<u8>]) -> Vec<u8> {
    [&entries.concat()[..], &[0; 1024]].concat()
}

fn deb(entries: &[Vec<u8>]) -> Vec<u8> {
    deb_of("data.tar.xz", &xz(&tar_of(entries)))
}

fn read(deb: &[u8]) -> Result<(Vec<PackedEntry>, Vec<u8>), DebError> {
    let mut content = Vec::new();
    let entries = read_deb(deb, deb.len() as u64, &mut content)?;
    Ok((entries, content))
}

/// The reason for which a package with these entries is refused.
fn refusal(entries: &[Vec<u8>]) -> String {
    read(&deb(entries)).unwrap_err().to_string()
}

fn paths(entries: &[PackedEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.path.as_str()).collect()
}

#[test]
fn every_compression_gives_the_same_tree() {
    let tar = tar_of(&[folder("./"), folder("./usr/"), file("./usr/a", b"abc")]);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&tar).unwrap();
    let plain = read(&deb_of("data.tar", &tar)).unwrap();
    assert_eq!(paths(&plain.0), ["", "usr", "usr/a"]);
    assert_eq!(plain.1, b"abc");
    for (name, data) in [
        ("data.tar.xz", xz(&tar)),
        ("data.tar.zst/", zst(&tar)),
        ("data.tar.gz", gz.finish().unwrap()),
    ] {
        assert_eq!(read(&deb_of(name, &data)).unwrap(), plain, "{name}");
    }
    assert!(read(&deb_of("data.tar.bz2", &tar)).is_err());
}

#[test]
fn top_level_folders_move_below_usr() {
    let (entries, _) = read(&deb(&[
        folder("./lib/"),
        folder("./usr/lib/"),
        file("./lib/x.so", b"x"),
        file("./usr/lib/y.so", b"y"),
        entry(b"./usr/lib/z.so", EntryType::Link, b"./lib/x.so", b""),
        symlink("./bin", "usr/bin"),
        symlink("./sbin/init", "/lib/systemd/systemd"),
    ]))
    .unwrap();
    let expected = ["usr/lib", "usr/lib/x.so", "usr/lib/y.so", "usr/lib/z.so", "usr/sbin/init"];
    assert_eq!(paths(&entries), expected);
    let target = TreePath::parse("usr/lib/x.so").unwrap();
    assert_eq!(entries[3].kind, Kind::Hardlink(target));
}

#[test]
fn modules_are_kept_raw() {
    let module = b"\x7fELF module".repeat(100);
    let packed = file("./usr/lib/modules/6/m.ko.xz", &xz(&module));
    let (entries, content) = read(&deb(&[packed])).unwrap();
    assert_eq!(paths(&entries), ["usr/lib/modules/6/m.ko"]);
    assert_eq!(content, module);
    let size = module.len() as u64;
    assert_eq!(entries[0].kind, Kind::File(0, size, Digest::of(&module)));
    let cut = xz(&module);
    assert!(refusal(&[file("./m.ko.xz", &cut[..cut.len() / 2])]).contains("m.ko.xz"));
}

#[test]
fn long_names_are_read_up_to_a_bound() {
    let long = format!("./usr/{}", "long-name/".repeat(20));
    let name = entry(b"././@LongLink", EntryType::GNULongName, b"", long.as_bytes());
    let (entries, _) = read(&deb(&[name, folder("cut")])).unwrap();
    assert_eq!(paths(&entries), [long.trim_start_matches("./").trim_end_matches('/')]);
    let name = entry(b"././@LongLink", EntryType::GNULongName, b"", &vec![b'a'; 1 << 20]);
    assert!(refusal(&[name, folder("cut")]).contains("more than 4096 bytes"));
}

#[test]
fn paths_out_of_the_tree_are_refused() {
    for path in ["../etc/passwd", "./usr/../../etc/passwd", "/etc/passwd", "./a\nb"] {
        assert!(refusal(&[file(path, b"x")]).contains("its entry"), "{path}");
    }
    let latin1 = entry(b"./caf\xe9", EntryType::Regular, b"", b"x");
    assert!(refusal(&[latin1]).contains("is not UTF-8"));
}

#[test]
fn links_out_of_the_tree_are_refused() {
    for target in ["../../etc/passwd", "x/../../../y", "/..", ""] {
        let reason = refusal(&[symlink("./usr/link", target)]);
        assert!(reason.contains("is a link"), "{target}: {reason}");
    }
    let hard = |target: &str| entry(b"./usr/hard", EntryType::Link, target.as_bytes(), b"");
    for target in ["../etc/passwd", "/etc/passwd", "./missing", "./usr"] {
        let reason = refusal(&[folder("./usr"), hard(target)]);
        assert!(reason.contains("its entry"), "{target}: {reason}");
    }
}

#[test]
fn files_below_links_and_files_are_refused() {
    let below = file("./usr/link/passwd", b"x");
    assert!(refusal(&[symlink("./usr/link", "/etc"), below.clone()]).contains("no folder"));
    assert!(refusal(&[below, file("./usr/link", b"x")]).contains("no folder"));
}

#[test]
fn an_entry_that_is_there_twice_is_refused() {
    assert!(refusal(&[file("./a", b"1"), file("./a", b"2")]).contains("twice"));
    assert!(refusal(&[file("./lib/a", b"1"), file("./usr/lib/a", b"2")]).contains("twice"));
    assert!(refusal(&[folder("./a"), symlink("./a", "b")]).contains("twice"));
}

#[test]
fn devices_sparse_files_and_extended_headers_are_refused() {
    for kind in [
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::new(b'Z'),
    ] {
        let reason = refusal(&[entry(b"./dev/x", kind, b"", b"")]);
        assert!(reason.contains("its entry `./dev/x`"), "{kind:?}: {reason}");
    }
}

#[test]
fn ten_gigabytes_of_zeros_are_given_up_early() {
    // One frame of zeros, ten thousand times: the package has half a megabyte.
    let mut header = Header::new_gnu();
    header.set_path("./zeros").unwrap();
    header.set_size(10 << 30);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let zeros = zst(&vec![0; 1 << 20]);
    let data = [zst(header.as_bytes()), zeros.repeat(10 << 10)].concat();
    let package = deb_of("data.tar.zst", &data);
    struct Counter(u64);
    impl Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut written = Counter(0);
    let error = read_deb(&package[..], package.len() as u64, &mut written).unwrap_err();
    assert!(matches!(error, DebError::TooLarge(_)), "{error}");
    assert!(written.0 < 256 << 20, "{} bytes were written first", written.0);
}

#[test]
fn zeros_inside_a_module_are_given_up_early() {
    let frame = xz(&vec![0; 16 << 20]);
    let module = file("./m.ko.xz", &frame.repeat(40));
    let error = read(&deb(&[module])).unwrap_err();
    assert!(matches!(error, DebError::TooLarge(_)), "{error}");
}

#[test]
fn zeros_between_entries_are_given_up_early() {
    // Payload of an entry that is skipped, not written.
    let mut header = Header::new_gnu();
    header.set_path("./link").unwrap();
    header.set_entry_type(EntryType::Symlink);
    header.set_link_name("x").unwrap();
    header.set_size(10 << 30);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let data = [zst(header.as_bytes()), zst(&vec![0; 1 << 20]).repeat(10 << 10)].concat();
    let error = read(&deb_of("data.tar.zst", &data)).unwrap_err();
    assert!(matches!(error, DebError::TooLarge(_)), "{error}");
}

#[test]
fn too_many_entries_are_refused() {
    let thousand = zst(&folder("./a").repeat(1000));
    let data = thousand.repeat(MAX_ENTRIES / 1000 + 1);
    let error = read(&deb_of("data.tar.zst", &data)).unwrap_err();
    assert!(error.to_string().contains("entries"), "{error}");
}

#[test]
fn truncated_packages_are_refused() {
    let content: Vec<u8> =
        (0..5000u32).flat_map(|i| i.wrapping_mul(77_777).to_le_bytes()).collect();
    let whole = deb(&[folder("./usr"), file("./usr/a", &content)]);
    assert!(read(&whole).is_ok());
    for length in (0..whole.len() - 200).step_by(97) {
        let error = read(&whole[..length]).unwrap_err();
        assert!(matches!(error, DebError::Format(_)), "{length}: {error}");
    }
}

#[test]
fn other_archives_are_refused() {
    let magic = b"!<arch>\n".to_vec();
    let version = member("debian-binary", b"2.0\n");
    let huge = b"debian-binary   0           0     0     100644  9999999999`\n".to_vec();
    let minus = b"debian-binary   0           0     0     100644  -1        `\n".to_vec();
    for bytes in [
        Vec::new(),
        b"PK\x03\x04 something else".to_vec(),
        magic.clone(),
        [magic.clone(), member("debian-binary", b"3.0\n")].concat(),
        [magic.clone(), version.clone(), member("data.tar", b"")].concat()[..80].to_vec(),
        [magic.clone(), version, member("other", b"")].concat(),
        [magic.clone(), huge].concat(),
        [magic, minus].concat(),
    ] {
        assert!(matches!(read(&bytes), Err(DebError::Format(_))), "{} bytes", bytes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..4096, any::<u8>()), 1..8)) {
        let tar = tar_of(&[folder("./usr"), file("./usr/a", b"abc"), symlink("./l", "usr/a")]);
        let mut package = deb_of("data.tar", &tar);
        for (place, value) in flips {
            let length = package.len();
            package[place % length] ^= value;
        }
        if let Ok((entries, content)) = read(&package) {
            for entry in entries {
                if let Kind::File(offset, size, _) = entry.kind {
                    prop_assert!(offset + size <= content.len() as u64);
                }
            }
        }
    }
}

/// A cache that holds one package.
fn stored(bytes: &[u8]) -> (tempfile::TempDir, Cache, PackageLock) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    let sha256 = Digest::of(bytes);
    std::fs::write(cache.blob(&sha256), bytes).unwrap();
    let package = PackageLock {
        name: "sample".into(),
        version: "1-1".into(),
        architecture: "all".into(),
        suite: "trixie".into(),
        size: bytes.len() as u64,
        sha256,
        path: "pool/main/s/sample/sample_1-1_all.deb".into(),
    };
    (folder, cache, package)
}

/// The bytes of the sample's only file.
fn sample_content(tree: &Tree) -> Vec<u8> {
    match &tree.entry(&TreePath::parse("usr/a").unwrap()).unwrap().node {
        Node::File(content) => content.read().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_cache_is_made_again() {
    let (folder, cache, package) = stored(&deb(&[file("./usr/a", b"abc")]));
    let tree = unpack(&package, &cache).unwrap();
    assert_eq!(sample_content(&tree), b"abc");
    assert!(tree.iter().all(|(_, entry)| entry.origin.package == "sample"));
    let stored: Vec<_> = std::fs::read_dir(folder.path().join("packages"))
        .unwrap()
        .map(|item| item.unwrap().path())
        .collect();
    assert_eq!(stored.len(), 2);
    for damage in [&b""[..], b"x", &[b'0'; 200]] {
        for path in &stored {
            std::fs::write(path, damage).unwrap();
            let again = unpack(&package, &cache).unwrap();
            assert_eq!(again, tree);
            assert_eq!(sample_content(&again), b"abc", "{}", path.display());
        }
    }
}

#[test]
fn absent_damaged_and_hostile_packages_are_named() {
    let (_folder, cache, package) = stored(&deb(&[file("../a", b"abc")]));
    let error = unpack(&package, &cache).unwrap_err();
    assert!(matches!(error, UnpackError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("sample 1-1"), "{error}");
    std::fs::write(cache.blob(&package.sha256), b"other bytes").unwrap();
    let error = unpack(&package, &cache).unwrap_err();
    assert!(matches!(error, UnpackError::Damaged { .. }), "{error}");
    std::fs::remove_file(cache.blob(&package.sha256)).unwrap();
    let error = unpack(&package, &cache).unwrap_err();
    assert!(error.to_string().contains("slipway fetch"), "{error}");
    let all = super::unpack_all(&[package], 4, &cache, &Progress::hidden());
    assert!(all.is_err());
}
