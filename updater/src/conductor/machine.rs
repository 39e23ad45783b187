//! The machine of updates, off the conductor's thread.
//!
//! In: steps of [`Machine`], which wait for devices. Out: what they give. **Invariant:** one step at
//! a time; one that ended early is an error as any other.

use std::sync::{Arc, Mutex, PoisonError};

use crate::effects::boot::BootFacts;
use crate::effects::{Effects, off_thread};
use crate::update::{Machine, Standing, UpdateError};

/// The open machine. Clones are the same one.
#[derive(Clone)]
pub struct MachineHandle(Arc<Mutex<Machine>>);

impl MachineHandle {
    /// Opens the journal of updates, and finds what to do first.
    ///
    /// # Errors
    /// As [`Machine::open`].
    pub async fn open(effects: Effects, facts: BootFacts) -> Result<(Self, Standing), UpdateError> {
        let (machine, standing) = blocking(move || Machine::open(effects, facts)).await?;
        Ok((Self(Arc::new(Mutex::new(machine))), standing))
    }

    /// Takes one step.
    ///
    /// # Errors
    /// Those of the step.
    pub async fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Machine) -> Result<T, UpdateError> + Send + 'static,
    ) -> Result<T, UpdateError> {
        let machine = self.0.clone();
        blocking(move || step(&mut machine.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    /// Reads what is in memory.
    pub fn read<T>(&self, read: impl FnOnce(&Machine) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UpdateError> + Send + 'static,
) -> Result<T, UpdateError> {
    off_thread(work).await.map_err(UpdateError::Stopped)?
}
