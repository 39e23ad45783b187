//! The one credential that a node takes from its machine: `slipway.settings`.
//!
//! In: QEMU's fw_cfg and the SMBIOS strings of type 11, as the kernel shows them. Out: a folder in
//! memory with the settings, or with the reason why those that were given cannot be used. systemd
//! imports no credential (`systemd.import_credentials=no`), because it would take any, from the
//! unsigned EFI system partition too. **Invariant:** nothing but `slipway.settings` is looked at, and
//! each source is read up to a bound. What is given is checked by who uses it, like settings from
//! anywhere else.
//!
//! Only a process with `CAP_SYS_ADMIN` reads fw_cfg: so `slipway-credential.service` does this, which
//! has no network, and slipwayd reads the folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::node::settings::MAX_SETTINGS_BYTES;

use super::sources::{CREDENTIAL, REFUSAL};

/// Where the folder is.
pub const CREDENTIALS: &str = "/run/slipway-credential";
/// Below `/`: the item that QEMU's `-fw_cfg name=opt/io.systemd.credentials/slipway.settings` makes.
const FW_CFG: &str =
    "sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/slipway.settings/raw";
/// Below `/`: the structures of SMBIOS, one folder each.
const SMBIOS: &str = "sys/firmware/dmi/entries";
/// Before the value in a string of SMBIOS.
const PLAIN: &[u8] = b"io.systemd.credential:slipway.settings=";
/// The same for a value in Base64.
const BINARY: &[u8] = b"io.systemd.credential.binary:slipway.settings=";
/// Type of the structures with strings of the machine's maker (SMBIOS 3.8, section 7.12).
const OEM_STRINGS: u8 = 11;
/// Most such structures that are read.
const MAX_STRUCTURES: u32 = 256;
/// Largest structure that is read: settings in Base64, and as much again for other strings.
const MAX_STRUCTURE_BYTES: u64 = 3 * MAX_SETTINGS_BYTES;

