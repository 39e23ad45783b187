//! RAUC's adaptive update by `block-hash-index`, as peer of the bytes that an update moves.
//!
//! In: the images of a release. Out: the index that `rauc bundle` writes for each, a SHA-256 for
//! each 4 KiB. What a node fetches is computed from them, by what RAUC documents: it takes every
//! block that its slot of the same kind has, and reads the others from the bundle, which is a
//! squashfs. So whole squashfs blocks move, and `mksquashfs` says how long they are. What is left
//! out is to RAUC's advantage: signature, manifest, and the bundle's own hash tree.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::measure::run;

/// Bytes of a block that has its hash in the index.
const BLOCK: u64 = 4096;
/// Bytes of a hash.
const HASH: usize = 32;
/// Bytes of a block that squashfs compresses: what mksquashfs takes without being told.
const PACKED: u64 = 128 << 10;
/// How squashfs compresses: as strong as `slipway publish`.
const COMPRESSION: [&str; 4] = ["-comp", "zstd", "-Xcompression-level", "19"];

/// A release, indexed.
#[derive(Debug)]
pub struct Indexed {
    folder: PathBuf,
    images: Vec<Image>,
}

/// One image, filled with zeros to whole blocks.
#[derive(Debug)]
struct Image {
    file: PathBuf,
    hashes: Vec<[u8; HASH]>,
}

impl Indexed {
    /// Bundles `images` in a new folder `folder`, and takes the indexes out again.
    ///
    /// # Errors
    /// When rauc, openssl or squashfs-tools fail.
    pub fn new(folder: &Path, images: &[PathBuf]) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let input = folder.join("input");
        fs::create_dir_all(&input)?;
        let mut manifest =
            "[update]\ncompatible=bench\nversion=1\n\n[bundle]\nformat=verity\n".to_owned();
        let name = |number: usize| format!("image{number}.img");
        for (number, image) in images.iter().enumerate() {
            let name = name(number);
            copy_padded(image, &input.join(&name))?;
            manifest +=
                &format!("\n[image.slot{number}]\nfilename={name}\nadaptive=block-hash-index\n");
        }
        fs::write(input.join("manifest.raucm"), manifest)?;
        let (bundle, out) = (folder.join("bundle.raucb"), folder.join("output"));
        let log = folder.join("rauc.log");
        run(&bundling(folder, &input, &bundle)?, &log)?;
        let mut unpack = Command::new("unsquashfs");
        unpack.args(["-no-progress", "-dest"]).arg(&out).arg(&bundle);
        unpack.args((0..images.len()).map(|number| name(number) + ".block-hash-index"));
        run(&unpack, &log)?;
        let image = |number: usize| -> Result<Image> {
            let index = fs::read(out.join(name(number) + ".block-hash-index"))?;
            let (hashes, rest) = index.as_chunks::<HASH>();
            ensure!(rest.is_empty(), "rauc wrote an index of {} bytes", index.len());
            Ok(Image { file: input.join(name(number)), hashes: hashes.to_vec() })
        };
        let images = (0..images.len()).map(image).collect::<Result<_>>()?;
        fs::remove_file(bundle)?;
        Ok(Self { folder: folder.to_owned(), images })
    }

    /// Bytes that a node with `old` fetches: the indexes, and squashfs blocks.
    ///
    /// # Errors
    /// When mksquashfs fails.
    pub fn bytes_after(&self, old: &Self) -> Result<u64> {
        let missing = self.folder.join("missing");
        if missing.exists() {
            fs::remove_dir_all(&missing)?;
        }
        fs::create_dir_all(&missing)?;
        let (mut bytes, mut fetched) = (0, false);
        for (number, (image, old)) in self.images.iter().zip(&old.images).enumerate() {
            bytes += (image.hashes.len() * HASH) as u64;
            let packed = missing_packed(&image.hashes, &old.hashes);
            fetched |= !packed.is_empty();
            copy_packed(&image.file, &packed, &missing.join(number.to_string()))?;
        }
        if fetched {
            let squashfs = self.folder.join("missing.squashfs");
            let mut pack = Command::new("mksquashfs");
            pack.arg(&missing).arg(&squashfs).args(["-noappend", "-no-progress", "-all-root"]);
            run(pack.args(COMPRESSION), &self.folder.join("mksquashfs.log"))?;
            bytes += fs::metadata(&squashfs)?.len();
        }
        Ok(bytes)
    }
}

/// The command that bundles `input`. Packing is left out: only the index is wanted.
fn bundling(folder: &Path, input: &Path, bundle: &Path) -> Result<Command> {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let mut request = Command::new("openssl");
    request.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=bench"]);
    request.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    run(&request, &folder.join("openssl.log"))?;
    let mut command = Command::new("rauc");
    command.arg("bundle").arg("--cert").arg(certificate).arg("--key").arg(key);
    command.arg("--mksquashfs-args=-noI -noD -noF").arg(input).arg(bundle);
    Ok(command)
}

/// squashfs blocks that hold a block which is not in `old`. One that comes twice is fetched once.
fn missing_packed(new: &[[u8; HASH]], old: &[[u8; HASH]]) -> BTreeSet<u64> {
    let mut known: HashSet<&[u8; HASH]> = old.iter().collect();
    let missing = new.iter().enumerate().filter(|(_, hash)| known.insert(*hash));
    missing.map(|(block, _)| block as u64 * BLOCK / PACKED).collect()
}

fn copy_padded(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    let file = File::options().write(true).open(to)?;
    Ok(file.set_len(file.metadata()?.len().next_multiple_of(BLOCK))?)
}

/// Copies only these squashfs blocks of `from`, one behind the other.
fn copy_packed(from: &Path, packed: &BTreeSet<u64>, to: &Path) -> Result<()> {
    let (from, mut to) = (File::open(from)?, File::create(to)?);
    let end = from.metadata()?.len();
    for start in packed.iter().map(|index| index * PACKED) {
        let mut block = vec![0; PACKED.min(end - start) as usize];
        from.read_exact_at(&mut block, start)?;
        to.write_all(&block)?;
    }
    Ok(())
}

/// Fails when a program is missing, with what to do.
///
/// # Errors
/// That it cannot run.
pub fn is_there() -> Result<()> {
    let packages = [("rauc", "rauc"), ("mksquashfs", "squashfs-tools"), ("openssl", "openssl")];
    for (program, package) in packages {
        let output = Command::new(program).arg("--help").output();
        output.with_context(|| format!("cannot run {program}: apt install {package}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_squashfs_blocks_move_for_blocks_that_are_new() {
        let hash = |number: u8| [number; HASH];
        let per_packed = (PACKED / BLOCK) as usize;
        let mut new = vec![hash(1); 3 * per_packed];
        let old = [hash(1)];
        assert!(missing_packed(&new, &old).is_empty());
        new[per_packed] = hash(2);
        new[2 * per_packed] = hash(2);
        assert_eq!(missing_packed(&new, &old), BTreeSet::from([1]));
    }
}
