//! How a command ends: with an answer, or with what failed and whose turn it is.
//!
//! In: results and errors of the library. Out: text, JSON, an exit code. Invariant: each cause
//! of an error is said once.

use crate::assemble::BuildError;
use crate::channel::ChannelError;
use crate::fault::Fault;

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
    pub fn new(error: &(dyn std::error::Error + 'static), status: ExitStatus) -> Self {
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
    pub fn input(error: impl std::error::Error + 'static) -> Self {
        Self::new(&error, ExitStatus::Input)
    }

    /// Any other error.
    pub fn other(error: impl std::error::Error + 'static) -> Self {
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
pub struct Answer {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: serde_json::Value,
}

impl Answer {
    /// Nothing: the command has printed as it went.
    pub fn printed() -> Self {
        Self { text: String::new(), json: serde_json::Value::Null }
    }

    /// An answer that is the same text in both formats.
    pub fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), json: serde_json::json!({ "text": text }) }
    }
}
