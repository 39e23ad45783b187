//! What systemd's network and time services, kubelet and containerd read, made from the settings.
//!
//! In: settings. Out: files below `/run`, and the units that must be restarted because a file
//! of theirs changed. **Invariant:** only files whose names start with [`PREFIX`] are written
//! or removed, but for the folder of registries, which is all ours; and a run that changes nothing writes nothing, so that a restart of this program
//! interrupts neither the node's network nor its kubelet.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use contract::node::settings::{Interface, NetworkSettings, RegistrySettings, Settings};

use super::kubelet::{self, Capacity, KUBELET_FOLDER};
use super::registries::{self, REGISTRIES_FOLDER};
use super::{NodeSettings, SettingsError, Sources, present};
use crate::effects::{BootedSlot, StateStore};
use crate::pod_network::{self, CNI_FOLDER};

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
    /// `kubelet.service`.
    Kubelet,
}

impl Unit {
    /// Name for systemd.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Network => "systemd-networkd.service",
            Unit::Time => "systemd-timesyncd.service",
            Unit::Kubelet => "kubelet.service",
        }
    }

    /// Who may read its files: what kubelet reads holds secrets.
    fn access(self) -> FileModes {
        match self {
            Unit::Network | Unit::Time => FileModes { folder: 0o755, file: 0o644 },
            Unit::Kubelet => FileModes { folder: 0o700, file: 0o600 },
        }
    }
}

/// Modes of a folder and of its files.
#[derive(Debug, Clone, Copy)]
struct FileModes {
    folder: u32,
    file: u32,
}

/// Folders that the units read.
#[derive(Debug, Clone)]
pub struct RuntimeFolders {
    /// `/run/systemd/network`.
    pub network: PathBuf,
    /// `/run/systemd/network/50-dhcp.network.d`: over the image's file for all interfaces that are not
    /// in the settings.
    pub dhcp: PathBuf,
    /// `/run/systemd/timesyncd.conf.d`.
    pub time: PathBuf,
    /// [`KUBELET_FOLDER`].
    pub kubelet: PathBuf,
    /// [`CNI_FOLDER`].
    pub cni: PathBuf,
    /// [`REGISTRIES_FOLDER`].
    pub registries: PathBuf,
}

impl Default for RuntimeFolders {
    fn default() -> Self {
        Self {
            network: "/run/systemd/network".into(),
            dhcp: "/run/systemd/network/50-dhcp.network.d".into(),
            time: "/run/systemd/timesyncd.conf.d".into(),
            kubelet: KUBELET_FOLDER.into(),
            cni: CNI_FOLDER.into(),
            registries: REGISTRIES_FOLDER.into(),
        }
    }
}

