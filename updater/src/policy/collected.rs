//! Holds while they are gathered, and the strongest of them.
//!
//! In: a hold, and what it keeps the node from. Out: a [`Decision`] with all of them. **Invariant:**
//! what one hold forbids, no later one allows.

use contract::ReleaseVersion;

use super::facts::{Action, Decision};
use super::hold::Hold;

/// What a hold keeps the node from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keeps {
    /// Nothing; it is worth knowing.
    Nothing,
    /// Restarting into a staged release.
    Restart,
    /// Staging as well.
    Everything,
}

/// Holds, and the strongest of them.
#[derive(Debug)]
pub(super) struct Collected {
    pub holds: Vec<Hold>,
    pub keeps: Keeps,
}

impl Collected {
    pub fn none() -> Self {
        Self { holds: Vec::new(), keeps: Keeps::Nothing }
    }

    pub fn add(&mut self, keeps: Keeps, hold: Hold) {
        self.keeps = self.keeps.max(keeps);
        self.holds.push(hold);
    }

    pub fn nothing(self, way: Vec<ReleaseVersion>) -> Decision {
        Decision { action: Action::Nothing, target: None, way, holds: self.holds }
    }

    /// Back to the other slot's release, whatever documents say.
    pub fn back(self) -> Decision {
        Decision { action: Action::GoBack, target: None, way: Vec::new(), holds: self.holds }
    }
}
