//! A support bundle: what a node says of itself, in one archive.
//!
//! In: a node that may answer everything, or only some of it. Out: a tar archive with gzip, and
//! what is not in it. **Invariant:** every text in it has passed the [`Redactor`]; what is asked
//! for is bounded in bytes and in time, and changes nothing on the node.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use contract::node::api::{LogsQuery, paths, printable};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::timeout;

use super::{NodeClient, NodeError, Redactor, text};

/// Folder in the archive.
const FOLDER: &str = "slipway-bundle";
/// The file that says what the others are.
const README: &str = "README.txt";
/// How long the answer for one file may take.
const FILE_LIMIT: Duration = Duration::from_secs(60);
/// The newest so many entries of each unit.
const ENTRIES: u32 = 2000;
/// Most bytes of a unit's entries, as the node sends them.
const MAX_LOG_BYTES: usize = 32 << 20;
/// Documents: file, path, what it is.
const DOCUMENTS: [(&str, &str, &str); 5] = [
    ("status.json", paths::STATUS, "release, slot, health, and what comes next"),
    ("why.json", paths::WHY, "each rule that holds the node where it is"),
    ("history.json", paths::HISTORY, "what happened, the newest last"),
    ("settings.json", paths::SETTINGS, "the settings in force, without secrets"),
    ("drift.json", paths::DRIFT, "the node beside what was signed"),
];
const METRICS: &str = "metrics.txt";
/// Units that have a journal of their own in the bundle.
const UNITS: [&str; 12] = [
    "slipwayd.service",
    "slipway-hostname.service",
    "slipway-kubelet.service",
    "slipway-images.service",
    "slipway-cni-folders.service",
    "slipway-verdict.service",
    "slipway-repart.service",
    "slipway-state-check.service",
    "slipway-state-folder.service",
    "slipway-machine-id.service",
    "containerd.service",
    "kubelet.service",
];
/// The journal of all units and of the kernel.
const WHOLE_JOURNAL: &str = "journal/all.log";

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The node gave nothing at all.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The same, and not even an error.
    #[error("the node answers nothing: look at its console")]
    Silent,
    /// The archive.
    #[error("cannot write the bundle: see whether the disk is full")]
    Write(#[from] io::Error),
    /// Never, unless a pattern is wrong.
    #[error("cannot look for secrets")]
    Pattern(#[from] regex::Error),
}

/// What is in a bundle, and what is not.
#[derive(Debug, Default)]
pub struct Contents {
    /// Names of the files.
    pub files: Vec<String>,
    /// What could not be had: file, and why.
    pub missing: Vec<(String, String)>,
    /// How many texts looked like secrets and were taken out.
    pub redacted: usize,
}

/// Asks the node for everything, and writes it as it comes.
///
/// # Errors
/// [`BundleError::Node`] when it gave nothing at all; what was written is then of no use.
pub async fn write(
    client: &NodeClient,
    now: Timestamp,
    out: impl Write,
) -> Result<Contents, BundleError> {
    let mut bundle = Bundle::new(now, out)?;
    let mut first_error = None;
    let mut is_gone = false;
    for file in files() {
        if is_gone {
            bundle.miss(&file, "not asked for: the node had stopped answering");
            continue;
        }
        match timeout(FILE_LIMIT, ask(client, &file)).await {
            Ok(Ok(reply)) => bundle.add(&file, reply)?,
            Ok(Err(error)) => {
                // Each further question would take as long.
                is_gone = error.is_connect();
                bundle.miss(&file, &chain(&error));
                first_error.get_or_insert(error);
            }
            Err(_) => bundle.miss(&file, &format!("no answer in {} s", FILE_LIMIT.as_secs())),
        }
    }
    if bundle.described.is_empty() {
        return Err(first_error.map_or(BundleError::Silent, Into::into));
    }
    Ok(bundle.finish(&client.address().to_string())?)
}

/// One file of a bundle.
struct BundleFile {
    name: String,
    what: &'static str,
    question: Question,
}

/// What the node is asked for a file.
enum Question {
    Document(&'static str),
    Metrics,
    /// Of one unit, or of all.
    Journal(Option<&'static str>),
}

/// What a node answered.
enum Reply {
    Document(Value),
    Text(String),
}

fn files() -> Vec<BundleFile> {
    let documents = DOCUMENTS.map(|(file, path, what)| BundleFile {
        name: file.to_owned(),
        what,
        question: Question::Document(path),
    });
    let metrics =
        BundleFile { name: METRICS.to_owned(), what: "metrics", question: Question::Metrics };
    let journals = UNITS.map(|unit| BundleFile {
        name: format!("journal/{}.log", unit.trim_end_matches(".service")),
        what: "journal of the unit, of this boot and those before",
        question: Question::Journal(Some(unit)),
    });
    let whole = BundleFile {
        name: WHOLE_JOURNAL.to_owned(),
        what: "journal of all units and of the kernel",
        question: Question::Journal(None),
    };
    documents.into_iter().chain([metrics]).chain(journals).chain([whole]).collect()
}

async fn ask(client: &NodeClient, file: &BundleFile) -> Result<Reply, NodeError> {
    Ok(match file.question {
        Question::Document(path) => Reply::Document(client.read(path).await?),
        Question::Metrics => Reply::Text(client.read_text(paths::METRICS).await?),
        Question::Journal(unit) => {
            let unit = unit.map(str::to_owned);
            let query = LogsQuery { unit, lines: Some(ENTRIES), ..LogsQuery::default() };
            Reply::Text(journal_text(&client.read_logs(&query, MAX_LOG_BYTES).await?))
        }
    })
}

/// A line for each entry, and one where another boot begins.
fn journal_text(entries: &[u8]) -> String {
    let mut text = String::new();
    let mut boot = None;
    for line in entries.split(|byte| *byte == b'\n') {
        let Some(shown) = text::log_entry(line) else { continue };
        let of = text::boot_of(line);
        if of != boot {
            let _ = writeln!(text, "-- boot {}", of.as_deref().map_or("unknown".into(), printable));
            boot = of;
        }
        text += &shown;
        text.push('\n');
    }
    if text.is_empty() {
        text += "(no entries)\n";
    }
    text
}

/// A bundle that is being written.
struct Bundle<W: Write> {
    archive: tar::Builder<GzEncoder<W>>,
    redactor: Redactor,
    now: Timestamp,
    described: Vec<(String, &'static str)>,
    missing: Vec<(String, String)>,
    redacted: usize,
}

impl<W: Write> Bundle<W> {
    fn new(now: Timestamp, out: W) -> Result<Self, BundleError> {
        let archive = tar::Builder::new(GzEncoder::new(out, Compression::default()));
        let redactor = Redactor::new()?;
        let (described, missing, redacted) = Default::default();
        Ok(Self { archive, redactor, now, described, missing, redacted })
    }

    fn add(&mut self, file: &BundleFile, reply: Reply) -> io::Result<()> {
        let text = match reply {
            Reply::Document(mut document) => {
                self.redactor.document(&mut document, &mut self.redacted);
                format!("{document:#}\n")
            }
            Reply::Text(text) => self.redactor.text(&text, &mut self.redacted),
        };
        self.append(&file.name, &text)?;
        self.described.push((file.name.clone(), file.what));
        Ok(())
    }

    /// Notes why a file is not there.
    fn miss(&mut self, file: &BundleFile, why: &str) {
        let why = self.redactor.text(&printable(why), &mut self.redacted);
        self.missing.push((file.name.clone(), why));
    }

    fn append(&mut self, file: &str, text: &str) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.now.as_second().unsigned_abs());
        self.archive.append_data(&mut header, format!("{FOLDER}/{file}"), text.as_bytes())
    }

    fn finish(mut self, address: &str) -> io::Result<Contents> {
        let readme = self.readme(address);
        self.append(README, &readme)?;
        self.archive.into_inner()?.finish()?.flush()?;
        let files = self.described.into_iter().map(|(file, _)| file).collect();
        Ok(Contents { files, missing: self.missing, redacted: self.redacted })
    }

    fn readme(&self, address: &str) -> String {
        let mut text = format!(
            "Support bundle of the Slipway node at {address}, made at {:.0} by slipway {}.\n\n",
            self.now,
            env!("CARGO_PKG_VERSION"),
        );
        for (file, what) in &self.described {
            let _ = writeln!(text, "{file:<36} {what}");
        }
        let _ = write!(text, "\nEach journal has the newest {ENTRIES} entries.\n");
        if !self.missing.is_empty() {
            text += "\nMissing:\n";
        }
        for (file, why) in &self.missing {
            let _ = writeln!(text, "{file:<36} {why}");
        }
        let _ = write!(
            text,
            "\nTaken out, because they look like tokens, passwords or private keys: {}. Names, \
             addresses and\nwhat programs wrote into the journal are in here: look before you \
             give it away.\n",
            self.redacted
        );
        text
    }
}

/// An error with its causes.
fn chain(error: &NodeError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_shows_where_another_boot_begins() {
        let entry = |boot: &str, message: &str| {
            format!(
                "{{\"__REALTIME_TIMESTAMP\":\"1795608000000000\",\"_BOOT_ID\":\"{boot}\",\
                 \"MESSAGE\":\"{message}\"}}\n"
            )
        };
        let entries =
            entry("aa", "one") + &entry("aa", "two") + "cut off\n" + &entry("bb", "three");
        assert_eq!(
            journal_text(entries.as_bytes()),
            "-- boot aa\n2026-11-25T12:00:00.000Z -: one\n2026-11-25T12:00:00.000Z -: two\n\
             -- boot bb\n2026-11-25T12:00:00.000Z -: three\n"
        );
        assert_eq!(journal_text(b""), "(no entries)\n");
    }
}
