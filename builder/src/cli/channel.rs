//! `slipway channel`.

use std::path::Path;

use contract::channel::route::Mark;
use contract::{ChannelName, ReleaseVersion};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::channel_arguments::{
    ChannelCommand, FloorCommand, InitArguments, MarkArguments, SetArguments, SigningArguments,
};
use super::describe::{channel_terms, mark_lines, size};
use super::outcome::{Answer, Failed};
use super::show::show;
use crate::channel::state::{INITIAL_ROOT, MAX_ROOT_BYTES};
use crate::channel::{
    self, ChannelSet, ChannelSetting, Lifetimes, MarkChange, Pause, PruneRequest, folder,
};
use crate::signing::keys::KeyPurpose;

/// Runs one of the commands.
pub async fn channel(command: ChannelCommand) -> Result<Answer, Failed> {
    match command {
        ChannelCommand::Init(arguments) => init(&arguments).await,
        ChannelCommand::Show { channel } => show(&channel, Timestamp::now()).await,
        ChannelCommand::Verify { channel, root } => verify(&channel, root.as_deref()).await,
        ChannelCommand::Refresh { channel, signing } => refresh(&channel, &signing).await,
        ChannelCommand::Set(arguments) => set(arguments).await,
        ChannelCommand::Floor(command) => floor(command).await,
        ChannelCommand::Block { marked, reason, instead } => {
            let change = MarkChange::Block(Mark { release: marked.release.clone(), reason });
            mark(&marked, change, instead).await
        }
        ChannelCommand::Unblock { marked } => {
            mark(&marked, MarkChange::Unblock(marked.release.clone()), None).await
        }
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
    let keys = &arguments.signing.keys;
    let purpose = channel::init(&folder, keys, lifetimes, Timestamp::now()).await?;
    let root = path.join(INITIAL_ROOT);
    let keys = match purpose {
        KeyPurpose::Development => "Its keys are throw-away keys: it takes development builds.",
        KeyPurpose::Production => "Its keys are real keys: it takes no development builds.",
    };
    Ok(Answer {
        text: format!(
            "The channel is in {}. Serve the folder with any web server.\n\
             Nodes need {} in their settings: it says whom they trust.\n{keys}\n",
            path.display(),
            root.display()
        ),
        json: json!({ "channel": path, "root": root, "development": purpose == KeyPurpose::Development }),
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
        mark: None,
    };
    write(&arguments.channel, &setting, &arguments.signing).await
}

async fn floor(command: FloorCommand) -> Result<Answer, Failed> {
    match command {
        FloorCommand::Add { marked, reason } => {
            let change = MarkChange::AddFloor(Mark { release: marked.release.clone(), reason });
            mark(&marked, change, None).await
        }
        FloorCommand::Remove { marked } => {
            mark(&marked, MarkChange::RemoveFloor(marked.release.clone()), None).await
        }
    }
}

async fn mark(
    marked: &MarkArguments,
    change: MarkChange,
    release: Option<ReleaseVersion>,
) -> Result<Answer, Failed> {
    let setting =
        ChannelSetting { release, mark: Some(change), ..ChannelSetting::of(marked.name.clone()) };
    write(&marked.channel, &setting, &marked.signing).await
}

async fn write(
    path: &Path,
    setting: &ChannelSetting,
    signing: &SigningArguments,
) -> Result<Answer, Failed> {
    let now = Timestamp::now();
    let folder = channel::open(path)?;
    let (keys, lifetimes) = (&signing.keys, signing.lifetimes());
    let set = channel::set_channel(&folder, setting, keys, lifetimes, now).await?;
    Ok(Answer { text: set_text(&set, now), json: set_json(&set) })
}

fn set_text(set: &ChannelSet, now: Timestamp) -> String {
    let document = &set.document;
    let new = match (&set.before, set.others.as_slice()) {
        (Some(_), _) => String::new(),
        (None, []) => format!("{} is a new channel.\n", document.channel),
        // A typing error makes a channel that no node follows.
        (None, others) => {
            let others: Vec<_> = others.iter().map(ToString::to_string).collect();
            format!("{} is a new channel, beside {}.\n", document.channel, others.join(", "))
        }
    };
    let before = set.before.as_ref().filter(|before| before.release != document.release);
    let was = before.map(|before| format!(" (was {})", before.release)).unwrap_or_default();
    let terms = channel_terms(document, now);
    format!(
        "{new}{} is {}{was} since {}, {terms}\n{}",
        document.channel,
        document.release,
        document.since,
        mark_lines(document)
    )
}

fn set_json(set: &ChannelSet) -> Value {
    let mut json = json!(set.document);
    json["new"] = json!(set.before.is_none());
    json["before"] = json!(set.before);
    json
}

async fn remove(
    path: &Path,
    name: &ChannelName,
    signing: &SigningArguments,
) -> Result<Answer, Failed> {
    let (keys, lifetimes) = (&signing.keys, signing.lifetimes());
    let folder = channel::open(path)?;
    let before = channel::remove_channel(&folder, name, keys, lifetimes, Timestamp::now()).await?;
    let text = format!(
        "The channel {name} is gone. Nodes whose settings follow it stay where they are.\n\
         Releases that nothing points at any more go with `slipway channel prune`.\n"
    );
    Ok(Answer { text, json: json!({ "removed": name, "before": before }) })
}

async fn prune(path: &Path, request: &PruneRequest) -> Result<Answer, Failed> {
    let pruned = channel::prune(&channel::open(path)?, request, Timestamp::now()).await?;
    let releases: Vec<_> =
        pruned.releases.iter().map(|(version, on)| format!("{version} ({on})")).collect();
    let mut text: String = releases.iter().map(|release| format!("removed {release}\n")).collect();
    text += &pruned.kept.iter().map(|version| format!("kept {version}\n")).collect::<String>();
    text += &format!("{} files, {}, are gone\n", pruned.files.len(), size(pruned.bytes));
    let json = json!({
        "releases": releases,
        "kept": pruned.kept,
        "files": pruned.files,
        "bytes": pruned.bytes,
    });
    Ok(Answer { text, json })
}