/// What each unit reads: its folder, and the files of ours in it.
fn wanted<'a>(
    folders: &'a RuntimeFolders,
    settings: &Settings,
) -> [(Unit, &'a Path, BTreeMap<String, String>); 4] {
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
    let dhcp = dhcp_file(&settings.network);
    let dhcp = dhcp.map(|text| (format!("{PREFIX}.conf"), text)).into_iter().collect();
    [
        (Unit::Network, &folders.network, network),
        (Unit::Network, &folders.dhcp, dhcp),
        (Unit::Time, &folders.time, time),
        (
            Unit::Kubelet,
            &folders.kubelet,
            kubelet::files(&folders.kubelet, settings, Capacity::of_this_machine()),
        ),
    ]
}

/// Brings the files in line with the settings, and gives the units whose files changed. Does not
/// restart anything.
///
/// # Errors
/// When a folder cannot be written; the files may then be of both settings, and the next run
/// puts that right.
pub fn render(folders: &RuntimeFolders, settings: &Settings) -> io::Result<Vec<Unit>> {
    pod_network::settle(&folders.cni, settings.kubernetes.as_ref())?;
    // containerd reads these at each pull.
    render_registries(&folders.registries, &settings.registries)?;
    let mut changed = Vec::new();
    for (unit, folder, files) in wanted(folders, settings) {
        if align(folder, &files, unit.access())? && !changed.contains(&unit) {
            changed.push(unit);
        }
    }
    Ok(changed)
}

/// The units whose files [`render`] would change. Writes nothing.
///
/// # Errors
/// When a folder cannot be read.
pub fn affected(folders: &RuntimeFolders, settings: &Settings) -> io::Result<Vec<Unit>> {
    let mut affected = Vec::new();
    for (unit, folder, files) in wanted(folders, settings) {
        let has_others = names(folder, PREFIX)?.iter().any(|name| !files.contains_key(name));
        let is_affected = has_others || !are_there(folder, &files)?;
        if is_affected && !affected.contains(&unit) {
            affected.push(unit);
        }
    }
    Ok(affected)
}

fn are_there(folder: &Path, files: &BTreeMap<String, String>) -> io::Result<bool> {
    for (name, text) in files {
        if !is_there(&folder.join(name), text)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// True when the file is there with this text.
fn is_there(path: &Path, text: &str) -> io::Result<bool> {
    match fs::read(path) {
        Ok(present) => Ok(present == text.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A folder for each host. Its name is one part of a path: the settings are checked.
fn render_registries(folder: &Path, registries: &[RegistrySettings]) -> io::Result<()> {
    let wanted = registries::files(registries);
    for host in names(folder, "")? {
        if !wanted.contains_key(host.as_str()) {
            fs::remove_dir_all(folder.join(host))?;
        }
    }
    for (host, files) in wanted {
        align(&folder.join(host), &files, Unit::Kubelet.access())?;
    }
    Ok(())
}

/// Why kubelet does not know what the settings say.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// There are settings, and they cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The folder in memory.
    #[error("cannot write {}: restart the node, and see whether its memory is full", .folder.display())]
    Write {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Writes what kubelet reads, and the network of pods, before kubelet starts at boot. Keeps
/// nothing.
///
/// # Errors
/// [`ConfigureError`]; kubelet must then not start.
pub fn configure_kubelet(
    state: &dyn StateStore,
    booted: BootedSlot,
    sources: &Sources<'_>,
    folders: &RuntimeFolders,
) -> Result<(), ConfigureError> {
    let settings = present(state, booted, sources);
    let usable = settings.as_ref().ok().and_then(Option::as_ref).map(NodeSettings::settings);
    let cluster = usable.and_then(|usable| usable.kubernetes.as_ref());
    let unwritten = |folder: &Path| {
        let folder = folder.to_owned();
        |source| ConfigureError::Write { folder, source }
    };
    pod_network::settle(&folders.cni, cluster).map_err(unwritten(&folders.cni))?;
    let settings = settings?;
    let settings = settings.as_ref().map(NodeSettings::settings);
    let files = settings
        .map(|settings| kubelet::files(&folders.kubelet, settings, Capacity::of_this_machine()));
    align(&folders.kubelet, &files.unwrap_or_default(), Unit::Kubelet.access())
        .map_err(unwritten(&folders.kubelet))?;
    let registries = settings.map_or(&[][..], |settings| &settings.registries);
    render_registries(&folders.registries, registries).map_err(unwritten(&folders.registries))
}

/// What the settings say of what DHCP and routers tell; nothing when they say nothing.
fn dhcp_file(network: &NetworkSettings) -> Option<String> {
    let yes = |is_yes| if is_yes { "yes" } else { "no" };
    let mut text = String::new();
    if let Some(advertisements) = network.router_advertisements {
        text += &format!("[Network]\nIPv6AcceptRA={}\n", yes(advertisements));
    }
    for section in ["DHCPv4", "DHCPv6", "IPv6AcceptRA"] {
        let domains = network.search_domains.map(|search| format!("UseDomains={}\n", yes(search)));
        // Time comes from the servers of the settings, and from no other.
        let has_time = !network.time_servers.is_empty() && section != "IPv6AcceptRA";
        let time = has_time.then(|| "UseNTP=no\n".to_owned());
        let lines: String = domains.into_iter().chain(time).collect();
        if !lines.is_empty() {
            text += &format!("[{section}]\n{lines}");
        }
    }
    (!text.is_empty()).then_some(text)
}

fn network_file(interface: &Interface) -> String {
    let mut text = format!(
        "[Match]\nName={}\nType=ether\nKind=!*\n\n[Network]\nDHCP=no\nIPv6AcceptRA=no\nLLMNR=no\n\
         MulticastDNS=no\n",
        interface.pattern
    );
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
fn align(folder: &Path, files: &BTreeMap<String, String>, access: FileModes) -> io::Result<bool> {
    let mut changed = false;
    for name in names(folder, PREFIX)? {
        if !files.contains_key(&name) {
            fs::remove_file(folder.join(name))?;
            changed = true;
        }
    }
    for (name, text) in files {
        let path = folder.join(name);
        if is_there(&path, text)? {
            continue;
        }
        fs::create_dir_all(folder)?;
        // Services under users of their own read some, whatever this program's umask is.
        fs::set_permissions(folder, Permissions::from_mode(access.folder))?;
        // Nobody reads a file that ends so, and one that is left over is one of ours.
        let temporary = folder.join(format!("{name}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(access.file)
            .open(&temporary)?;
        file.set_permissions(Permissions::from_mode(access.file))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&temporary, &path)?;
        changed = true;
    }
    Ok(changed)
}

/// What is in a folder, if it is there, and starts so.
fn names(folder: &Path, start: &str) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string()
            && name.starts_with(start)
        {
            names.push(name);
        }
    }
    Ok(names)
}
