//! `slipway channel`.

use std::path::Path;

use jiff::Timestamp;
use release::ChannelName;
use serde_json::json;

use super::channel_arguments::{ChannelCommand, InitArguments, SetArguments, SigningArguments};
use super::describe::size;
use super::show::show;
use super::{Answer, Failed};
use crate::channel::state::{INITIAL_ROOT, MAX_ROOT_BYTES};
use crate::channel::{self, ChannelSetting, Lifetimes, Pause, PruneRequest, folder};

/// Runs one of the commands.
pub async fn channel(command: ChannelCommand) -> Result<Answer, Failed> {
    match command {
        ChannelCommand::Init(arguments) => init(&arguments).await,
        ChannelCommand::Show { channel } => show(&channel, Timestamp::now()).await,
        ChannelCommand::Verify { channel, root } => verify(&channel, root.as_deref()).await,
        ChannelCommand::Refresh { channel, signing } => refresh(&channel, &signing).await,
        ChannelCommand::Set(arguments) => set(arguments).await,
        ChannelCommand::Remove { channel, name, signing } => {
            remove(&channel, &name, &signing).await
        }
        ChannelCommand::Prune { channel, keep, signing } => {
            let lifetimes = signing.lifetimes();
            prune(&channel, &PruneRequest { keep, keys: signing.keys, lifetimes }).await
        }
    }
}

async fn init(arguments: &InitArguments) -> Result<Answer, Failed> {
    let lifetimes = Lifetimes { root: arguments.root_lifetime, ..arguments.signing.lifetimes() };
    let path = arguments.channel.as_path();
    let folder = channel::create(path)?;
    channel::init(&folder, &arguments.signing.keys, lifetimes, Timestamp::now()).await?;
    let root = path.join(INITIAL_ROOT);
    Ok(Answer {
        text: format!(
            "The channel is in {}. Serve the folder with any web server.\n\
             Nodes need {} in their settings: it says whom they trust.\n",
            path.display(),
            root.display()
        ),
        json: json!({ "channel": path, "root": root }),
    })
}

async fn verify(path: &Path, root: Option<&Path>) -> Result<Answer, Failed> {
    let root = root.map(|file| folder::read_bounded(file, MAX_ROOT_BYTES)).transpose()?;
    let verified = channel::verify(path, root).await?;
    let releases: Vec<_> =
        verified.releases.iter().map(|(version, on)| format!("{version} ({on})")).collect();
    Ok(Answer {
        text: format!(
            "ok  a node takes the metadata, from the initial root to root version {}\n\
             ok  channels ({}) and groups ({}) name what is there\n\
             ok  releases ({}) decode to what their offers say\n\
             ok  blobs ({}, {}) have their sizes and digests\n",
            verified.root_version,
            verified.channels,
            verified.groups,
            releases.len(),
            verified.blobs,
            size(verified.blob_bytes)
        ),
        json: json!({
            "valid": true,
            "rootVersion": verified.root_version,
            "channels": verified.channels,
            "groups": verified.groups,
            "releases": releases,
            "blobs": verified.blobs,
            "blobBytes": verified.blob_bytes,
        }),
    })
}

async fn refresh(path: &Path, signing: &SigningArguments) -> Result<Answer, Failed> {
    let now = Timestamp::now();
    let folder = channel::open(path)?;
    let renewed = channel::refresh(&folder, &signing.keys, signing.lifetimes(), now).await?;
    let shown = show(path, now).await?;
    let roles =
        if renewed.is_empty() { String::new() } else { format!(", {}", renewed.join(", ")) };
    Ok(Answer {
        text: format!("Signed anew: timestamp, snapshot{roles}.\n{}", shown.text),
        json: json!({ "renewed": renewed, "channel": shown.json }),
    })
}

async fn set(arguments: SetArguments) -> Result<Answer, Failed> {
    let pause = match arguments.pause {
        Some(reason) => Some(Pause::Paused(reason)),
        None => arguments.resume.then_some(Pause::Resumed),
    };
    let setting = ChannelSetting {
        name: arguments.name,
        release: arguments.release,
        waves: arguments.waves,
        since: arguments.since,
        pause,
    };
    let (keys, lifetimes) = (&arguments.signing.keys, arguments.signing.lifetimes());
    let now = Timestamp::now();
    let folder = channel::open(&arguments.channel)?;
    let set = channel::set_channel(&folder, &setting, keys, lifetimes, now).await?;
    let document = set.document;
    // A typing error makes a channel that no node follows.
    let new = match set.is_new {
        true => format!("{} is a new channel.\n", document.channel),
        false => String::new(),
    };
    let waves = match document.waves.is_empty() {
        true => "all nodes at once".to_owned(),
        false => format!("waves {}", document.waves),
    };
    let paused = document.paused.as_ref().map(|why| format!(", paused: {why}"));
    Ok(Answer {
        text: format!(
            "{new}{} is {} since {}, {waves}{}\n",
            document.channel,
            document.release,
            document.since,
            paused.unwrap_or_default()
        ),
        json: json!(document),
    })
}

async fn remove(
    path: &Path,
    name: &ChannelName,
    signing: &SigningArguments,
) -> Result<Answer, Failed> {
    let (keys, lifetimes) = (&signing.keys, signing.lifetimes());
    let folder = channel::open(path)?;
    channel::remove_channel(&folder, name, keys, lifetimes, Timestamp::now()).await?;
    let text = format!(
        "The channel {name} is gone. Nodes whose settings follow it stay where they are.\n"
    );
    Ok(Answer { text, json: json!({ "removed": name }) })
}

async fn prune(path: &Path, request: &PruneRequest) -> Result<Answer, Failed> {
    let pruned = channel::prune(&channel::open(path)?, request, Timestamp::now()).await?;
    let releases: Vec<_> =
        pruned.releases.iter().map(|(version, on)| format!("{version} ({on})")).collect();
    let mut text: String = releases.iter().map(|release| format!("removed {release}\n")).collect();
    text += &format!("{} files, {}, are gone\n", pruned.files.len(), size(pruned.bytes));
    let json = json!({ "releases": releases, "files": pruned.files, "bytes": pruned.bytes });
    Ok(Answer { text, json })
}
