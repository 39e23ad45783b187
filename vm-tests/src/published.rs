//! Channels that many scenarios begin with, published once: the test image, and so many of its
//! newer versions. Each scenario gets a copy.
//!
//! They are in `target/vm/published/<digest>/`, after the release document of the test image.
//! **Invariant:** a folder that exists is complete, and nobody writes into it: a copy shares only
//! blobs with it, which are named by their digest and never written twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use contract::Digest;
use testbed::channel::Channel;
use testbed::times::{self, Phase};

use crate::{artefacts, image};

/// The part of a channel that copies share.
const BLOBS: &str = "blobs";

/// Copies into the new folder `to` a channel with the test image and its next `newer` versions.
/// It points nowhere.
///
/// # Errors
/// When an image cannot be built, `slipway` fails, or the disk is full.
pub fn copy_to(to: &Path, newer: u32) -> Result<Channel> {
    let from = made(newer)?;
    times::during(Phase::Publishing, || -> Result<()> {
        fs::create_dir(to)?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let how = if entry.file_name() == BLOBS { "-rl" } else { "-r" };
            let status = Command::new("cp").arg(how).arg(entry.path()).arg(to).status()?;
            ensure!(status.success(), "cannot copy a channel: check that the disk is not full");
        }
        Ok(())
    })?;
    let copy = Channel::at(to);
    // It may have been published long ago.
    copy.refresh(&[])?;
    Ok(copy)
}

/// The channel that copies are made of.
fn made(newer: u32) -> Result<PathBuf> {
    let release = image::test_image()?;
    let document = fs::read(release.join("release.json"))
        .with_context(|| format!("{} is no release folder", release.display()))?;
    let all = artefacts().join("published");
    let of_this_image = all.join(Digest::of(&document).to_string());
    if all.exists() && !of_this_image.exists() {
        fs::remove_dir_all(&all)?;
    }
    let made = of_this_image.join(newer.to_string());
    if made.exists() {
        return Ok(made);
    }
    fs::create_dir_all(&of_this_image)?;
    let new = made.with_extension("new");
    let channel = Channel::init(&new)?;
    channel.publish(&release)?;
    for patch in 1..=newer {
        channel.publish(&image::newer(patch)?)?;
    }
    fs::rename(new, &made)?;
    Ok(made)
}
