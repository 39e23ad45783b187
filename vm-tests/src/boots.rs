//! How long machines took to boot: from power-on, or a restart, to the first word of slipwayd.
//!
//! In: the console of a machine, as it grows. Out: a number of boots and their sum, in this process.
//! A boot that never comes so far ends when the next one begins, or with the machine. Nothing here
//! passes or fails by the clock.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::serial::Serial;

/// What the firmware says when it starts the loader.
const BEGINS: &str = "BdsDxe: starting";
/// What lines of slipwayd begin with.
const ENDS: &str = "slipway: ";
const PAUSE: Duration = Duration::from_millis(250);

/// Boots, and what all of them took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Boots {
    /// How many.
    pub count: u32,
    /// Their sum.
    pub sum: Duration,
}

static BOOTS: Mutex<Boots> = Mutex::new(Boots { count: 0, sum: Duration::ZERO });

/// What this process has seen so far.
pub fn seen() -> Boots {
    *BOOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens to a machine until it is dropped.
#[derive(Debug)]
pub struct Listener {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens to the machine of `folder`, which has been switched on just now.
    pub fn to(folder: &Path) -> Self {
        let (stop, stopped) = channel();
        let serial = Serial::of(folder);
        let thread = thread::spawn(move || listen(serial, &stopped));
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("how long this machine booted is not known");
        }
    }
}

fn listen(mut serial: Serial, stopped: &Receiver<()>) {
    let mut boot = Boot::switched_on();
    while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
        match serial.new_lines() {
            Ok(lines) => lines.lines().for_each(|line| boot.hears(line)),
            Err(error) => return eprintln!("how long this machine booted is not known: {error}"),
        }
    }
    boot.ends();
}

/// The boot that a machine is in, if any.
struct Boot {
    begun: Option<Instant>,
    /// The firmware has said nothing since power-on.
    is_fresh: bool,
}

impl Boot {
    fn switched_on() -> Self {
        Self { begun: Some(Instant::now()), is_fresh: true }
    }

    fn hears(&mut self, line: &str) {
        if line.contains(BEGINS) && !std::mem::take(&mut self.is_fresh) {
            self.ends();
            self.begun = Some(Instant::now());
        } else if line.contains(ENDS) {
            self.ends();
        }
    }

    fn ends(&mut self) {
        if let Some(begun) = self.begun.take() {
            let mut boots = BOOTS.lock().unwrap_or_else(PoisonError::into_inner);
            boots.count += 1;
            boots.sum += begun.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_and_tries_that_die_are_boots_too() {
        let before = seen().count;
        let mut boot = Boot::switched_on();
        let started = "BdsDxe: starting Boot0001";
        let lines = [started, started, started, "slipway: settings", "slipway: node healthy"];
        lines.iter().for_each(|line| boot.hears(line));
        assert_eq!(seen().count - before, 3, "two died, one came up");
        assert_eq!(boot.begun, None);
        boot.hears(started);
        boot.ends();
        assert_eq!(seen().count - before, 4);
    }
}
