//! Warm builds of the node image, paired with mkosi's of the same Debian packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::document::{head, row};
use crate::measure::{Cost, Spread, in_turns, run};
use crate::mkosi::{Mkosi, Product, Start, requested};
use crate::releases::slipway;

/// How often each build is measured, in both orders equally often.
const RUNS: usize = 4;

const MANIFEST: &str = "manifests/images/node.toml";

/// Costs of one kind of build, in the order of measurement.
#[derive(Debug, Default)]
struct Series {
    unchanged: Vec<Cost>,
    changed: Vec<Cost>,
}

/// Measures, and gives the table. The release of `MANIFEST` is left in `folder`/release.
///
/// # Errors
/// When a build fails. Without mkosi the table says so.
pub fn table(folder: &Path) -> Result<String> {
    // Fills the caches; not measured.
    run(&slipway(MANIFEST, &folder.join("release"))?, &folder.join("slipway-first.log"))?;
    let mut ours = Series::default();
    let peers = peers(folder);
    let mut theirs = [Series::default(), Series::default()];
    for index in 0..RUNS {
        eprintln!("bench: builds, round {} of {RUNS}", index + 1);
        let text = format!("round {index}\n");
        let manifest = changed_manifest(folder, &text)?;
        let all_peers = peers.as_deref().unwrap_or_default().iter().zip(&mut theirs);
        let builders = [Builder::Ours(&manifest, &mut ours)];
        let builders =
            builders.into_iter().chain(all_peers.map(|(peer, own)| Builder::Peer(peer, own)));
        for builder in in_turns(index, builders) {
            builder.measure(folder, index, &text)?;
        }
    }
    match peers {
        Ok(_) => lines(&ours, &theirs),
        Err(error) => Ok(lines(&ours, &[])? + &format!("\nNo peer in this run: {error:#}.\n")),
    }
}

/// Who builds, and what that has cost so far.
enum Builder<'a> {
    /// Slipway, with the manifest that adds a file.
    Ours(&'a str, &'a mut Series),
    Peer(&'a Mkosi, &'a mut Series),
}

impl Builder<'_> {
    /// Builds what is as it was, and what has one file with another `text`; which of them goes
    /// first, the round says.
    fn measure(self, folder: &Path, round: usize, text: &str) -> Result<()> {
        match self {
            Builder::Ours(manifest, series) => {
                for is_changed in in_turns(round, [false, true]) {
                    if is_changed {
                        series.changed.push(measure_slipway(folder, manifest, "release-changed")?);
                    } else {
                        series.unchanged.push(measure_slipway(folder, MANIFEST, "release")?);
                    }
                }
            }
            Builder::Peer(peer, series) => {
                for is_changed in in_turns(round, [false, true]) {
                    if is_changed {
                        peer.change(text)?;
                    }
                    let cost = run(&peer.command(), &folder.join("mkosi.log"))?;
                    if is_changed { &mut series.changed } else { &mut series.unchanged }.push(cost);
                }
            }
        }
        Ok(())
    }
}

/// mkosi from packages and from a kept root, each run once so that its caches are full.
fn peers(folder: &Path) -> Result<Vec<Mkosi>> {
    let packages = requested()?;
    let mut peers = Vec::new();
    for (name, start) in
        [("mkosi-packages-only", Start::FromPackages), ("mkosi-kept-root", Start::FromKeptRoot)]
    {
        let peer = Mkosi::new(&folder.join(name), &packages, start, Product::Disk)?;
        peer.change("first\n")?;
        run(&peer.command(), &folder.join(format!("{name}.log")))?;
        peers.push(peer);
    }
    Ok(peers)
}

fn lines(ours: &Series, theirs: &[Series]) -> Result<String> {
    let mut text = head(&["build", "wall s", "processor s", "peak MiB", "times Slipway's wall"]);
    let names = ["mkosi", "mkosi, `Incremental=yes`"];
    for (what, of) in [
        ("nothing changed", (|series| &series.unchanged) as fn(&Series) -> &Vec<Cost>),
        ("one file changed", |series| &series.changed),
    ] {
        text += &line(&format!("Slipway, {what}"), of(ours), None)?;
        for (name, series) in names.iter().zip(theirs) {
            text += &line(&format!("{name}, {what}"), of(series), Some(of(ours)))?;
        }
    }
    Ok(text)
}

/// One line; the ratio is taken round by round, since the rounds ran back to back.
fn line(name: &str, costs: &[Cost], base: Option<&Vec<Cost>>) -> Result<String> {
    let spread = |of: fn(&Cost) -> f64| Spread::of(costs.iter().map(of));
    let ratio = match base {
        Some(base) => {
            let pairs = costs.iter().zip(base);
            Spread::of(pairs.map(|(peer, own)| peer.seconds / own.seconds))?.to_string()
        }
        None => "1".to_owned(),
    };
    Ok(row(&[
        name.to_owned(),
        spread(|cost| cost.seconds)?.to_string(),
        spread(|cost| cost.processor)?.to_string(),
        format!("{:.0}", spread(|cost| cost.peak)?.max),
        ratio,
    ]))
}

fn measure_slipway(folder: &Path, manifest: &str, out: &str) -> Result<Cost> {
    run(&slipway(manifest, &folder.join(out))?, &folder.join("slipway.log"))
}

/// A manifest that adds one file with `text` to the node image.
fn changed_manifest(folder: &Path, text: &str) -> Result<String> {
    let file = folder.join("changed/usr/share/bench/changed");
    fs::create_dir_all(file.parent().context("no folder")?)?;
    fs::write(file, text)?;
    let manifest: PathBuf = folder.join("changed.toml");
    let lines = "# The node image with one more file: for the benchmark.\n\n\
        extends = \"../../manifests/images/node.toml\"\n\n\
        [image]\nname = \"bench-changed\"\n\n\
        [parts.bench]\nwhy = \"Differs from build to build.\"\ntree = \"changed\"\n";
    fs::write(&manifest, lines)?;
    Ok(manifest.display().to_string())
}
