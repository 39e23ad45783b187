//! Work on worker threads, at most so much at a time. The first failure ends it.

use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use super::error::WayError;
use super::hash::lock;
use crate::effects::start_off_thread;

/// Work of one kind.
pub struct Jobs {
    permits: Arc<Semaphore>,
    at_once: u32,
    failure: Arc<Mutex<Option<WayError>>>,
}

impl Jobs {
    /// At most `at_once` pieces of work run at a time.
    pub fn new(at_once: usize) -> Self {
        let at_once = u32::try_from(at_once.max(1)).unwrap_or(1);
        Self {
            permits: Arc::new(Semaphore::new(at_once as usize)),
            at_once,
            failure: Arc::default(),
        }
    }

    /// Waits for a free place and starts the work there.
    ///
    /// # Errors
    /// An earlier failure; the work is then not started.
    pub async fn start(
        &self,
        work: impl FnOnce() -> Result<(), WayError> + Send + 'static,
    ) -> Result<(), WayError> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| WayError::Stopped)?;
        if let Some(error) = lock(&self.failure).take() {
            return Err(error);
        }
        let failure = self.failure.clone();
        start_off_thread(move || {
            if let Err(error) = work() {
                lock(&failure).get_or_insert(error);
            }
            drop(permit);
        });
        Ok(())
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    /// The first failure that was not reported.
    pub async fn finish(&self) -> Result<(), WayError> {
        let all = self.permits.acquire_many(self.at_once).await.map_err(|_| WayError::Stopped)?;
        drop(all);
        lock(&self.failure).take().map_or(Ok(()), Err)
    }
}
