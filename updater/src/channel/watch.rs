//! The channel, asked now and then.
//!
//! In: a client, the node's clock, an operator's pin. Out: what the channel said last, for policy
//! and for staging, and when it is asked again. **Invariant:** what was believed stays until the
//! next look that succeeds; policy judges how long it counts.

use std::time::Duration;

use contract::node::api::{Check, CheckOutcome};
use contract::node::settings::ChannelSettings;
use contract::{NodeGroup, Offer, ReleaseVersion};
use tokio::time::Instant;

use super::{ChannelClient, ClockReading, Found};
use crate::effects::Clock;
use crate::effects::off_thread::with_others_files;
use crate::policy::{self, Outage};

/// A clock that waits for a time server is asked so often at least: nothing goes over the network.
const CLOCK_PAUSE: Duration = Duration::from_secs(15);

/// What the channel said last.
pub struct Watch {
    client: Option<ChannelClient>,
    interval: Duration,
    jitter: Duration,
    found: Option<Found>,
    failure: Option<policy::FailedLook>,
    outage: Outage,
    next: Instant,
}

impl Default for Watch {
    /// Nobody to ask.
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Watch {
    /// Asks a client from now on, at the pace of its settings.
    pub fn new(client: Option<ChannelClient>, settings: Option<&ChannelSettings>) -> Self {
        let time = |time: jiff::SignedDuration| time.unsigned_abs();
        Self {
            client,
            interval: settings.map_or(Duration::MAX, |channel| time(channel.poll_interval)),
            jitter: settings.map_or(Duration::ZERO, |channel| time(channel.jitter)),
            found: None,
            failure: None,
            outage: Outage::default(),
            next: Instant::now(),
        }
    }

    /// Whether there is somebody to ask.
    pub fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// When it is asked next; never without a client.
    pub fn next(&self) -> Option<Instant> {
        self.client.as_ref().map(|_| self.next)
    }

    /// It is time to ask.
    pub fn is_due(&self) -> bool {
        self.next().is_some_and(|next| next <= Instant::now())
    }

    /// Asks at the next opportunity.
    pub fn ask_soon(&mut self) {
        self.next = Instant::now();
    }

    /// Asks the channel. `chance` in [0, 1] spreads a fleet.
    pub async fn look(
        &mut self,
        clock: &dyn Clock,
        running: &ReleaseVersion,
        pin: Option<&ReleaseVersion>,
        chance: f64,
    ) -> Option<Check> {
        let client = self.client.as_ref()?;
        let now = clock.now();
        let reading = ClockReading::take(clock);
        let (outcome, message) = match with_others_files(client.look(&reading, running, pin)).await
        {
            Ok(found) => {
                if found.is_memory_damaged {
                    tracing::warn!("part of what the node remembers of its channel was damaged");
                }
                let message = format!("{} answered", found.mirror);
                (self.failure, self.outage) = (None, Outage::default());
                self.found = Some(found);
                (CheckOutcome::Succeeded, message)
            }
            Err(error) => {
                let sentence = error.sentence();
                tracing::warn!("slipway: the channel cannot be followed: {sentence}");
                self.outage = Outage {
                    failures: self.outage.failures.saturating_add(1),
                    retry_after: error.retry_after().unwrap_or_default(),
                };
                let is_clock = error.is_clock();
                let failure =
                    policy::FailedLook { sentence: sentence.clone(), is_clock, next: None };
                self.failure = Some(failure);
                (CheckOutcome::Failed, sentence)
            }
        };
        let pause = self.pause(chance);
        self.next = Instant::now() + pause;
        if let Some(failure) = &mut self.failure {
            failure.next = now.checked_add(pause).ok();
        }
        Some(Check { at: now, outcome, message })
    }

    fn pause(&self, chance: f64) -> Duration {
        match &self.failure {
            Some(failure) if failure.is_clock => CLOCK_PAUSE.min(self.interval),
            _ => policy::poll_delay(self.interval, self.jitter, self.outage, chance),
        }
    }

    /// What it said when it was last believed.
    pub fn found(&self) -> Option<&Found> {
        self.found.as_ref()
    }

    /// The document of the node's group.
    pub fn group(&self) -> Option<&NodeGroup> {
        self.found.as_ref()?.group.as_deref()
    }

    /// The wanted release.
    pub fn offer(&self) -> Option<&Offer> {
        self.found.as_ref()?.offer.as_deref()
    }

    /// Why the last look failed.
    pub fn failure(&self) -> Option<&policy::FailedLook> {
        self.failure.as_ref()
    }

    /// As if the channel had said so.
    #[cfg(test)]
    pub fn pretend_for_a_test(&mut self, found: Found) {
        self.found = Some(found);
    }
}
