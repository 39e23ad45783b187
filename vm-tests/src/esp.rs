//! Changing a disk image from outside: its EFI system partition with mtools, its bytes
//! directly.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use contract::release::layout::{ESP_BYTES, MIB};

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
    run_mtools(program, &image, arguments).map(drop)
}

fn run_mtools(program: &str, image: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(["-i", image])
        .args(arguments)
        .env("MTOOLS_SKIP_CHECK", "1")
        .output()
        .with_context(|| format!("cannot run {program}: apt install mtools"))?;
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The ESP of a qcow2 disk as a file of its own, to be changed and put back.
#[derive(Debug)]
pub struct Esp {
    disk: PathBuf,
    file: PathBuf,
}

impl Esp {
    /// Copies the ESP of `disk` to `file`.
    ///
    /// # Errors
    /// When qemu-img cannot.
    pub fn of_overlay(disk: &Path, file: &Path) -> Result<Self> {
        let esp = Self { disk: disk.to_owned(), file: file.to_owned() };
        esp.convert(&["-O", "raw", "--image-opts", &esp.place(), &file.display().to_string()])?;
        Ok(esp)
    }

    /// Where it is on the disk: the first partition.
    fn place(&self) -> String {
        format!(
            "driver=raw,offset={MIB},size={ESP_BYTES},file.driver=qcow2,file.file.driver=file,\
             file.file.filename={}",
            self.disk.display()
        )
    }

    fn convert(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new("qemu-img")
            .arg("convert")
            .args(arguments)
            .output()
            .context("cannot run qemu-img: run setup/install-dependencies")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "qemu-img convert {arguments:?}: {said}");
        Ok(())
    }

    /// Writes it to the disk.
    ///
    /// # Errors
    /// When qemu-img cannot.
    pub fn put_back(&self) -> Result<()> {
        let file = self.file.display().to_string();
        self.convert(&["-n", "-f", "raw", "--target-image-opts", &file, &self.place()])?;
        Ok(std::fs::remove_file(&self.file)?)
    }

    /// Names in a folder.
    ///
    /// # Errors
    /// When mtools finds no such folder.
    pub fn list(&self, folder: &str) -> Result<Vec<String>> {
        let image = self.file.display().to_string();
        let listed = run_mtools("mdir", &image, &["-b", &format!("::{folder}")])?;
        let name = |line: &str| line.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
        Ok(listed.lines().filter_map(name).collect())
    }

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// When mtools cannot.
    pub fn make_folder(&self, folder: &str) -> Result<()> {
        let image = self.file.display().to_string();
        let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
        for end in ends {
            let (above, name) = folder[..end].rsplit_once('/').unwrap_or(("", &folder[..end]));
            if !self.list(above)?.iter().any(|found| found == name) {
                run_mtools("mmd", &image, &[&format!("::{}", &folder[..end])])?;
            }
        }
        Ok(())
    }

    /// Writes a file.
    ///
    /// # Errors
    /// When mtools cannot.
    pub fn write(&self, file: &str, from: &Path) -> Result<()> {
        let (from, image) = (from.display().to_string(), self.file.display().to_string());
        run_mtools("mcopy", &image, &["-n", "-o", &from, &format!("::{file}")]).map(drop)
    }
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
