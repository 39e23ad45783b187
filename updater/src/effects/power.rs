//! Restarts through systemd.
//!
//! In: nothing. Out: a restart that systemd has begun, or what it said. **Invariant:** units
//! are stopped in order and file systems unmounted; this is no `reboot -f`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Power;

/// What is asked of systemctl. Nobody is logged in to be warned.
const ARGUMENTS: [&str; 2] = ["--no-wall", "reboot"];
/// Longest part of its words that an error repeats, in characters.
const MAX_WORDS: usize = 400;

/// systemd.
pub struct Systemd {
    systemctl: PathBuf,
}

impl Systemd {
    /// The program, such as `/usr/bin/systemctl`.
    pub fn new(systemctl: &Path) -> Self {
        Self { systemctl: systemctl.to_owned() }
    }
}

impl Power for Systemd {
    fn reboot(&self) -> io::Result<()> {
        let output = Command::new(&self.systemctl).args(ARGUMENTS).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let words: String = words.trim().chars().take(MAX_WORDS).collect();
        let program = self.systemctl.display();
        Err(io::Error::other(format!("{program} reboot: {}: {words}", output.status)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn systemctl(script: &str) -> (tempfile::TempDir, Systemd) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("systemctl");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        (folder, Systemd::new(&program))
    }

    #[test]
    fn systemd_is_asked_to_restart() {
        let (folder, systemd) = systemctl("echo \"$@\" > \"$0.asked\"");
        systemd.reboot().unwrap();
        let asked = fs::read_to_string(folder.path().join("systemctl.asked")).unwrap();
        assert_eq!(asked, "--no-wall reboot\n");
    }

    #[test]
    fn a_refusal_is_given_back_with_code_and_words() {
        let (_folder, systemd) = systemctl("echo 'Transaction is destructive.' >&2; exit 4");
        let error = systemd.reboot().unwrap_err().to_string();
        assert!(error.contains('4') && error.contains("Transaction is destructive."), "{error}");
        assert!(Systemd::new(Path::new("/nonexistent")).reboot().is_err());
    }
}
