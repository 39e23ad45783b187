//! The system's clocks.
//!
//! In: nothing. Out: time of day, the machine's own, time since the kernel started, and whether a
//! time server was reached in this boot. **Invariant:** none of them fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use super::Clock;

/// What the kernel shows of the first RTC.
const RTC: &str = "/sys/class/rtc/rtc0/since_epoch";

/// The system's clocks.
pub struct SystemClock {
    synchronized: PathBuf,
}

impl SystemClock {
    /// `synchronized` is the file that systemd-timesyncd makes at its first answer,
    /// `/run/systemd/timesync/synchronized`.
    pub fn new(synchronized: &Path) -> Self {
        Self { synchronized: synchronized.to_owned() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uptime(&self) -> Duration {
        // What `/proc/uptime` shows, without a file that could be missing.
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
    }

    fn is_synchronized(&self) -> bool {
        self.synchronized.exists()
    }

    fn rtc(&self) -> Option<Timestamp> {
        read_rtc(Path::new(RTC))
    }
}

/// No RTC, and one that cannot be read, are the same: there is nothing to compare with.
fn read_rtc(path: &Path) -> Option<Timestamp> {
    let text = fs::read_to_string(path).ok()?;
    Timestamp::from_second(text.trim().parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uptime_is_the_kernels() {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let shown: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let clock = SystemClock::new(&folder.path().join("synchronized"));
        assert!(clock.uptime().as_secs_f64() >= shown - 0.01);
        assert!(!clock.is_synchronized());
        std::fs::write(folder.path().join("synchronized"), "").unwrap();
        assert!(clock.is_synchronized());
    }

    #[test]
    fn an_unreadable_rtc_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("since_epoch");
        assert_eq!(read_rtc(&path), None);
        for (text, time) in
            [("1700000000\n", Timestamp::from_second(1_700_000_000).ok()), ("x", None)]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(read_rtc(&path), time);
        }
    }
}
