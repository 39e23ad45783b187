//! `slipway group`.

use jiff::Timestamp;
use serde_json::json;

use super::channel_arguments::GroupCommand;
use super::{Answer, Failed};
use crate::channel;

/// Runs one of the commands.
pub async fn group(command: GroupCommand) -> Result<Answer, Failed> {
    let GroupCommand::Set { channel, name, file, signing } = command;
    let lifetimes = signing.lifetimes();
    let now = Timestamp::now();
    let folder = channel::open(&channel)?;
    let group = channel::set_group(&folder, &name, &file, &signing.keys, lifetimes, now).await?;
    let wanted = match (&group.spec.release, &group.spec.channel) {
        (Some(release), _) => format!("is pinned to release {release}"),
        (None, Some(channel)) => format!("follows the channel {channel}"),
        (None, None) => "follows nothing".to_owned(),
    };
    Ok(Answer { text: format!("The group {name} {wanted}.\n"), json: json!(group) })
}
