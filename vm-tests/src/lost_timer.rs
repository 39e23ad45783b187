//! What a hypervisor's watchdog would do: a machine whose emulator has lost the timer of a processor
//! is reset, and counted. QEMU without KVM loses one in some hundreds of boots, on the second processor and
//! before the first process; nothing in the guest can end that.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::{qmp, report};

/// What the kernel says of such a processor, every 20 seconds or more.
const COMPLAINT: &str = "Possible timer handling issue on cpu";
/// A host that was busy for long may cause one.
const COMPLAINTS: usize = 2;
const PAUSE: Duration = Duration::from_secs(5);

/// Counts a reset of the machine in this folder.
type Count = fn(&Path) -> io::Result<()>;

/// Watches a machine until it is dropped.
#[derive(Debug)]
pub struct Watch {
    _stop: Sender<()>,
}

impl Watch {
    /// Watches the machine of `folder`, which has the sockets and logs of
    /// [`crate::machine::Machine`].
    pub fn over(folder: &Path) -> Self {
        Self::every(PAUSE, folder, report::note_reset)
    }

    fn every(pause: Duration, folder: &Path, count: Count) -> Self {
        let (stop, stopped) = channel();
        let folder = folder.to_owned();
        thread::spawn(move || watch(&folder, pause, count, &stopped));
        Self { _stop: stop }
    }
}

fn watch(folder: &Path, pause: Duration, count: Count, stopped: &Receiver<()>) {
    let serial: PathBuf = folder.join("serial.log");
    let mut known = 0;
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let found = complaints(&fs::read(&serial).unwrap_or_default());
        if found < known + COMPLAINTS {
            continue;
        }
        known = found;
        println!("the emulator lost a timer: the machine is reset");
        if let Err(error) = count(folder) {
            println!("it cannot be counted: {error}");
        }
        if let Err(error) = qmp::execute(&folder.join("qmp.sock"), "system_reset") {
            println!("it cannot be reset: {error:#}");
        }
    }
}

fn complaints(log: &[u8]) -> usize {
    String::from_utf8_lossy(log).matches(COMPLAINT).count()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_machine_is_reset_once_for_a_timer_that_stays_lost() {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("rcu: {COMPLAINT}=1 timer-softirq=5\n");
        let says = |times: usize| {
            fs::write(folder.path().join("serial.log"), line.repeat(times)).unwrap();
        };
        let monitor = UnixListener::bind(folder.path().join("qmp.sock")).unwrap();
        says(1);
        let pause = Duration::from_millis(10);
        let counted = |folder: &Path| fs::write(folder.join("counted"), "");
        let _watch = Watch::every(pause, folder.path(), counted);
        monitor.set_nonblocking(true).unwrap();
        thread::sleep(20 * pause);
        assert!(monitor.accept().is_err(), "one complaint may come from a busy host");

        says(2);
        monitor.set_nonblocking(false).unwrap();
        let (mut stream, _) = monitor.accept().unwrap();
        writeln!(stream, "{{\"QMP\": {{}}}}").unwrap();
        let mut asked = Vec::new();
        for line in BufReader::new(stream.try_clone().unwrap()).lines() {
            asked.push(line.unwrap());
            writeln!(stream, "{{\"return\": {{}}}}").unwrap();
        }
        assert!(asked[1].contains("system_reset"), "{asked:?}");
        assert!(folder.path().join("counted").exists(), "nobody hears of the reset");

        monitor.set_nonblocking(true).unwrap();
        says(3);
        thread::sleep(20 * pause);
        assert!(monitor.accept().is_err(), "the boot after the reset has complained once");
    }
}
