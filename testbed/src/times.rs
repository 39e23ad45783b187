//! How long the parts of a test took, by what the test did meanwhile.
//!
//! In: pieces of work, each said to be of a [`Phase`]. Out: the sum of each phase, in this process.
//! **Invariant:** no moment counts twice: work inside other work is taken from the outer one.
//! Nothing here passes or fails by the clock.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a test does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Images and programs are built.
    Building,
    /// A channel is written.
    Publishing,
    /// A control plane starts.
    ControlPlane,
    /// Something is waited for that a machine or a cluster does.
    Waiting,
}

impl Phase {
    /// All of them, in the order of [`Taken`].
    pub const ALL: [Self; 4] =
        [Phase::Building, Phase::Publishing, Phase::ControlPlane, Phase::Waiting];

    /// In a table.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Building => "building",
            Phase::Publishing => "publishing",
            Phase::ControlPlane => "control plane",
            Phase::Waiting => "waiting",
        }
    }
}

/// What each phase has taken, in the order of [`Phase::ALL`].
pub type Taken = [Duration; Phase::ALL.len()];

static TAKEN: Mutex<Taken> = Mutex::new([Duration::ZERO; Phase::ALL.len()]);

thread_local! {
    /// Of each work that this thread is in the middle of: what work inside it has taken.
    static INSIDE: RefCell<Vec<Duration>> = const { RefCell::new(Vec::new()) };
}

/// Does `work`, which is of this phase.
pub fn during<T>(phase: Phase, work: impl FnOnce() -> T) -> T {
    let _running = Running::start(phase);
    work()
}

/// Sleeps, which is waiting.
pub fn pause(duration: Duration) {
    during(Phase::Waiting, || thread::sleep(duration));
}

/// What this process has taken so far.
pub fn taken() -> Taken {
    *TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts when it is dropped, so that work that fails counts too.
struct Running {
    phase: Phase,
    started: Instant,
}

impl Running {
    fn start(phase: Phase) -> Self {
        INSIDE.with_borrow_mut(|inside| inside.push(Duration::ZERO));
        Self { phase, started: Instant::now() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let all = self.started.elapsed();
        let inside = INSIDE.with_borrow_mut(|inside| {
            let own = inside.pop().unwrap_or_default();
            if let Some(outer) = inside.last_mut() {
                *outer += all;
            }
            own
        });
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        for (phase, sum) in Phase::ALL.into_iter().zip(taken.iter_mut()) {
            if phase == self.phase {
                *sum += all.saturating_sub(inside);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_work_is_taken_from_the_outer() {
        let (outer, inner) = (Duration::from_millis(20), Duration::from_millis(60));
        let started = Instant::now();
        during(Phase::Building, || {
            thread::sleep(outer);
            during(Phase::Publishing, || thread::sleep(inner));
        });
        let [building, publishing, ..] = taken();
        assert!(publishing >= inner, "publishing took {publishing:?}");
        assert!(building >= outer, "building took {building:?}");
        assert!(building + publishing <= started.elapsed(), "a moment counted twice");
        INSIDE.with_borrow(|inside| assert!(inside.is_empty(), "work that never ended"));
    }
}
