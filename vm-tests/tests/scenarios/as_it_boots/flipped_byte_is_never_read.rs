//! One changed bit in the root or in its hash tree: the kernel notices when it reads the
//! block, panics and reboots; no program ever gets the changed bytes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use vm_tests::machine::OnReset;
use vm_tests::{BOOT_SECONDS, esp, image, isolation, ready};

/// Places in the partition table.
const ROOT: u32 = 2;
const HASH_TREE: u32 = 3;
const BLOCK: u64 = 4096;

#[test]
fn flipped_byte_is_never_read() {
    isolation::isolated("flipped_byte_is_never_read", scenario);
}

fn scenario() -> Result<()> {
    let release = image::test_image()?;
    // The middle of kubelet, which every boot starts.
    let root = fs::read(release.join("root.erofs"))?;
    let kubelet = find_program(&root).context("the root has no kubelet to damage")?;
    detects(&release, "flipped_byte_is_never_read-root", ROOT, kubelet)?;
    // The hash of that block, in the lowest level of the tree, at the end of it.
    let leaves = leaf_position(root.len() as u64, kubelet);
    detects(&release, "flipped_byte_is_never_read-hash-tree", HASH_TREE, leaves)
}

/// Boots a disk with one changed bit and waits for the kernel's verdict.
fn detects(release: &Path, name: &str, partition: u32, offset: u64) -> Result<()> {
    let disk = image::disk_copy(release, name)?;
    esp::flip_bit(&disk, esp::partition_start(&disk, partition)? + offset)?;
    let mut machine = ready::start_disk(name, release, &disk, OnReset::Exit)?;
    machine.wait_for("is corrupted", BOOT_SECONDS)?;
    machine.wait_for("Kernel panic", BOOT_SECONDS)?;
    machine.wait_for_exit(BOOT_SECONDS)?;
    ensure!(!machine.serial().contains(vm_tests::HEALTHY), "the node came up\n{}", machine.tail());
    println!("{name}: noticed and rebooted");
    Ok(())
}

/// Byte offset of a block inside kubelet's code: the largest program of the image begins
/// on a block boundary with an ELF header, and a text of its own is far behind it.
fn find_program(root: &[u8]) -> Option<u64> {
    let text = b"k8s.io/kubernetes/cmd/kubelet/app";
    let at = root.windows(text.len()).position(|window| window == text)?;
    Some(at as u64)
}

/// Where the hash of the block at `offset` stands in the hash partition: superblock, then
/// levels from the top down (cryptsetup's on-disk format).
fn leaf_position(root_bytes: u64, offset: u64) -> u64 {
    let per_block = BLOCK / 32;
    let mut upper = 0;
    let mut blocks = root_bytes / BLOCK;
    while blocks > per_block {
        blocks = blocks.div_ceil(per_block);
        upper += blocks.div_ceil(per_block).max(1);
    }
    BLOCK + upper * BLOCK + (offset / BLOCK) * 32
}
