//! The EFI system partition as the conductor shows it and asks it for room.
//!
//! In: the partition. Out: names and room. **Invariant:** it is read away from the conductor's
//! thread; a partition that fails is told in the journal once, and when it is well again.

use std::io;
use std::sync::Arc;

use contract::UkiName;

use crate::effects::{Esp, off_thread};

/// The partition.
pub struct Partition {
    esp: Arc<dyn Esp>,
    told: Option<String>,
}

impl Partition {
    /// Reads nothing yet.
    pub fn new(esp: Arc<dyn Esp>) -> Self {
        Self { esp, told: None }
    }

    /// Every UKI; none when the partition cannot be read.
    pub async fn ukis(&mut self) -> Option<Vec<UkiName>> {
        self.read("list the UKIs", |esp| esp.list()).await
    }

    /// Bytes for a UKI; none when the partition cannot be read.
    pub async fn room(&mut self) -> Option<u64> {
        self.read("measure the room", |esp| esp.free_bytes()).await
    }

    async fn read<T: Send + 'static>(
        &mut self,
        what: &str,
        read: impl FnOnce(&dyn Esp) -> io::Result<T> + Send + 'static,
    ) -> Option<T> {
        let esp = self.esp.clone();
        let read = off_thread(move || read(esp.as_ref())).await;
        let error = match read {
            Ok(Ok(value)) => {
                if self.told.take().is_some() {
                    tracing::info!("slipway: the EFI system partition can be read again");
                }
                return Some(value);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if self.told.as_ref() != Some(&error) {
            tracing::warn!("slipway: cannot {what} on the EFI system partition: {error}");
            self.told = Some(error);
        }
        None
    }
}
