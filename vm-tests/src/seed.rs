//! A seed disk as clouds attach it: a FAT file system with the label `cidata`, made by mtools.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

const BYTES: u64 = 1440 << 10;
/// First line of a `user-data` that is meant for Slipway.
const MARK: &str = "#slipway-settings";

/// Makes the disk `image`, whose `user-data` has the settings.
///
/// # Errors
/// When mtools cannot make it.
pub fn make(image: &Path, settings: &str) -> Result<()> {
    File::create(image)?.set_len(BYTES)?;
    mtools("mformat", image, &["-v", "cidata", "::"])?;
    let file = image.with_extension("user-data");
    fs::write(&file, format!("{MARK}\n{settings}"))?;
    mtools("mcopy", image, &[&file.display().to_string(), "::user-data"])
}

fn mtools(program: &str, image: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .arg("-i")
        .arg(image)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}: apt install mtools"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(())
}
