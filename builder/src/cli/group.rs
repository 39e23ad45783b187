//! `slipway group`.

use std::path::Path;

use jiff::Timestamp;
use release::GroupName;
use serde_json::json;

use super::channel_arguments::{GroupCommand, SigningArguments};
use super::{Answer, Failed};
use crate::channel;

/// Runs one of the commands.
pub async fn group(command: GroupCommand) -> Result<Answer, Failed> {
    match command {
        GroupCommand::Set { channel, name, file, signing } => {
            set(&channel, &name, &file, &signing).await
        }
        GroupCommand::Remove { channel, name, signing } => remove(&channel, &name, &signing).await,
    }
}

async fn set(
    path: &Path,
    name: &GroupName,
    file: &Path,
    signing: &SigningArguments,
) -> Result<Answer, Failed> {
    let (keys, lifetimes) = (&signing.keys, signing.lifetimes());
    let folder = channel::open(path)?;
    let group = channel::set_group(&folder, name, file, keys, lifetimes, Timestamp::now()).await?;
    let wanted = match (&group.spec.release, &group.spec.channel) {
        (Some(release), _) => format!("is pinned to release {release}"),
        (None, Some(channel)) => format!("follows the channel {channel}"),
        (None, None) => "follows nothing".to_owned(),
    };
    Ok(Answer { text: format!("The group {name} {wanted}.\n"), json: json!(group) })
}

async fn remove(
    path: &Path,
    name: &GroupName,
    signing: &SigningArguments,
) -> Result<Answer, Failed> {
    let (keys, lifetimes) = (&signing.keys, signing.lifetimes());
    let folder = channel::open(path)?;
    channel::remove_group(&folder, name, keys, lifetimes, Timestamp::now()).await?;
    let text = format!(
        "The group {name} is gone. Its nodes follow the channel that their settings name, or stay \
         where they are.\n"
    );
    Ok(Answer { text, json: json!({ "removed": name }) })
}
