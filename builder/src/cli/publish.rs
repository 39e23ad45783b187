//! `slipway publish`.

use contract::release::offer::Way;
use jiff::Timestamp;
use serde_json::json;

use super::channel_arguments::PublishArguments;
use super::describe::size;
use super::outcome::{Answer, Failed};
use crate::channel::{self, PublishRequest, PublishedRelease};
use crate::progress::Progress;

/// Publishes releases.
pub async fn publish(arguments: PublishArguments, progress: &Progress) -> Result<Answer, Failed> {
    let request = PublishRequest {
        lifetimes: arguments.signing.lifetimes(),
        releases: arguments.releases,
        keys: arguments.signing.keys,
        level: arguments.level,
        minimum_updater: arguments.minimum_updater,
    };
    let folder = channel::open(&arguments.channel)?;
    let published = channel::publish(&folder, &request, Timestamp::now(), progress).await?;
    let text = published.iter().map(describe).collect();
    let json = published.iter().map(|release| {
        json!({
            "version": release.offer.release.version,
            "architecture": release.offer.release.architecture,
            "rootHash": release.offer.release.root.root_hash,
            "unchanged": release.unchanged,
            "bytes": whole_bytes(release),
            "frames": release.frames,
            "copiedFrames": release.copied,
        })
    });
    Ok(Answer { text, json: json!({ "published": json.collect::<Vec<_>>() }) })
}

fn describe(release: &PublishedRelease) -> String {
    let document = &release.offer.release;
    let name = format!("{} {} ({})", document.image, document.version, document.architecture);
    if release.unchanged {
        let mended = if release.frames > 0 { "; what was missing is written anew" } else { "" };
        return format!("{name} is there already{mended}\n");
    }
    let (whole, root) = (size(whole_bytes(release)), size(document.root.bytes));
    format!("{name} is published: {whole} to move for a root of {root}\n")
}

/// Bytes that a node moves for one slot when it has nothing.
fn whole_bytes(release: &PublishedRelease) -> u64 {
    let uki = release.offer.ukis.values().next();
    let payloads = uki.into_iter().chain([&release.offer.root]);
    payloads
        .flat_map(|payload| &payload.ways)
        .map(|way| match way {
            Way::Full { bytes } => *bytes,
            _ => 0,
        })
        .sum()
}
