//! What a person sees while the builder works: bars on a terminal, plain lines without one,
//! nothing with `--quiet`. Always on standard error, so that standard output stays data.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Only errors.
    Quiet,
    /// Steps and warnings.
    Normal,
    /// Also details of each step.
    Verbose,
}

/// Where progress goes; cheap to clone.
#[derive(Clone)]
pub struct Progress {
    verbosity: Verbosity,
    bars: Option<Arc<MultiProgress>>,
}

/// A running task: one bar or, without a terminal, one line when it ends.
pub struct Task {
    label: String,
    progress: Progress,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Bars when standard error is a terminal, else lines.
    pub fn new(verbosity: Verbosity) -> Self {
        let terminal = std::io::stderr().is_terminal() && verbosity > Verbosity::Quiet;
        Self { verbosity, bars: terminal.then(|| Arc::new(MultiProgress::new())) }
    }

    /// Says nothing; for tests and library use.
    pub fn hidden() -> Self {
        Self { verbosity: Verbosity::Quiet, bars: None }
    }

    /// A line for everybody who did not ask for quiet.
    pub fn note(&self, text: &str) {
        if self.verbosity >= Verbosity::Normal {
            self.line(text);
        }
    }

    /// A line for those who asked for details.
    pub fn detail(&self, text: &str) {
        if self.verbosity >= Verbosity::Verbose {
            self.line(text);
        }
    }

    fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// A task of unknown length, shown as a spinner.
    pub fn task(&self, label: &str) -> Task {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_message(label.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Task { label: label.to_owned(), progress: self.clone(), bar }
    }

    /// A task over a known number of bytes.
    pub fn bytes(&self, label: &str, total: u64) -> Task {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(total));
            let style = "{msg:28} {wide_bar} {bytes:>10}/{total_bytes:10} {eta:>4}";
            bar.set_style(
                ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_message(label.to_owned());
            bar
        });
        Task { label: label.to_owned(), progress: self.clone(), bar }
    }
}

impl Task {
    /// Moves the bar on by `amount` units.
    pub fn advance(&self, amount: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(amount);
        }
    }

    /// Ends the task with a result that stays on the screen.
    pub fn finish(self, result: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.progress.note(&format!("{}: {result}", self.label));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
