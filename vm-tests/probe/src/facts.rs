//! What the node says of itself: identity, boot, security state, mounts, partitions.
//!
//! A fact that cannot be read is `null`, so that a test sees the difference between
//! "no" and "unknown".

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Sizes in sysfs are in units of 512 bytes, whatever the disk's own sector is.
const SYSFS_SECTOR: u64 = 512;

/// All facts as one document.
pub fn all() -> Value {
    json!({
        "boot_id": line("/proc/sys/kernel/random/boot_id"),
        "machine_id": line("/etc/machine-id"),
        "cmdline": line("/proc/cmdline"),
        "lockdown": line("/sys/kernel/security/lockdown").as_deref().and_then(lockdown),
        "secure_boot": fs::read(SECURE_BOOT).ok().and_then(|value| secure_boot(&value)),
        "os_release": text("/etc/os-release").map(|text| json!(os_release(&text))),
        "mounts": text("/proc/self/mounts").map(|text| mounts(&text)),
        "uptime_seconds": line("/proc/uptime").as_deref().and_then(uptime),
        "partitions": partitions(Path::new("/sys/class/block")),
        "verity": verity_devices(Path::new("/sys/class/block")),
    })
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn line(path: impl AsRef<Path>) -> Option<String> {
    text(path).map(|text| text.trim_end().to_owned())
}

/// `integrity` of `none [integrity] confidentiality`.
fn lockdown(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// An EFI variable: four bytes of attributes, then one that is 1 when Secure Boot is on.
fn secure_boot(variable: &[u8]) -> Option<bool> {
    match variable {
        [_, _, _, _, value] => Some(*value == 1),
        _ => None,
    }
}

fn os_release(text: &str) -> BTreeMap<&str, &str> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key, value.trim_matches('"'))).collect()
}

fn mounts(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let mut next = || words.next();
            let (source, target, kind, options) = (next()?, next()?, next()?, next()?);
            let options: Vec<&str> = options.split(',').collect();
            Some(json!({"source": source, "target": target, "type": kind, "options": options}))
        })
        .collect()
}

fn uptime(text: &str) -> Option<f64> {
    text.split(' ').next()?.parse().ok()
}

/// Folders of all block devices, by name.
fn devices(sysfs: &Path) -> BTreeMap<String, std::path::PathBuf> {
    let entries = fs::read_dir(sysfs).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

/// GPT label to size in bytes.
fn partitions(sysfs: &Path) -> BTreeMap<String, u64> {
    let label_and_size = |folder: &Path| {
        let uevent = text(folder.join("uevent"))?;
        let label = uevent.lines().find_map(|line| line.strip_prefix("PARTNAME="))?.to_owned();
        let sectors: u64 = line(folder.join("size"))?.parse().ok()?;
        Some((label, sectors * SYSFS_SECTOR))
    };
    devices(sysfs).values().filter_map(|folder| label_and_size(folder)).collect()
}

/// Active dm-verity devices.
fn verity_devices(sysfs: &Path) -> Vec<Value> {
    let device = |folder: &Path| {
        let uuid = line(folder.join("dm/uuid"))?;
        uuid.starts_with("CRYPT-VERITY").then(|| {
            json!({
                "name": line(folder.join("dm/name")),
                "uuid": uuid,
                "read_only": line(folder.join("ro")).map(|value| value == "1"),
            })
        })
    };
    devices(sysfs).values().filter_map(|folder| device(folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_in_brackets_is_the_lockdown() {
        assert_eq!(lockdown("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(lockdown(""), None);
    }

    #[test]
    fn secure_boot_is_on_off_or_unknown() {
        assert_eq!(secure_boot(&[6, 0, 0, 0, 1]), Some(true));
        assert_eq!(secure_boot(&[6, 0, 0, 0, 0]), Some(false));
        assert_eq!(secure_boot(&[1]), None);
    }

    #[test]
    fn mounts_and_release_are_split() {
        let found = mounts("/dev/dm-0 / erofs ro,relatime 0 0\nbroken\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["options"][0], "ro");
        assert_eq!(os_release("ID=x\nNAME=\"a b\"\n")["NAME"], "a b");
        assert_eq!(uptime("12.50 3.00"), Some(12.5));
    }

    #[test]
    fn partitions_and_verity_devices_are_found_in_sysfs() {
        let sysfs = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = sysfs.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("vda/uevent", "DEVNAME=vda\n");
        write("vda2/uevent", "DEVNAME=vda2\nPARTNAME=root-a\n");
        write("vda2/size", "2048\n");
        write("dm-0/dm/uuid", "CRYPT-VERITY-1234-root\n");
        write("dm-0/dm/name", "root\n");
        write("dm-0/ro", "1\n");
        assert_eq!(partitions(sysfs.path())["root-a"], 1 << 20);
        let verity = verity_devices(sysfs.path());
        assert_eq!((verity.len(), &verity[0]["read_only"]), (1, &json!(true)));
    }
}
