//! Work that blocks, away from the one thread on which the daemon's tasks take turns.
//!
//! In: work. Out: what it gives. **Invariant:** there is no other door to worker threads, so that a
//! test can have all of it done in one order, on one thread.

use tokio::task::{JoinError, spawn_blocking};

/// Runs what blocks, and waits for it. Work that began goes on to its end, also when nobody waits
/// any more.
///
/// # Errors
/// When the work panicked, or the program ends.
pub async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    #[cfg(test)]
    if in_line::is_on() {
        // Others get a turn, as they would.
        tokio::task::yield_now().await;
        return Ok(work());
    }
    spawn_blocking(work).await
}

/// Starts what blocks, and does not wait for it.
pub fn start_off_thread(work: impl FnOnce() + Send + 'static) {
    #[cfg(test)]
    if in_line::is_on() {
        return work();
    }
    drop(spawn_blocking(work));
}

/// For tests in which nothing may be left to chance: work is done at once, by who asks for it.
#[cfg(test)]
pub mod in_line {
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
    }

    /// True on a thread that does its own work.
    pub fn is_on() -> bool {
        ON.get()
    }

    /// From now on this thread does its own work.
    pub fn switch_on() {
        ON.set(true);
    }
}
