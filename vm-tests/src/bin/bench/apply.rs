//! Applying a whole release to a slot, beside the least that any program must do for it.
//!
//! Both run in turns, each as a process of its own, into files that are there already, as a
//! partition is. The floor writes the same bytes, hashes them once and syncs.

use std::fs::{self, File};
use std::io::copy;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::document::{head, row};
use crate::measure::Spread;
use crate::offered::{Applied, Offered, Way, floor};
use crate::releases;

/// Measured rounds.
const ROUNDS: usize = 7;

const MEGABYTE: f64 = 1e6;

/// Measures, and gives the table.
///
/// # Errors
/// When the release cannot be built, published or staged.
pub fn table(folder: &Path) -> Result<String> {
    let folder = folder.join("apply");
    let (least, slot) = (folder.join("floor"), folder.join("slot"));
    fs::create_dir_all(&slot)?;
    let release = releases::node(folder.parent().context("no folder")?)?;
    let offered = Offered::new(&folder, &release)?;
    let input = same_bytes(&folder, &release)?;
    let rounds = || -> Result<(Applied, Applied)> {
        sync()?;
        let least = floor(&input, &least)?;
        sync()?;
        Ok((least, offered.stage(Way::Full, &slot)?))
    };
    // Makes the files; not measured.
    rounds()?;
    let mut measured = Vec::new();
    for round in 1..=ROUNDS {
        eprintln!("bench: apply, round {round} of {ROUNDS}");
        measured.push(rounds()?);
    }
    lines(fs::metadata(&input)?.len(), &measured)
}

/// The bytes that staging writes and the floor too: the root and the UKI of a slot.
fn same_bytes(folder: &Path, release: &Path) -> Result<PathBuf> {
    let path = folder.join("same-bytes");
    let mut file = File::create(&path)?;
    for name in ["root.erofs", "slipway-b.efi"] {
        copy(&mut File::open(release.join(name))?, &mut file)?;
    }
    Ok(path)
}

/// Writes everything that is in memory, so that a run writes only its own bytes.
fn sync() -> Result<()> {
    ensure!(Command::new("sync").status().context("cannot run sync")?.success(), "sync failed");
    Ok(())
}

fn lines(bytes: u64, rounds: &[(Applied, Applied)]) -> Result<String> {
    let mut text = head(&["", "seconds", "times the floor", "peak MiB"]);
    let bytes = bytes as f64 / MEGABYTE;
    let seconds = |of: fn(&(Applied, Applied)) -> f64| Spread::of(rounds.iter().map(of));
    let peak = |of: fn(&(Applied, Applied)) -> f64| -> Result<String> {
        Ok(format!("{:.1}", Spread::of(rounds.iter().map(of))?.max))
    };
    text += &row(&[
        format!("floor: write, SHA-256 and sync of the same {bytes:.1} MB"),
        format!("{:.2}", seconds(|(least, _)| least.seconds)?),
        "1".to_owned(),
        peak(|(least, _)| least.peak)?,
    ]);
    let sent = rounds.first().map_or(0, |(_, staged)| staged.sent) as f64 / MEGABYTE;
    text += &row(&[
        format!("Slipway, *full*, {sent:.1} MB over loopback"),
        format!("{:.2}", seconds(|(_, staged)| staged.seconds)?),
        format!("{:.2}", seconds(|(least, staged)| staged.seconds / least.seconds)?),
        peak(|(_, staged)| staged.peak)?,
    ]);
    Ok(text)
}
