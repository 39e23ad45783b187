//! `slipway node`: asks a node, and prints what it says.

mod arguments;
mod bundle;
mod logs;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use contract::node::api::{
    Accepted, Action, Code, Depth, Drift, History, SettingsMode, Started, Status, Why, paths,
    printable,
};
use contract::node::settings::MAX_SETTINGS_BYTES;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use arguments::NodeArguments;
use arguments::{NodeCommand, SettingsCommand, WaitArguments};

use super::arguments::Format;
use super::outcome::{Answer, ExitStatus, Failed};
use crate::node::{Aim, Ended, NodeClient, NodeError, follow, text};
use crate::progress::Progress;

impl From<NodeError> for Failed {
    fn from(error: NodeError) -> Self {
        let status = match &error {
            NodeError::NoAccess(_) | NodeError::Access(..) | NodeError::Certificate(..) => {
                ExitStatus::Input
            }
            NodeError::Refused(refused) => match refused.code {
                Code::Forbidden | Code::Invalid | Code::TooLarge => ExitStatus::Input,
                _ => ExitStatus::Failure,
            },
            NodeError::Unreachable(..) | NodeError::NotAnAnswer(..) | NodeError::TooLarge(_) => {
                ExitStatus::Failure
            }
        };
        let mut failed = Failed::new(&error, status);
        // Whoever answers there may be no node.
        failed.message = failed.message.lines().map(printable).collect::<Vec<_>>().join("\n");
        failed
    }
}

/// Asks, and says what was answered.
pub async fn node(
    arguments: NodeArguments,
    format: Format,
    progress: &Progress,
) -> Result<Answer, Failed> {
    let client = NodeClient::open(&arguments.address, arguments.access.as_deref())?;
    match arguments.command {
        NodeCommand::Status => shown(&client, paths::STATUS, text::status).await,
        NodeCommand::Why => shown::<Why>(&client, paths::WHY, text::why).await,
        NodeCommand::History => shown::<History>(&client, paths::HISTORY, text::history).await,
        NodeCommand::Drift { full } => drift(&client, full).await,
        NodeCommand::Logs(query) => logs::logs(&client, query, format).await,
        NodeCommand::Metrics => metrics(&client).await,
        NodeCommand::Bundle { out } => bundle::bundle(&client, &out, progress).await,
        NodeCommand::Check => act(&client, &Action::Check).await,
        NodeCommand::Stage(wait) => {
            carried_out(&client, &Action::Stage, Aim::Staged, &wait, progress).await
        }
        NodeCommand::Update(wait) => {
            carried_out(&client, &Action::Update, Aim::Blessed, &wait, progress).await
        }
        NodeCommand::Rollback(wait) => {
            carried_out(&client, &Action::Rollback, Aim::Blessed, &wait, progress).await
        }
        NodeCommand::Pin { version } => act(&client, &Action::Pin(version)).await,
        NodeCommand::Unpin => act(&client, &Action::Unpin).await,
        NodeCommand::Clear { version } => act(&client, &Action::Clear(version)).await,
        NodeCommand::Settings { command: SettingsCommand::Show } => {
            shown::<Value>(&client, paths::SETTINGS, |document| document_text(document) + "\n")
                .await
        }
        NodeCommand::Settings { command: SettingsCommand::Set { file, dry_run } } => {
            set(&client, &file, dry_run).await
        }
    }
}

