//! The command line: what is asked for, run, and said about it.
//!
//! Standard output carries results (text, or JSON with `--format json`); progress and
//! errors go to standard error. Exit codes are those of [`ExitStatus`].

mod access;
mod arguments;
mod build;
mod channel;
mod channel_arguments;
mod describe;
mod diff;
mod group;
mod inspect;
mod keys;
mod lock;
mod node;
mod publish;
mod show;
mod verify;

use std::path::Path;

use clap::{CommandFactory, Parser};

use crate::assemble::BuildError;
use crate::channel::ChannelError;
use crate::fault::Fault;
use crate::inputs::cache::Cache;
use crate::inputs::fetch::Mirrors;
use crate::inputs::fetch::Source;
use crate::inputs::fetch::mirror::{ENVIRONMENT_VARIABLE, MirrorError};
use crate::progress::{Progress, Verbosity};

use arguments::{Arguments, Command, Format, SourceArguments};

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Done.
    Success = 0,
    /// Disk, network, or anything else that may go away.
    Failure = 1,
    /// Wrong arguments (also from clap).
    Usage = 2,
    /// Manifest, lock, keys or image are wrong: correct them.
    Input = 3,
    /// An input that the lock pins is no longer to be had.
    Gone = 4,
    /// Ctrl-C, as a shell counts it.
    Interrupted = 130,
}

impl From<Fault> for ExitStatus {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Input => Self::Input,
            Fault::Gone => Self::Gone,
            Fault::Other => Self::Failure,
        }
    }
}

/// A failed command: what to say, and what to end with.
#[derive(Debug)]
pub struct Failed {
    /// Everything from the outermost error to its cause.
    pub message: String,
    /// Exit code.
    pub status: ExitStatus,
}

impl Failed {
    /// An error of the given kind with its causes, each said once.
    fn new(error: &(dyn std::error::Error + 'static), status: ExitStatus) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.contains(&text) {
                message = message + "\n  because: " + &text;
            }
            cause = error.source();
        }
        Self { message, status }
    }

    /// An error about what the user gave.
    fn input(error: impl std::error::Error + 'static) -> Self {
        Self::new(&error, ExitStatus::Input)
    }

    /// Any other error.
    fn other(error: impl std::error::Error + 'static) -> Self {
        Self::new(&error, ExitStatus::Failure)
    }
}

impl From<BuildError> for Failed {
    fn from(error: BuildError) -> Self {
        Self::new(&error, error.fault().into())
    }
}

impl From<ChannelError> for Failed {
    fn from(error: ChannelError) -> Self {
        Self::new(&error, error.fault().into())
    }
}

/// What a command prints on standard output.
struct Answer {
    text: String,
    json: serde_json::Value,
}

impl Answer {
    /// Nothing: the command has printed as it went.
    fn printed() -> Self {
        Self { text: String::new(), json: serde_json::Value::Null }
    }
}

/// Parses the process's arguments, runs the command, and prints.
pub async fn run() -> ExitStatus {
    let arguments = Arguments::parse();
    let format = arguments.format;
    let verbosity = match (arguments.quiet, arguments.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    let progress = Progress::new(verbosity);
    let done = tokio::select! {
        // First, so that the signals are caught before anything is made.
        biased;
        signal = interrupted() => Err(signal),
        done = dispatch(arguments.command, format, &progress) => done,
    };
    match done {
        Ok(answer) => print(&answer, format),
        Err(failed) => {
            eprintln!("slipway: {}", failed.message);
            failed.status
        }
    }
}

/// Waits for Ctrl-C or a polite kill. Futures that are dropped then remove what they made.
async fn interrupted() -> Failed {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |what: &str| Failed { message: what.into(), status: ExitStatus::Interrupted };
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            failed("interrupted; nothing was changed")
        }
        _ => std::future::pending().await,
    }
}

async fn dispatch(command: Command, format: Format, progress: &Progress) -> Result<Answer, Failed> {
    match command {
        Command::Lock(arguments) => lock::lock(&arguments, progress).await,
        Command::Fetch(arguments) => lock::fetch(&arguments, progress).await,
        Command::Build(arguments) => build::build(arguments, progress).await,
        Command::Report { release } => build::report(&release),
        Command::Inspect { path } => inspect::inspect(&path),
        Command::Verify(arguments) => verify::verify(&arguments),
        Command::Diff { old, new } => diff::diff(&old, &new),
        Command::Channel { command } => channel::channel(command).await,
        Command::Publish(arguments) => publish::publish(arguments, progress).await,
        Command::Group { command } => group::group(command).await,
        Command::Keys { command } => keys::keys(command, progress).await,
        Command::Node(arguments) => node::node(arguments, format, progress).await,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "slipway", &mut text);
            Ok(plain(&String::from_utf8_lossy(&text)))
        }
        Command::Man { folder } => man(&folder),
    }
}

/// An answer that is the same text in both formats.
fn plain(text: &str) -> Answer {
    Answer { text: text.to_owned(), json: serde_json::json!({ "text": text }) }
}

fn man(folder: &Path) -> Result<Answer, Failed> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder))
        .map_err(Failed::other)?;
    Ok(plain(&format!("man pages written to {}\n", folder.display())))
}

fn print(answer: &Answer, format: Format) -> ExitStatus {
    use std::io::Write;
    let text = match format {
        Format::Text => answer.text.clone(),
        Format::Json if answer.json.is_null() => String::new(),
        Format::Json => format!("{:#}\n", answer.json),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitStatus::Success,
        // The reader has seen enough, as in `slipway report | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitStatus::Success,
        Err(error) => {
            eprintln!("slipway: cannot write the result: {error}");
            ExitStatus::Failure
        }
    }
}

/// Mirrors by flag, environment or the host's apt configuration; or the cache alone.
fn source(arguments: &SourceArguments) -> Result<Source, Failed> {
    if arguments.offline {
        return Ok(Source::Offline);
    }
    let environment = std::env::var(ENVIRONMENT_VARIABLE).ok();
    let found = Mirrors::discover(
        arguments.mirror.as_deref(),
        environment.as_deref(),
        Path::new("/etc/apt"),
    );
    found.map(Source::Mirrors).map_err(|error: MirrorError| Failed::input(error))
}

fn cache() -> Result<Cache, Failed> {
    Cache::open_default().map_err(Failed::other)
}

/// Downloads and compilers at a time.
fn jobs(wanted: Option<usize>) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    wanted.unwrap_or(cores).max(1)
}
