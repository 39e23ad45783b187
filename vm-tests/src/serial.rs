//! The console of a machine as text: what QEMU writes into `serial.log`, without terminal control
//! sequences.
//!
//! **Invariant:** each byte is read once, because consoles get long and are looked at often.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A console, and how far it was read.
#[derive(Debug)]
pub struct Serial {
    file: PathBuf,
    read: u64,
    /// Bytes of a line that has no end yet.
    begun: Vec<u8>,
}

impl Serial {
    /// The console of the machine in `folder`, from its beginning.
    pub fn of(folder: &Path) -> Self {
        Self { file: folder.join("serial.log"), read: 0, begun: Vec::new() }
    }

    /// What came since the last call, up to the end of its last line.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn new_lines(&mut self) -> io::Result<String> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.read))?;
        self.read += file.read_to_end(&mut self.begun)? as u64;
        let end = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.begun.drain(..end).collect();
        Ok(plain(&lines))
    }

    /// What came behind the last line.
    pub fn begun_line(&self) -> String {
        plain(&self.begun)
    }
}

/// The part of a console that nobody has waited for yet.
#[derive(Debug)]
pub struct Heard {
    serial: Serial,
    lines: String,
    /// Bytes of the line without an end that are used up already.
    used: usize,
}

impl Heard {
    /// Of the machine in `folder`, from its console's beginning.
    pub fn of(folder: &Path) -> Self {
        Self { serial: Serial::of(folder), lines: String::new(), used: 0 }
    }

    /// All that is left, with what has come meanwhile.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn fresh(&mut self) -> io::Result<String> {
        let new = self.serial.new_lines()?;
        if !new.is_empty() {
            self.lines.push_str(new.get(self.used..).unwrap_or_default());
            self.used = 0;
        }
        let begun = self.serial.begun_line();
        Ok(self.lines.clone() + begun.get(self.used..).unwrap_or_default())
    }

    /// The first `end` bytes of what [`Heard::fresh`] gave are of no use any more.
    pub fn is_used_up_to(&mut self, end: usize) {
        self.used += end.saturating_sub(self.lines.len());
        self.lines.drain(..end.min(self.lines.len()));
    }
}

/// Removes escape sequences and carriage returns.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => {
                // `ESC [ … letter`; anything shorter ends at its letter too.
                rest.by_ref().find(|c| c.is_ascii_alphabetic());
            }
            '\r' => {}
            _ => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_hide_words() {
        assert_eq!(plain(b"\x1b[0;32mno\x1b[0mde\r\n"), "node\n");
    }

    #[test]
    fn what_is_used_up_does_not_come_again_also_of_a_line_without_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("serial.log");
        std::fs::write(&log, "one\ntwo three").unwrap();
        let mut heard = Heard::of(folder.path());
        assert_eq!(heard.fresh().unwrap(), "one\ntwo three");
        heard.is_used_up_to(3);
        assert_eq!(heard.fresh().unwrap(), "\ntwo three");
        heard.is_used_up_to(4);
        assert_eq!(heard.fresh().unwrap(), " three");
        std::fs::write(&log, "one\ntwo three four\nfive").unwrap();
        assert_eq!(heard.fresh().unwrap(), " three four\nfive");
    }

    #[test]
    fn each_line_is_given_once_and_the_last_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("serial.log");
        std::fs::write(&log, "one\ntw").unwrap();
        let mut serial = Serial::of(folder.path());
        assert_eq!(serial.new_lines().unwrap(), "one\n");
        assert_eq!(serial.begun_line(), "tw");
        std::fs::write(&log, "one\ntwo\n").unwrap();
        assert_eq!(serial.new_lines().unwrap(), "two\n");
        assert_eq!(serial.begun_line(), "");
    }
}
