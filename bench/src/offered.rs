//! A release in a channel behind nginx, staged into files by `updater/examples/apply.rs`.
//!
//! In: a release folder. Out: what each staging cost, and the bytes that nginx sent for it.
//! **Invariant:** a staging has one way to go, so that no figure is a mixture.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use contract::channel::targets;
use serde_json::Value;
use testbed::channel::Channel;
use testbed::nginx::Nginx;

use crate::measure::run;
use crate::releases;

/// How long nginx may take to write its log.
const LOGGED: Duration = Duration::from_secs(10);

/// How bytes move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Every frame.
    Full,
    /// The frames of blocks that the node does not have.
    Blocks,
}

impl Way {
    /// The name in offers.
    pub fn name(self) -> &'static str {
        match self {
            Way::Full => "full",
            Way::Blocks => "blocks",
        }
    }
}

/// What a process of the example program says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Applied {
    /// Seconds from its start to its end.
    pub seconds: f64,
    /// Resident memory at its peak, in MiB.
    pub peak: f64,
    /// Bytes of blobs that nginx sent; none for floors.
    pub sent: u64,
}

/// A published release, being served.
#[derive(Debug)]
pub struct Offered {
    folder: PathBuf,
    nginx: Nginx,
    port: u16,
    offer: Value,
}

impl Offered {
    /// Publishes `release` as an operator does, and serves it. The channel is in `folder`, and
    /// kept for the next run, since compressing takes minutes.
    ///
    /// # Errors
    /// When `slipway` or nginx fails.
    pub fn new(folder: &Path, release: &Path) -> Result<Self> {
        let place = folder.join("channel");
        let mut channel = Channel::at(&place);
        // One whose release of this version is another begins anew.
        if !place.exists() || channel.publish_with(release, &[]).is_err() {
            channel = Channel::init(&place)?;
            channel.publish_with(release, &[])?;
        }
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let logs = folder.join("nginx");
        if logs.exists() {
            fs::remove_dir_all(&logs)?;
        }
        let nginx = Nginx::serve(&logs, channel.folder(), port)?;
        let offer = offer(&channel, release)?;
        Ok(Self { folder: folder.to_owned(), nginx, port, offer })
    }

    /// Stages the release into the files of `slot`.
    ///
    /// # Errors
    /// When it fails, or went another way.
    pub fn stage(&self, way: Way, slot: &Path) -> Result<Applied> {
        let offer = self.folder.join("offer.json");
        fs::write(&offer, only(self.offer.clone(), way)?.to_string())?;
        forget(slot)?;
        let before = self.nginx.bytes_sent("/blobs/")?;
        let url = format!("http://127.0.0.1:{}/", self.port);
        let (mut applied, said) = apply(&["stage", &text(&offer), &url, &text(slot)], slot)?;
        for part in ["root_way", "uki_way"] {
            ensure!(said[part] == way.name(), "{part} is {}, not {}", said[part], way.name());
        }
        let moved = said["bytes_moved"].as_u64().context("no bytes_moved")?;
        applied.sent = self.sent_since(before, moved)?;
        Ok(applied)
    }

    /// Bytes of blobs since the log had `before`, once it has all that arrived.
    fn sent_since(&self, before: u64, moved: u64) -> Result<u64> {
        let until = Instant::now() + LOGGED;
        loop {
            let sent = self.nginx.bytes_sent("/blobs/")? - before;
            if sent >= moved {
                return Ok(sent);
            }
            ensure!(Instant::now() < until, "{moved} bytes arrived, but nginx logged {sent}");
            sleep(Duration::from_millis(20));
        }
    }
}

/// Writes `input` into `file`, hashes it once and syncs.
///
/// # Errors
/// When it fails.
pub fn floor(input: &Path, file: &Path) -> Result<Applied> {
    Ok(apply(&["floor", &text(input), &text(file)], file)?.0)
}

/// As [`floor`], and reads back from the device what it wrote, and hashes that.
///
/// # Errors
/// When it fails, or other bytes come back.
pub fn floor_read_back(input: &Path, file: &Path) -> Result<Applied> {
    Ok(apply(&["floor-read-back", &text(input), &text(file)], file)?.0)
}

/// Runs the example program; its last line is JSON.
fn apply(arguments: &[&str], place: &Path) -> Result<(Applied, Value)> {
    let mut command = releases::program("examples/apply")?;
    command.args(arguments);
    let log = place.with_extension("log");
    run(&command, &log)?;
    let output = fs::read_to_string(&log)?;
    let last = output.lines().next_back().context("`apply` said nothing")?;
    let said: Value = serde_json::from_str(last).with_context(|| last.to_owned())?;
    let number = |key: &str| said[key].as_f64().with_context(|| format!("no {key} in {last}"));
    let peak = number("peak_bytes")? / f64::from(1 << 20);
    Ok((Applied { seconds: number("seconds")?, peak, sent: 0 }, said))
}

/// Removes the hint of an earlier staging, which would let this one resume.
fn forget(slot: &Path) -> Result<()> {
    match fs::remove_file(slot.join("staging.json")) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn offer(channel: &Channel, release: &Path) -> Result<Value> {
    let document = releases::document(release)?;
    let name = targets::offer(&document.version, document.architecture);
    let (first, rest) = name.split_once('/').context("a target without a folder")?;
    for entry in fs::read_dir(channel.folder().join("targets"))? {
        let path = entry?.path();
        let file = path.join(rest);
        if path.extension().is_some_and(|found| found == first) && file.exists() {
            return Ok(serde_json::from_slice(&fs::read(file)?)?);
        }
    }
    anyhow::bail!("the channel has no {name}")
}

/// The offer with one way for each part.
fn only(mut offer: Value, way: Way) -> Result<Value> {
    for part in ["/root", "/ukis/a", "/ukis/b"] {
        let payload =
            offer.pointer_mut(part).with_context(|| format!("an offer without {part}"))?;
        let ways = payload["ways"].as_array_mut().context("a payload without ways")?;
        ways.retain(|known| known["way"] == way.name());
        ensure!(ways.len() == 1, "{part} has no way `{}`", way.name());
    }
    Ok(offer)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_way_is_left() -> Result<()> {
        let payload = json!({ "ways": [{ "way": "full", "bytes": 1 }, { "way": "blocks" }] });
        let offer = json!({ "root": payload, "ukis": { "a": payload, "b": payload } });
        let left = only(offer.clone(), Way::Blocks)?;
        assert_eq!(left["ukis"]["b"]["ways"], json!([{ "way": "blocks" }]));
        let mut lacking = offer;
        lacking["root"]["ways"] = json!([]);
        assert!(only(lacking, Way::Full).is_err());
        Ok(())
    }
}
