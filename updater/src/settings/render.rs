//! What systemd's network and time services read, made from the settings.
//!
//! In: settings. Out: files below `/run`, and the units that must be restarted because a file
//! of theirs changed. **Invariant:** only files whose names start with [`PREFIX`] are written
//! or removed; and a run that changes nothing writes nothing, so that a restart of this program
//! does not interrupt the node's network.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use release::settings::{Interface, Settings};

/// Start of the name of each file. It sorts before the image's `50-dhcp.network`: of all files
/// that match an interface, systemd takes the first by name.
const PREFIX: &str = "10-slipway";

/// A unit that reads these files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// `systemd-networkd.service`.
    Network,
    /// `systemd-timesyncd.service`.
    Time,
}

impl Unit {
    /// Name for systemd.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Network => "systemd-networkd.service",
            Unit::Time => "systemd-timesyncd.service",
        }
    }
}

/// Folders that the units read.
#[derive(Debug, Clone)]
pub struct RuntimeFolders {
    /// `/run/systemd/network`.
    pub network: PathBuf,
    /// `/run/systemd/timesyncd.conf.d`.
    pub time: PathBuf,
}

impl Default for RuntimeFolders {
    fn default() -> Self {
        Self {
            network: "/run/systemd/network".into(),
            time: "/run/systemd/timesyncd.conf.d".into(),
        }
    }
}

/// Brings the files in line with the settings. Does not restart anything.
///
/// # Errors
/// When a folder cannot be written; the files may then be of both settings, and the next run
/// puts that right.
pub fn render(folders: &RuntimeFolders, settings: &Settings) -> io::Result<Vec<Unit>> {
    let interfaces = settings.network.interfaces.iter().enumerate();
    let network = interfaces
        .map(|(index, interface)| (format!("{PREFIX}-{index:02}.network"), network_file(interface)))
        .collect();
    let servers = &settings.network.time_servers;
    let time = match servers.is_empty() {
        true => BTreeMap::new(),
        false => {
            let text = format!("[Time]\nNTP={}\n", servers.join(" "));
            BTreeMap::from([(format!("{PREFIX}.conf"), text)])
        }
    };
    let mut restart = Vec::new();
    for (folder, files, unit) in
        [(&folders.network, network, Unit::Network), (&folders.time, time, Unit::Time)]
    {
        if align(folder, &files)? {
            restart.push(unit);
        }
    }
    Ok(restart)
}

fn network_file(interface: &Interface) -> String {
    let mut text =
        format!("[Match]\nName={}\nType=ether\nKind=!*\n\n[Network]\nDHCP=no\n", interface.pattern);
    for address in &interface.addresses {
        text += &format!("Address={address}\n");
    }
    if let Some(gateway) = interface.gateway {
        text += &format!("Gateway={gateway}\n");
    }
    for server in &interface.dns {
        text += &format!("DNS={server}\n");
    }
    text
}

/// True when anything was changed.
fn align(folder: &Path, files: &BTreeMap<String, String>) -> io::Result<bool> {
    let mut changed = false;
    for name in ours(folder)? {
        if !files.contains_key(&name) {
            fs::remove_file(folder.join(name))?;
            changed = true;
        }
    }
    for (name, text) in files {
        let path = folder.join(name);
        match fs::read(&path) {
            Ok(present) if present == text.as_bytes() => continue,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(folder)?;
        // Services under users of their own read it, whatever this program's umask is.
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        let temporary = folder.join(format!(".{name}"));
        fs::write(&temporary, text)?;
        fs::set_permissions(&temporary, Permissions::from_mode(0o644))?;
        fs::rename(&temporary, &path)?;
        changed = true;
    }
    Ok(changed)
}

fn ours(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && name.starts_with(PREFIX)
        {
            names.push(name);
        }
    }
    Ok(names)
}
