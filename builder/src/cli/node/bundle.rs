//! `slipway node bundle`: a support bundle, as a new file.
//!
//! **Invariant:** a file of that name is a whole bundle, or not ours: it is written under another
//! name, and never put in the place of one that is there.

use std::io;
use std::path::Path;

use contract::node::api::printable;
use jiff::Timestamp;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::cli::outcome::{Answer, ExitStatus, Failed};
use crate::node::NodeClient;
use crate::node::bundle::{self, BundleError};
use crate::progress::Progress;

impl From<BundleError> for Failed {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Node(error) => error.into(),
            error => Failed::other(error),
        }
    }
}

/// Writes the bundle. Parts that could not be had are named; the rest is worth having.
pub async fn bundle(
    client: &NodeClient,
    out: &Path,
    progress: &Progress,
) -> Result<Answer, Failed> {
    let refuse = |message| Err(Failed { message, status: ExitStatus::Input });
    let exists = || format!("{} is there already: give another name with --out", out.display());
    if out.symlink_metadata().is_ok() {
        return refuse(exists());
    }
    let folder = match out.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let cannot_write = |error: io::Error| Failed {
        message: format!("cannot write {}: {error}: give another place with --out", out.display()),
        status: ExitStatus::Failure,
    };
    let mut file = NamedTempFile::new_in(folder).map_err(cannot_write)?;
    progress.note(&format!("asking {} for all that it says of itself", client.address()));
    let contents = bundle::write(client, Timestamp::now(), &mut file).await?;
    file.as_file().sync_all().map_err(cannot_write)?;
    if let Err(error) = file.persist_noclobber(out) {
        return match error.error.kind() {
            io::ErrorKind::AlreadyExists => refuse(exists()),
            _ => Err(cannot_write(error.error)),
        };
    }
    let mut text = format!(
        "{}: {} files; taken out, because they look like secrets: {}.\n",
        out.display(),
        contents.files.len(),
        contents.redacted
    );
    for (missing, why) in &contents.missing {
        text += &format!("- without {missing}: {}\n", printable(why));
    }
    let missing: serde_json::Map<_, _> =
        contents.missing.into_iter().map(|(file, why)| (file, why.into())).collect();
    let json = json!({
        "file": out,
        "files": contents.files,
        "missing": missing,
        "redacted": contents.redacted,
    });
    Ok(Answer { text, json })
}
