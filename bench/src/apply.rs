//! Applying a whole release to a slot, beside the least that any program must do for it.
//!
//! All run in turns, each as a process of its own, into files that are there already, as a
//! partition is. The floor writes the same bytes, hashes them once and syncs; a second one also
//! reads them back, as whoever wants to know what is on the disk must.

use std::fs::{self, File};
use std::io::copy;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::document::{head, row};
use crate::measure::{Spread, in_turns};
use crate::offered::{self, Applied, Offered, Way};
use crate::releases;

/// Measured rounds.
const ROUNDS: usize = 8;

/// One after the other, what each cost.
struct Round {
    floor: Applied,
    read_back: Applied,
    staged: Applied,
}

const MEGABYTE: f64 = 1e6;

/// Measures, and gives the table.
///
/// # Errors
/// When the release cannot be built, published or staged.
pub fn table(folder: &Path) -> Result<String> {
    let folder = folder.join("apply");
    let (least, slot) = (folder.join("floor.img"), folder.join("slot"));
    fs::create_dir_all(&slot)?;
    let release = releases::node(folder.parent().context("no folder")?)?;
    let offered = Offered::new(&folder, &release)?;
    let input = same_bytes(&folder, &release)?;
    let round = |number: usize| -> Result<Round> {
        let mut costs = Vec::new();
        for what in in_turns(number, 0..3) {
            sync()?;
            costs.push(match what {
                0 => offered::floor(&input, &least)?,
                1 => offered::floor_read_back(&input, &least)?,
                _ => offered.stage(Way::Full, &slot)?,
            });
        }
        let [floor, read_back, staged] = in_turns(number, costs)[..] else { bail!("not all") };
        Ok(Round { floor, read_back, staged })
    };
    // Makes the files; not measured.
    round(0)?;
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        eprintln!("bench: apply, round {number} of {ROUNDS}");
        rounds.push(round(number)?);
    }
    lines(fs::metadata(&input)?.len(), &rounds)
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

fn lines(bytes: u64, rounds: &[Round]) -> Result<String> {
    let mut text = head(&["", "seconds", "times the floor", "peak MiB"]);
    let bytes = bytes as f64 / MEGABYTE;
    let sent = rounds.first().map_or(0, |round| round.staged.sent) as f64 / MEGABYTE;
    let mut add = |what: String, of: fn(&Round) -> Applied| -> Result<()> {
        let seconds = Spread::of(rounds.iter().map(|round| of(round).seconds))?;
        let times = Spread::of(rounds.iter().map(|round| of(round).seconds / round.floor.seconds))?;
        let peak = Spread::of(rounds.iter().map(|round| of(round).peak))?.max;
        text += &row(&[what, format!("{seconds:.2}"), format!("{times:.2}"), format!("{peak:.1}")]);
        Ok(())
    };
    add(format!("floor: write, SHA-256 and sync of the same {bytes:.1} MB"), |round| round.floor)?;
    add("the floor, then read from the device and SHA-256 of that".to_owned(), |round| {
        round.read_back
    })?;
    add(format!("Slipway, *full*, {sent:.1} MB over loopback"), |round| round.staged)?;
    Ok(text)
}
