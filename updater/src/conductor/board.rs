//! What the conductor knows, for those who show it.
//!
//! In: changes by the conductor. Out: copies. **Invariant:** a copy is of one moment, and holds no
//! secret.

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};

use contract::node::api::{Check, Drift, Phase, Probe, Problem, ProblemKind, SettingsState};
use contract::{ChannelName, GroupName, ReleaseVersion, UkiName};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::chain;
use crate::policy::Hold;
use crate::staging::Progress;
use crate::update;

/// What is known at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The UKI that runs, once the EFI system partition was read.
    pub booted: Option<UkiName>,
    /// The other slot's UKI.
    pub other: Option<UkiName>,
    /// How far an update is.
    pub phase: Phase,
    /// The release that it leads to, or that should run.
    pub wanted: Option<ReleaseVersion>,
    /// The releases to take, one after the other; the last is the one that should run.
    pub way: Vec<ReleaseVersion>,
    /// The journal of updates.
    pub journal: update::Journal,
    /// Rules that hold the node.
    pub holds: Vec<Hold>,
    /// What each probe said last.
    pub health: Vec<Probe>,
    /// Group and channel, as the settings and the group's document name them.
    pub group: Option<GroupName>,
    /// See `group`.
    pub channel: Option<ChannelName>,
    /// The release that the group pins.
    pub group_pin: Option<ReleaseVersion>,
    /// The group's limit.
    pub maximum_version: Option<ReleaseVersion>,
    /// The release that an operator pinned.
    pub pin: Option<ReleaseVersion>,
    /// The last look at the channel.
    pub last_check: Option<Check>,
    /// What failed last.
    pub problem: Option<Problem>,
    /// The last comparison.
    pub drift: Option<Drift>,
    /// Settings in force.
    pub settings: Option<SettingsState>,
    /// The settings without secrets.
    pub settings_redacted: Option<serde_json::Value>,
}

/// The one place for it.
#[derive(Debug)]
pub struct Board {
    snapshot: Mutex<Snapshot>,
    /// Bytes of a staging that is under way.
    pub progress: watch::Sender<Progress>,
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// What is known before anything was read.
    pub fn new() -> Self {
        let snapshot = Snapshot {
            booted: None,
            other: None,
            phase: Phase::Idle,
            wanted: None,
            way: Vec::new(),
            journal: update::Journal::new(),
            holds: Vec::new(),
            health: Vec::new(),
            group: None,
            channel: None,
            group_pin: None,
            maximum_version: None,
            pin: None,
            last_check: None,
            problem: None,
            drift: None,
            settings: None,
            settings_redacted: None,
        };
        Self { snapshot: Mutex::new(snapshot), progress: watch::Sender::default() }
    }

    /// A copy.
    pub fn read(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Changes what is known.
    pub fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
    }

    /// Shows a problem, in the place of the one before.
    pub fn set_problem(&self, problem: Problem) {
        self.change(|board| board.problem = Some(problem));
    }

    /// Says in the journal what failed, and shows it.
    pub fn complain(&self, at: Timestamp, kind: ProblemKind, what: &str, error: &dyn Error) {
        let text = chain(error);
        tracing::error!("slipway: {what}: {text}");
        let next = "see `slipway node logs --unit slipwayd.service`".to_owned();
        self.set_problem(Problem { kind, at, message: format!("{what}: {text}"), next });
    }

    /// Takes a problem away, if it is the one that is shown.
    pub fn solve(&self, kind: ProblemKind) {
        self.change(|board| {
            board.problem.take_if(|problem| problem.kind == kind);
        });
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // A panic in a change leaves fields of before, and those are true too.
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
