//! Packing: audited trees into a root image with its hash tree, and an initrd.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use contract::release::layout::{MIB, ROOT_BYTES};
use contract::{Digest, RootDescription};
use uuid::Uuid;

use super::staging::Staging;
use super::{BuildError, Prepared};
use crate::formats::tree::{Node, Tree};
use crate::formats::{erofs, initrd, verity};
use crate::inputs::cache::Cache;
use crate::inputs::debian::date::parse_date;
use crate::lock::Lock;
use crate::manifest::Manifest;
use crate::progress::Progress;

/// Namespace of every UUID that this program derives.
const NAMESPACE: Uuid = Uuid::from_bytes(*b"slipway releases");

/// What packing made.
pub struct Packed {
    /// The root's description in the release document.
    pub root: RootDescription,
    /// Compressed initrd.
    pub initrd: Vec<u8>,
}

/// The seed of all UUIDs of an image: the same for every version, so that two releases
/// differ only where their contents do.
pub fn seed(manifest: &Manifest) -> Uuid {
    Uuid::new_v5(&NAMESPACE, manifest.image.name.as_bytes())
}

/// Packs root, hash tree and initrd; the latter two at once.
pub fn pack(
    manifest: &Manifest,
    lock: &Lock,
    prepared: &Prepared,
    staging: &Staging,
    cache: &Cache,
    progress: &Progress,
) -> Result<Packed, BuildError> {
    let time = image_time(lock)?;
    std::thread::scope(|scope| {
        let initrd = scope.spawn(|| pack_initrd(prepared.initrd.tree(), cache, progress));
        let root = pack_root(manifest, prepared.root.tree(), time, staging, progress)?;
        let initrd = match initrd.join() {
            Ok(initrd) => initrd?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok(Packed { root, initrd })
    })
}

/// Seconds since 1970 of the newest index in the lock: every file's time, and the least
/// time that a node's clock shows.
fn image_time(lock: &Lock) -> Result<u64, BuildError> {
    let dates = lock.debian.index.iter().filter_map(|index| parse_date(&index.date));
    let newest = dates.max().ok_or(BuildError::NoDate)?;
    newest.duration_since(UNIX_EPOCH).map(|time| time.as_secs()).map_err(|_| BuildError::NoDate)
}

fn pack_root(
    manifest: &Manifest,
    tree: &Tree,
    time: u64,
    staging: &Staging,
    progress: &Progress,
) -> Result<RootDescription, BuildError> {
    let task = progress.task("root file system");
    let seed = seed(manifest);
    let uuid = |name: &str| *Uuid::new_v5(&seed, name.as_bytes()).as_bytes();
    let path = staging.path("root.erofs");
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |error| BuildError::Write(path, error)
    };
    let file = File::create_new(&path).map_err(failed(&path))?;
    let mut out = BufWriter::with_capacity(MIB as usize, file);
    let bytes = erofs::write(tree, &erofs::Options { uuid: uuid("root"), time }, &mut out)?;
    let file = out.into_inner().map_err(|error| failed(&path)(error.into_error()))?;
    file.set_len(bytes).map_err(failed(&path))?;
    if bytes > ROOT_BYTES {
        return Err(BuildError::RootTooLarge { bytes, partition: ROOT_BYTES });
    }
    let salt = Digest::of(format!("dm-verity salt of {}", manifest.image.name).as_bytes());
    let options = verity::Options { salt, uuid: Uuid::new_v5(&seed, b"verity") };
    let hashes = staging.hash_tree();
    let mut out = BufWriter::new(File::create_new(&hashes).map_err(failed(&hashes))?);
    let mut data = BufReader::new(File::open(&path).map_err(failed(&path))?);
    let root_hash = verity::format(&mut data, bytes, &options, &mut out)?;
    out.flush().map_err(failed(&hashes))?;
    task.finish(&format!("{} MiB", bytes / MIB));
    Ok(RootDescription {
        root_hash,
        salt,
        verity_uuid: options.uuid,
        bytes,
        verity_bytes: verity::tree_bytes(bytes),
    })
}

/// The compressed initrd, from the cache when nothing in it has changed: compressing is
/// by far the slowest step of a warm build.
fn pack_initrd(tree: &Tree, cache: &Cache, progress: &Progress) -> Result<Vec<u8>, BuildError> {
    let kept = cache.folder("initrd")?.join(format!("{}.zst", fingerprint(tree)));
    match std::fs::read(&kept) {
        // A damaged file is made anew: its first 32 bytes are the digest of the rest.
        Ok(bytes) => {
            if let Some((digest, initrd)) = bytes.split_first_chunk::<32>()
                && Digest::of(initrd).as_bytes() == digest
            {
                return Ok(initrd.to_vec());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(BuildError::Write(kept, error)),
    }
    let task = progress.task("initrd");
    let mut bytes = Vec::new();
    initrd::write(tree, &mut bytes)?;
    cache.write(&kept, &[Digest::of(&bytes).as_bytes().as_slice(), &bytes].concat())?;
    task.finish(&format!("{} KiB", bytes.len() >> 10));
    Ok(bytes)
}

/// Digest of everything that decides an initrd's bytes.
fn fingerprint(tree: &Tree) -> Digest {
    let mut text = String::from("2\n");
    for (path, entry) in tree.iter() {
        let node = match &entry.node {
            Node::File(content) => content.digest().to_string(),
            node => format!("{node:?}"),
        };
        text += &format!("{path}\0{:o}\0{}\0{}\0{node}\n", entry.mode, entry.uid, entry.gid);
    }
    Digest::of(text.as_bytes())
}
