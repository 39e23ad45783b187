//! Starts the program and sends it what a container runtime and the kernel send.

#![allow(clippy::unwrap_used)]

use std::process::{Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn ended_by(signal: Signal) -> ExitStatus {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pause")).spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    // A child signal first: it must neither end the program nor be mistaken for the end.
    sleep(Duration::from_millis(200));
    kill(pid, Signal::SIGCHLD).unwrap();
    sleep(Duration::from_millis(100));
    assert!(child.try_wait().unwrap().is_none(), "ended by SIGCHLD");
    kill(pid, signal).unwrap();
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            panic!("still there after {signal}");
        }
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn both_ends_are_clean() {
    assert!(ended_by(Signal::SIGTERM).success());
    assert!(ended_by(Signal::SIGINT).success());
}

#[test]
fn orphans_are_reaped() {
    // A shell that leaves an orphan and becomes `pause`: the orphan is then its child.
    let script = format!("sleep 0.3 & exec {}", env!("CARGO_BIN_EXE_pause"));
    let mut pause = Command::new("sh").args(["-c", &script]).spawn().unwrap();
    sleep(Duration::from_millis(900));
    let children = format!("/proc/{0}/task/{0}/children", pause.id());
    let left = std::fs::read_to_string(children).unwrap();
    kill(Pid::from_raw(pause.id() as i32), Signal::SIGTERM).unwrap();
    assert!(pause.wait().unwrap().success());
    assert_eq!(left.trim(), "");
}