/// Escapes what a terminal would take for a command: JSON's own writer leaves some of it.
fn document_text(document: &Value) -> String {
    let text = format!("{document:#}");
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn json_of(value: &impl Serialize) -> Result<Value, Failed> {
    serde_json::to_value(value).map_err(Failed::other)
}

async fn shown<T: DeserializeOwned + Serialize>(
    client: &NodeClient,
    path: &str,
    in_words: impl Fn(&T) -> String,
) -> Result<Answer, Failed> {
    let answer: T = client.read(path).await?;
    Ok(Answer { text: in_words(&answer), json: json_of(&answer)? })
}

async fn drift(client: &NodeClient, full: bool) -> Result<Answer, Failed> {
    let depth = if full { Depth::Full } else { Depth::Quick };
    let depth = json_of(&depth)?;
    let path = format!("{}?depth={}", paths::DRIFT, depth.as_str().unwrap_or_default());
    shown::<Drift>(client, &path, text::drift).await
}

async fn metrics(client: &NodeClient) -> Result<Answer, Failed> {
    let metrics = client.read_text(paths::METRICS).await?;
    let text = metrics.lines().map(|line| printable(line) + "\n").collect();
    Ok(Answer { text, json: json!({ "metrics": metrics }) })
}

async fn act(client: &NodeClient, action: &Action) -> Result<Answer, Failed> {
    let accepted = client.act(action).await?;
    Ok(Answer { text: accepted_text(&accepted), json: json_of(&accepted)? })
}

fn accepted_text(accepted: &Accepted) -> String {
    printable(&accepted.message) + "\n"
}

/// Starts something and, when asked for, waits for its end.
async fn carried_out(
    client: &NodeClient,
    action: &Action,
    aim: Aim,
    wait: &WaitArguments,
    progress: &Progress,
) -> Result<Answer, Failed> {
    if !wait.wait {
        return act(client, action).await;
    }
    let before: Status = client.read(paths::STATUS).await?;
    let accepted = client.act(action).await?;
    if accepted.started == Started::NothingToDo {
        return Ok(Answer { text: accepted_text(&accepted), json: json_of(&accepted)? });
    }
    progress.note(accepted_text(&accepted).trim_end());
    let limit = Duration::from_secs(wait.timeout);
    let (ended, last) = follow(client, &before, aim, limit, progress).await?;
    let failed = |message: String| Err(Failed { message, status: ExitStatus::Failure });
    match (ended, last) {
        (Ended::Well, Some(status)) => {
            Ok(Answer { text: text::status(&status), json: json_of(&status)? })
        }
        (Ended::GivenUp(fallback), _) => failed(format!(
            "the node gave the release up and runs the old one; it reached {}: {}\n\
             see `slipway node … history` and `… logs --boot -1`; `… clear` lets it try again",
            fallback.reached,
            printable(&fallback.cause)
        )),
        (Ended::Failed(problem), _) => {
            failed(format!("{}: {}", printable(&problem.message), printable(&problem.next)))
        }
        (Ended::TimeOver | Ended::Well, last) => {
            let phase = last.map_or_else(|| "does not answer".to_owned(), |s| s.phase.to_string());
            failed(format!(
                "not done after {} s (the node: {phase}); it goes on: see `slipway node … status`",
                wait.timeout
            ))
        }
    }
}

async fn set(client: &NodeClient, file: &Path, dry_run: bool) -> Result<Answer, Failed> {
    let unreadable = |error: io::Error| Failed {
        message: format!("cannot read {}: {error}: give a settings document", file.display()),
        status: ExitStatus::Input,
    };
    let mut document = Vec::new();
    let read = File::open(file).map_err(unreadable)?.take(MAX_SETTINGS_BYTES + 1);
    { read }.read_to_end(&mut document).map_err(unreadable)?;
    let mode = if dry_run { SettingsMode::DryRun } else { SettingsMode::Apply };
    let outcome = client.send_settings(document, mode).await?;
    let mut text = printable(&outcome.message) + "\n";
    for field in &outcome.changed {
        text += &format!("- {}\n", printable(field));
    }
    let restarts = match mode {
        SettingsMode::DryRun => "would restart",
        SettingsMode::Apply => "restarts",
    };
    for service in &outcome.restarts {
        text += &format!("{restarts} {}\n", printable(service));
    }
    Ok(Answer { text, json: json_of(&outcome)? })
}
