//! `slipway keys`.

use std::path::Path;

use jiff::Timestamp;
use serde_json::json;

use super::access::access;
use super::arguments::{KeysCommand, RotateArguments};
use super::outcome::{Answer, Failed};
use crate::channel::{self, RotateRequest};
use crate::progress::Progress;
use crate::signing::keys::{KeyFolder, KeyPurpose};

/// Makes or rotates keys.
pub async fn keys(command: KeysCommand, progress: &Progress) -> Result<Answer, Failed> {
    match command {
        KeysCommand::New { folder, add_channel_keys: false } => new(&folder, progress),
        KeysCommand::New { folder, add_channel_keys: true } => add(&folder),
        KeysCommand::Rotate(arguments) => rotate(arguments).await,
        KeysCommand::Access { command } => access(&command),
    }
}

async fn rotate(arguments: RotateArguments) -> Result<Answer, Failed> {
    let roles = arguments.roles.iter().flat_map(|role| role.keys()).copied().collect();
    let request = RotateRequest {
        keys: arguments.keys,
        new_keys: arguments.new,
        roles,
        lifetimes: arguments.lifetimes.lifetimes(),
    };
    let folder = channel::open(&arguments.channel)?;
    let version = channel::rotate(&folder, &request, Timestamp::now()).await?;
    let names: Vec<_> = request.roles.iter().map(|key| format!("{}.key", key.stem())).collect();
    let text = match names.as_slice() {
        [] => format!("The root is version {version}.\n"),
        names => format!(
            "The root is version {version}. Use the new {} from here on, and destroy the old.\n",
            names.join(", ")
        ),
    };
    Ok(Answer { text, json: json!({ "rootVersion": version, "rotated": names }) })
}

fn new(folder: &Path, progress: &Progress) -> Result<Answer, Failed> {
    let task = progress.task("generating keys");
    KeyFolder::create(folder, KeyPurpose::Production).map_err(Failed::input)?;
    task.finish("done");
    Ok(Answer {
        text: format!(
            "Keys are in {0}.\n\
             Move PK.key and KEK.key to where no build reaches them: they own the machines'\n\
             Secure Boot, and a build needs only the .auth files that they have signed.\n\
             db.key signs what boots, release.key signs releases; CI needs these two.\n\
             root-1.key to root-3.key own channels: keep them offline, each with another person.\n\
             targets.key moves channels and groups.key node groups; snapshot.key and\n\
             timestamp.key are needed by all who change a channel: docs/channels.md of the\n\
             project says who gets which.\n\
             Back the folder up: keys that are lost cannot be made again.\n",
            folder.display()
        ),
        json: json!({ "folder": folder }),
    })
}

fn add(folder: &Path) -> Result<Answer, Failed> {
    KeyFolder::add_channel_keys(folder).map_err(Failed::input)?;
    Ok(Answer {
        text: format!("The keys of a channel are in {}, beside the others.\n", folder.display()),
        json: json!({ "folder": folder }),
    })
}
