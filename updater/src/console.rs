//! The node's own screen: one page of status on the first virtual terminal, and one line on
//! each serial console whenever it changes.
//!
//! In: the status. Out: text on devices. **Invariant:** nothing is read from a console, so
//! nobody logs in; a console that does not take text never makes the daemon wait.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use contract::node::api::{Boot, Status, clipped, hold_line, printable, status_lines};
use rustix::fs::OFlags;

/// The virtual terminal that shows the page.
const SCREEN: &str = "/dev/tty1";
/// The kernel's list of its consoles.
const ACTIVE: &str = "/sys/class/tty/console/active";
/// A page that any text mode can show.
const COLUMNS: usize = 79;
const ROWS: usize = 24;
/// Columns of the labels.
const LABEL: usize = 10;
/// Home, clear, no cursor (ECMA-48; the Linux console knows them). Only for the screen.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[?25l";

/// A console did not take its text.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to the console {}", .0.display())]
pub struct ConsoleError(PathBuf, #[source] io::Error);

/// The consoles of a machine, and what they show.
#[derive(Debug)]
pub struct Console {
    screen: Option<PathBuf>,
    serials: Vec<PathBuf>,
    page: String,
    line: String,
}

impl Console {
    /// The consoles that this machine has. Without the kernel's list there is no serial one.
    pub fn of_this_machine() -> Self {
        let active = fs::read_to_string(ACTIVE).unwrap_or_else(|error| {
            tracing::warn!(%error, "there is no list of serial consoles: {ACTIVE}");
            String::new()
        });
        let screen = Path::new(SCREEN);
        Self::on(screen.exists().then(|| screen.into()), serial_consoles(&active))
    }

    /// These consoles.
    pub fn on(screen: Option<PathBuf>, serials: Vec<PathBuf>) -> Self {
        Self { screen, serials, page: String::new(), line: String::new() }
    }

    /// Shows a status where it differs from what is shown.
    ///
    /// # Errors
    /// [`ConsoleError`] for the last console that failed; the others were written.
    pub fn show(&mut self, status: &Status) -> Result<(), ConsoleError> {
        let mut result = Ok(());
        let page = page(status);
        if page != self.page {
            let text = CLEAR.to_owned() + &page.replace('\n', "\r\n");
            if let Some(path) = &self.screen {
                result = write(path, &text).map_err(|error| ConsoleError(path.clone(), error));
            }
            self.page = page;
        }
        let line = line(status);
        if line != self.line {
            // Others write to a serial console too: start and end a line of our own.
            let text = format!("\r\n{line}\r\n");
            for path in &self.serials {
                if let Err(error) = write(path, &text) {
                    result = Err(ConsoleError(path.clone(), error));
                }
            }
            self.line = line;
        }
        result
    }
}

/// Never waits: a serial line whose other end holds it loses the text.
fn write(path: &Path, text: &str) -> io::Result<()> {
    // Without NOCTTY the daemon would get the terminal's hangups.
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    OpenOptions::new().write(true).custom_flags(flags).open(path)?.write_all(text.as_bytes())
}

/// The serial consoles in the kernel's list.
fn serial_consoles(active: &str) -> Vec<PathBuf> {
    let serial = |name: &&str| {
        ["ttyS", "ttyAMA", "hvc"].iter().any(|kind| {
            name.strip_prefix(kind).is_some_and(|number| {
                !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            })
        })
    };
    active.split_whitespace().filter(serial).map(|name| Path::new("/dev").join(name)).collect()
}

/// One page, without control characters but for line ends.
fn page(status: &Status) -> String {
    let mut page = format!("Slipway  {}\n\n", printable(&status.hostname));
    let mut last = "";
    for (label, text) in status_lines(status).into_iter().take(ROWS - 3) {
        let shown = if label == last { "" } else { label };
        last = label;
        page += clipped(&format!("{shown:<LABEL$} {text}"), COLUMNS).trim_end();
        page.push('\n');
    }
    page
}

/// The state in one line, without what changes from second to second.
fn line(status: &Status) -> String {
    let running = &status.running;
    let version = running.version.as_ref().map_or("unknown".to_owned(), ToString::to_string);
    let boot = match running.boot {
        Boot::Blessed => "blessed",
        Boot::Pending => "pending",
        Boot::Condemned => "condemned",
        Boot::Unknown => "unknown",
    };
    let addresses: Vec<String> = status.addresses.iter().map(ToString::to_string).collect();
    let address = if addresses.is_empty() { "no address".into() } else { addresses.join(" ") };
    let why: Vec<String> = status.holds.iter().map(hold_line).collect();
    let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
    let (slot, generation, phase) = (running.slot, running.generation, status.phase);
    format!(
        "slipway: status: release {version}, slot {slot}, generation {generation}, {boot}, \
         {phase}, {address}{why}"
    )
}

#[cfg(test)]
mod tests {
    use contract::node::api::{Hold, Progress, Rule, Step};

    use super::*;
    use crate::api::testing::status;

    fn held() -> Status {
        let mut status = status();
        let sentence = "channel `stable` is paused: \u{1b}[31mred\nalert".to_owned();
        status.holds = vec![Hold { rule: Rule::Paused, sentence, ends: None }];
        status
    }

    #[test]
    fn the_page_fits_a_text_screen_and_steers_nothing() {
        let mut status = held();
        status.holds = vec![status.holds[0].clone(); 40];
        status.holds[0].sentence = "x".repeat(300);
        let page = page(&status);
        assert!(page.lines().count() < ROWS, "{page}");
        assert!(page.lines().all(|line| line.chars().count() <= COLUMNS), "{page}");
        assert!(!page.replace('\n', "").chars().any(char::is_control), "{page}");
    }

    #[test]
    fn a_serial_console_gets_one_plain_line_per_change() {
        let folder = tempfile::tempdir().unwrap();
        let serial = folder.path().join("ttyS0");
        fs::write(&serial, "").unwrap();
        let mut console = Console::on(None, vec![serial.clone()]);
        let said = |console: &mut Console, status: &Status| {
            fs::write(&serial, "").unwrap();
            console.show(status).unwrap();
            fs::read_to_string(&serial).unwrap()
        };
        let mut status = held();
        assert_eq!(
            said(&mut console, &status),
            "\r\nslipway: status: release 1.4.0, slot a, generation 5, blessed, idle, 10.0.2.15: \
             channel `stable` is paused:  [31mred alert\r\n"
        );
        status.clock.uptime_seconds += 60;
        status.progress =
            Some(Progress { step: Step::WritingRoot, way: None, bytes_done: 1, bytes_total: 2 });
        assert_eq!(said(&mut console, &status), "");
        status.holds.clear();
        assert!(said(&mut console, &status).contains("10.0.2.15\r\n"));
    }

    #[test]
    fn a_console_that_is_gone_is_named() {
        let mut console = Console::on(Some("/nonexistent/tty1".into()), Vec::new());
        let error = console.show(&status()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/tty1"), "{error}");
    }

    #[test]
    fn only_serial_consoles_get_lines() {
        let found = serial_consoles("tty0 ttyS0 hvc1 ttyS ../ttyS0 ttyAMA0\n");
        let names: Vec<_> = found.iter().map(|path| path.to_string_lossy()).collect();
        assert_eq!(names, ["/dev/ttyS0", "/dev/hvc1", "/dev/ttyAMA0"]);
    }
}
