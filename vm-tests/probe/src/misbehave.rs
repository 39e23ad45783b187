//! What the bad releases do: each is a unit of a test image that runs `probe <name>`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// Freezes PID 1: services run on, nobody starts or supervises anything, and nobody feeds
/// the watchdog.
pub fn hang() -> io::Result<()> {
    println!("probe: PID 1 hangs");
    fs::write("/sys/fs/cgroup/init.scope/cgroup.freeze", "1")
}

/// Waits until kubelet says that it is healthy, gives it a moment, and stops it for good.
pub fn stop_kubelet_when_healthy() -> io::Result<()> {
    while !kubelet_is_healthy() {
        sleep(Duration::from_millis(500));
    }
    sleep(Duration::from_secs(3));
    println!("probe: kubelet was healthy and is stopped");
    let status = Command::new("/usr/bin/systemctl")
        .args(["--no-block", "stop", "kubelet.service"])
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("systemctl failed")) }
}

/// Lets the first boot live, and panics in each later one, as soon as kubelet is healthy.
pub fn panic_once_blessed() -> io::Result<()> {
    while !kubelet_is_healthy() {
        sleep(Duration::from_millis(500));
    }
    let mark = Path::new("/var/lib/probe-lived-once");
    if !mark.exists() {
        return File::create(mark)?.sync_all();
    }
    println!("probe: kubelet is healthy, and the kernel panics");
    fs::write("/proc/sysrq-trigger", "c")
}

fn kubelet_is_healthy() -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect("127.0.0.1:10248")?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: kubelet\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        Ok(answer.contains(" 200 "))
    };
    ask().unwrap_or(false)
}
