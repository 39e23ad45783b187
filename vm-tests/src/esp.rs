//! Changing a disk image from outside: its EFI system partition with mtools, its bytes
//! directly.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Start of a partition in bytes, by its place in the table (from 1), as `sgdisk` reads it.
///
/// # Errors
/// When the image has no such partition.
pub fn partition_start(disk: &Path, number: u32) -> Result<u64> {
    let output = Command::new("/usr/sbin/sgdisk")
        .args(["-i", &number.to_string()])
        .arg(disk)
        .output()
        .context("cannot run sgdisk: apt install gdisk")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("First sector: "));
    let sector = line.and_then(|line| line.split(' ').next()).context("no such partition")?;
    Ok(sector.parse::<u64>()? * 512)
}

/// Copies a file out of the ESP.
///
/// # Errors
/// When mtools finds no such file.
pub fn read(disk: &Path, file: &str, to: &Path) -> Result<()> {
    mtools("mcopy", disk, &["-n", "-o", &format!("::{file}"), &to.display().to_string()])
}

/// Replaces a file of the ESP.
///
/// # Errors
/// When mtools cannot.
pub fn write(disk: &Path, file: &str, from: &Path) -> Result<()> {
    mtools("mcopy", disk, &["-n", "-o", &from.display().to_string(), &format!("::{file}")])
}

fn mtools(program: &str, disk: &Path, arguments: &[&str]) -> Result<()> {
    let image = format!("{}@@{}", disk.display(), partition_start(disk, 1)?);
    let output = Command::new(program)
        .args(["-i", &image])
        .args(arguments)
        .env("MTOOLS_SKIP_CHECK", "1")
        .output()
        .with_context(|| format!("cannot run {program}: apt install mtools"))?;
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Flips one bit of a file.
///
/// # Errors
/// When the file is shorter.
pub fn flip_bit(file: &Path, offset: u64) -> Result<()> {
    let mut open = File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    open.seek(SeekFrom::Start(offset))?;
    open.read_exact(&mut byte)?;
    open.seek(SeekFrom::Start(offset))?;
    open.write_all(&[byte[0] ^ 1])?;
    Ok(())
}