/// Why the settings that were given cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// The kernel does not show them.
    #[error("{what} cannot be read")]
    Read {
        /// Of fw_cfg or SMBIOS.
        what: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// More than any settings.
    #[error("{what} has more than {bytes} bytes")]
    TooLarge {
        /// Of fw_cfg or SMBIOS.
        what: String,
        /// The bound.
        bytes: u64,
    },
    /// The value behind `io.systemd.credential.binary:slipway.settings=`.
    #[error("the SMBIOS string io.systemd.credential.binary:{CREDENTIAL} is not Base64: {0}")]
    Base64(#[from] base64::DecodeError),
}

/// The settings that the machine gives; fw_cfg goes first. `system` is `/`, or a folder like it.
///
/// # Errors
/// [`FirmwareError`] when they are there and cannot be taken.
pub fn given(system: &Path) -> Result<Option<Vec<u8>>, FirmwareError> {
    if let Some(bytes) = read(&system.join(FW_CFG), MAX_SETTINGS_BYTES)? {
        return Ok(Some(bytes));
    }
    for number in 0..MAX_STRUCTURES {
        let raw = system.join(SMBIOS).join(format!("{OEM_STRINGS}-{number}/raw"));
        let Some(structure) = read(&raw, MAX_STRUCTURE_BYTES)? else { break };
        if let Some(settings) = strings(&structure).find_map(value_of) {
            return settings.map(Some);
        }
    }
    Ok(None)
}

/// The strings of a structure: they follow its formatted part, each ends with a zero, and an empty
/// one ends them all (SMBIOS 3.8, section 6.1.3).
fn strings(structure: &[u8]) -> impl Iterator<Item = &[u8]> {
    let formatted = match structure {
        [OEM_STRINGS, length, ..] => usize::from(*length),
        _ => structure.len(),
    };
    let set = structure.get(formatted..).unwrap_or_default();
    set.split(|byte| *byte == 0).take_while(|string| !string.is_empty())
}

fn value_of(string: &[u8]) -> Option<Result<Vec<u8>, FirmwareError>> {
    if let Some(plain) = string.strip_prefix(PLAIN) {
        return Some(Ok(plain.to_vec()));
    }
    let encoded = string.strip_prefix(BINARY)?;
    // Tools wrap lines, as systemd allows.
    let encoded: Vec<u8> =
        encoded.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    Some(STANDARD.decode(encoded).map_err(FirmwareError::from))
}

/// The content of a file; none when there is no such file.
fn read(path: &Path, bound: u64) -> Result<Option<Vec<u8>>, FirmwareError> {
    let what = || path.display().to_string();
    let failed = |source| FirmwareError::Read { what: what(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(bound + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bound {
        return Err(FirmwareError::TooLarge { what: what(), bytes: bound });
    }
    Ok(Some(bytes))
}

/// Writes what the machine gives into `folder`, for root alone: the settings, or why they cannot be
/// taken. Gives whether there is either.
///
/// # Errors
/// When the folder cannot be written.
pub fn take_credential(system: &Path, folder: &Path) -> io::Result<bool> {
    let (name, bytes) = match given(system) {
        Ok(None) => return Ok(false),
        Ok(Some(settings)) => (CREDENTIAL, settings),
        Err(error) => (REFUSAL, crate::chain(&error).into_bytes()),
    };
    let path = folder.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&bytes)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    /// A structure of type 11 with these strings.
    fn structure(strings: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![OEM_STRINGS, 5, 0, 0, strings.len() as u8];
        for string in strings {
            bytes.extend([string, &b"\0"[..]].concat());
        }
        bytes.push(0);
        bytes
    }

    const FIRST: &str = "sys/firmware/dmi/entries/11-0/raw";
    const SECOND: &str = "sys/firmware/dmi/entries/11-1/raw";

    #[test]
    fn settings_come_from_any_string_plain_or_in_base64() {
        let other =
            structure(&[b"io.systemd.credential:sysctl.extra=kernel.modprobe=/x", b"maker"]);
        for (string, settings) in [
            (&b"io.systemd.credential:slipway.settings={}"[..], &b"{}"[..]),
            (b"io.systemd.credential.binary:slipway.settings=e30K", b"{}\n"),
            (b"io.systemd.credential.binary:slipway.settings=e3\n0K\n", b"{}\n"),
        ] {
            let given_in = structure(&[b"maker", string]);
            let machine = machine(&[(FIRST, &other), (SECOND, &given_in)]);
            assert_eq!(given(machine.path()).unwrap().as_deref(), Some(settings));
        }
        assert_eq!(given(machine(&[(FIRST, &other)]).path()).unwrap(), None);
        assert_eq!(given(machine(&[]).path()).unwrap(), None);
    }

    #[test]
    fn fw_cfg_goes_before_smbios() {
        let smbios = structure(&[b"io.systemd.credential:slipway.settings={}"]);
        let machine = machine(&[(FIRST, &smbios), (FW_CFG, b"{\"schema\":1}")]);
        assert_eq!(given(machine.path()).unwrap().unwrap(), b"{\"schema\":1}");
    }

    #[test]
    fn broken_structures_give_nothing_and_what_is_too_large_is_refused() {
        let string = b"io.systemd.credential:slipway.settings={}\0\0";
        for header in [&b""[..], b"\x0b", b"\x0b\xff\0\0\0", b"\x01\x05\0\0\x01"] {
            let machine = machine(&[(FIRST, &[header, string].concat())]);
            let found = given(machine.path());
            assert!(matches!(found, Ok(None)), "{header:?}: {found:?}");
        }
        let unended = structure(&[b"io.systemd.credential:slipway.settings={}"]);
        let unended = machine(&[(FIRST, &unended[..unended.len() - 2])]);
        assert_eq!(given(unended.path()).unwrap().unwrap(), b"{}");
        let large = vec![b' '; MAX_SETTINGS_BYTES as usize + 1];
        let large = given(machine(&[(FW_CFG, &large)]).path());
        assert!(matches!(large, Err(FirmwareError::TooLarge { .. })), "{large:?}");
        let wrong = structure(&[b"io.systemd.credential.binary:slipway.settings=%"]);
        let wrong = given(machine(&[(FIRST, &wrong)]).path());
        assert!(matches!(wrong, Err(FirmwareError::Base64(_))), "{wrong:?}");
    }

    #[test]
    fn who_uses_the_folder_gets_the_settings_or_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let none = machine(&[]);
        assert!(!take_credential(none.path(), folder.path()).unwrap());
        let good = machine(&[(FW_CFG, b"{}")]);
        for _ in 0..2 {
            assert!(take_credential(good.path(), folder.path()).unwrap());
            assert_eq!(fs::read(folder.path().join(CREDENTIAL)).unwrap(), b"{}");
        }
        let wrong = structure(&[b"io.systemd.credential.binary:slipway.settings=%"]);
        let wrong = machine(&[(FIRST, &wrong)]);
        assert!(take_credential(wrong.path(), folder.path()).unwrap());
        let reason = fs::read_to_string(folder.path().join(REFUSAL)).unwrap();
        assert!(reason.contains("is not Base64"), "{reason}");
    }
}
