//! Work that blocks, away from the one thread on which the daemon's tasks take turns.
//!
//! In: work. Out: what it gives. **Invariant:** there is no other door to worker threads but that of
//! [`with_others_files`], so that a test can have all of it done in one order.

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

/// Awaits what leaves files to threads that are not ours: `tough` keeps metadata with tokio's.
pub async fn with_others_files<T>(future: impl Future<Output = T>) -> T {
    #[cfg(test)]
    if in_line::is_on() {
        return in_line::waiting_for_threads(future).await;
    }
    future.await
}

/// For tests in which nothing may be left to chance: work is done at once, by who asks for it.
#[cfg(test)]
pub mod in_line {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::{self, Thread};

    use tokio::task::unconstrained;

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
        static WAITS_FOR_THE_TEST: Cell<bool> = const { Cell::new(false) };
    }

    /// What only waits for the test itself: for its clock, or for an answer that it gives.
    pub async fn of_the_test<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| {
            let polled = future.as_mut().poll(context);
            if polled.is_pending() {
                WAITS_FOR_THE_TEST.set(true);
            }
            polled
        })
        .await
    }

    /// Who waits for a thread, and whom else to tell.
    struct Bell {
        waiting: Thread,
        has_rung: AtomicBool,
        passes_on: AtomicBool,
        outer: Waker,
    }

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.has_rung.store(true, Ordering::Release);
            self.waiting.unpark();
            if self.passes_on.load(Ordering::Acquire) {
                self.outer.wake_by_ref();
            }
        }
    }

    /// Nobody else gets a turn while another thread works for this future.
    pub async fn waiting_for_threads<T>(future: impl Future<Output = T>) -> T {
        // With a budget it would be pending until others had a turn.
        let mut future = pin!(unconstrained(future));
        poll_fn(|context| {
            loop {
                WAITS_FOR_THE_TEST.set(false);
                let bell = Arc::new(Bell {
                    waiting: thread::current(),
                    has_rung: AtomicBool::new(false),
                    passes_on: AtomicBool::new(false),
                    outer: context.waker().clone(),
                });
                let waker = Waker::from(bell.clone());
                let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
                if polled.is_ready() {
                    return polled;
                }
                if WAITS_FOR_THE_TEST.get() {
                    bell.passes_on.store(true, Ordering::Release);
                    return Poll::Pending;
                }
                while !bell.has_rung.load(Ordering::Acquire) {
                    thread::park();
                }
            }
        })
        .await
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
