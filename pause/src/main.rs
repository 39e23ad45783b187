//! The first process of a pod's sandbox: it holds the namespaces open, reaps the orphans
//! of a shared process namespace, and ends when it is asked to.
//!
//! **Invariant:** signals are blocked from the first statement on and taken one at a time,
//! so that none is lost between a check and a wait.

use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

fn main() -> ExitCode {
    match wait_for_the_end() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pause: cannot wait for signals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wait_for_the_end() -> nix::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block()?;
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => reap()?,
            _ => return Ok(()),
        }
    }
}

/// Takes every child that has ended: one SIGCHLD may stand for several.
fn reap() -> nix::Result<()> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}
