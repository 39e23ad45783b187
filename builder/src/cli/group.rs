//! `slipway group`.

use std::path::Path;

use contract::GroupName;
use jiff::Timestamp;
use serde_json::json;

use super::channel_arguments::{GroupCommand, SigningArguments};
use super::describe::group_terms;
use super::outcome::{Answer, Failed};
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
    let text = format!("The group {name} is set: {}.\n", group_terms(&group));
    Ok(Answer { text, json: json!(group) })
}

async fn remove(
    path: &Path,
    name: &GroupName,
    signing: &SigningArguments,
) -> Result<Answer, Failed> {
    let (keys, lifetimes) = (&signing.keys, signing.lifetimes());
    let folder = channel::open(path)?;
    let group = channel::remove_group(&folder, name, keys, lifetimes, Timestamp::now()).await?;
    let text = format!(
        "The group {name} is gone, with all that it said: {}.\n\
         Its nodes follow the channel that their settings name from now on, without these limits,\n\
         or stay where they are.\n",
        group_terms(&group)
    );
    Ok(Answer { text, json: json!({ "removed": name, "before": group }) })
}
