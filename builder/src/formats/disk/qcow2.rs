//! qcow2, version 3: the raw image without its zeros, for QEMU and clouds.
//!
//! In: a raw image. Out: header, refcounts, tables and the clusters that hold data
//! (QEMU: `docs/interop/qcow2.rst`). Nothing is compressed: that is a tool's or a
//! channel's business.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::DiskError;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Eight-byte entries of an L2 table.
const L2_ENTRIES: u64 = CLUSTER / 8;
/// Two-byte entries of a refcount block.
const REFCOUNTS: u64 = CLUSTER / 2;
/// "Copied" flag of a table entry: exactly one reference.
const COPIED: u64 = 1 << 63;
const HEADER_BYTES: u32 = 104;

/// Converts the raw image into `out`, an empty file.
///
/// # Errors
/// The first failed read or write.
pub fn write(raw: &mut File, out: &mut File) -> Result<(), DiskError> {
    let size = raw.metadata()?.len();
    let guest_clusters = size.div_ceil(CLUSTER);
    let used = used_clusters(raw, guest_clusters)?;
    let l2_tables = guest_clusters.div_ceil(L2_ENTRIES);
    let l1_clusters = (l2_tables * 8).div_ceil(CLUSTER);
    let fixed = 1 + l1_clusters + l2_tables;
    // Refcount blocks describe themselves too: grow until they fit.
    let mut blocks = 1;
    while blocks * REFCOUNTS < 1 + blocks + fixed + used.len() as u64 {
        blocks += 1;
    }
    let refcount_table = CLUSTER;
    let l1_at = (2 + blocks) * CLUSTER;
    let l2_at = l1_at + l1_clusters * CLUSTER;
    let data_at = l2_at + l2_tables * CLUSTER;
    let total = data_at / CLUSTER + used.len() as u64;

    let mut head = Vec::with_capacity(data_at as usize);
    head.extend(header(size, l1_at, l2_tables));
    head.resize(refcount_table as usize, 0);
    head.extend((0..blocks).flat_map(|index| ((2 + index) * CLUSTER).to_be_bytes()));
    head.resize(2 * CLUSTER as usize, 0);
    head.extend((0..total).flat_map(|_| 1_u16.to_be_bytes()));
    head.resize(l1_at as usize, 0);
    head.extend((0..l2_tables).flat_map(|i| ((l2_at + i * CLUSTER) | COPIED).to_be_bytes()));
    head.resize(l2_at as usize, 0);
    let mut entries = vec![0_u64; (l2_tables * L2_ENTRIES) as usize];
    for (place, guest) in (0..).zip(&used) {
        entries[*guest as usize] = (data_at + place * CLUSTER) | COPIED;
    }
    head.extend(entries.iter().flat_map(|entry| entry.to_be_bytes()));
    out.write_all(&head)?;

    let mut buffer = vec![0; CLUSTER as usize];
    for guest in used {
        read_cluster(raw, guest, &mut buffer)?;
        out.write_all(&buffer)?;
    }
    Ok(())
}

fn header(size: u64, l1_at: u64, l2_tables: u64) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(b"QFI\xfb");
    header.extend(3_u32.to_be_bytes());
    header.extend([0; 12]); // no backing file
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend(0_u32.to_be_bytes()); // no encryption
    header.extend((l2_tables as u32).to_be_bytes());
    header.extend(l1_at.to_be_bytes());
    header.extend(CLUSTER.to_be_bytes()); // refcount table
    header.extend(1_u32.to_be_bytes());
    header.extend([0; 12]); // no snapshots
    header.extend([0; 24]); // no feature bits
    header.extend(4_u32.to_be_bytes()); // refcounts of 16 bits
    header.extend(HEADER_BYTES.to_be_bytes());
    header.extend([0; 8]); // end of header extensions
    header
}

/// Numbers of the clusters that hold anything but zeros; holes are skipped unread.
fn used_clusters(raw: &mut File, clusters: u64) -> io::Result<Vec<u64>> {
    let mut used = Vec::new();
    let mut buffer = vec![0; CLUSTER as usize];
    let mut next = 0;
    while next < clusters {
        match rustix::fs::seek(&*raw, rustix::fs::SeekFrom::Data(next * CLUSTER)) {
            Ok(data) => next = data / CLUSTER,
            // No more data until the end.
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        }
        read_cluster(raw, next, &mut buffer)?;
        if buffer.iter().any(|byte| *byte != 0) {
            used.push(next);
        }
        next += 1;
    }
    Ok(used)
}

fn read_cluster(raw: &mut File, number: u64, buffer: &mut [u8]) -> io::Result<()> {
    raw.seek(SeekFrom::Start(number * CLUSTER))?;
    buffer.fill(0);
    let mut filled = 0;
    while filled < buffer.len() {
        match raw.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(())
}
