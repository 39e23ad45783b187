//! `slipway keys`.

use std::path::Path;

use serde_json::json;

use super::access::access;
use super::arguments::KeysCommand;
use super::{Answer, Failed};
use crate::keys::{KeyFolder, KeyPurpose};
use crate::progress::Progress;

/// Makes keys.
pub fn keys(command: &KeysCommand, progress: &Progress) -> Result<Answer, Failed> {
    match command {
        KeysCommand::New { folder } => new(folder, progress),
        KeysCommand::Access { command } => access(command),
    }
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
             Back the folder up: keys that are lost cannot be made again.\n",
            folder.display()
        ),
        json: json!({ "folder": folder }),
    })
}
