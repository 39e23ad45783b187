//! What the kernel shows: the device that the root is on, and what is mounted over the image.
//!
//! In: `mountinfo` (proc(5)) and sysfs. Out: items. Parsing is apart from reading.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use contract::node::api::{DriftItem, Outcome, Subject};
use uuid::Uuid;

use super::{DriftPlaces, item};

/// Largest table of mounts that is read, in bytes; a node with 110 pods has about 300 KiB.
const MAX_MOUNTS_BYTES: u64 = 4 << 20;
/// Folders that are the image's alone.
const IMAGE_FOLDERS: [&str; 7] = ["/bin", "/etc", "/lib", "/lib64", "/opt", "/sbin", "/usr"];
/// What the image itself mounts there.
const OWN_MOUNTS: [&str; 3] = ["/etc/machine-id", "/etc/cni/net.d", "/opt/cni/bin"];
/// How the kernel names a dm-verity device, before its UUID.
const VERITY_PREFIX: &str = "CRYPT-VERITY-";

/// One mount.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    /// `major:minor`.
    device: &'a str,
    point: &'a str,
    options: &'a str,
    kind: &'a str,
}

/// The mounts in a `mountinfo`; what is not one is passed over.
fn mounts(text: &str) -> impl DoubleEndedIterator<Item = Mount<'_>> {
    text.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut fields = front.split(' ').skip(2);
        let (device, _root, point) = (fields.next()?, fields.next()?, fields.next()?);
        let (options, kind) = (fields.next()?, back.split(' ').next()?);
        Some(Mount { device, point, options, kind })
    })
}

/// Items for the root's device, and for what is mounted over the image. `uuid` is that of the
/// hash tree of the slot that should run, when it is right.
pub fn items(places: &DriftPlaces, uuid: Option<Uuid>) -> Vec<DriftItem> {
    let text = match read(&places.mounts) {
        Ok(text) => text,
        Err(error) => {
            let detail = format!("{} cannot be read: {error}", places.mounts.display());
            return vec![item(Subject::Mount, "mounts", Outcome::Unknown, detail)];
        }
    };
    let mut items = vec![root_device(&text, &places.devices, uuid)];
    let over = |mount: &Mount<'_>| {
        let below = |folder: &str| {
            let rest = mount.point.strip_prefix(folder);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        IMAGE_FOLDERS.into_iter().any(below) && !OWN_MOUNTS.contains(&mount.point)
    };
    items.extend(mounts(&text).filter(over).map(|mount| {
        let detail = format!("a {} covers what the image has there", mount.kind);
        item(Subject::Mount, mount.point, Outcome::Differs, detail)
    }));
    items
}

fn root_device(text: &str, devices: &Path, uuid: Option<Uuid>) -> DriftItem {
    let made = |outcome, detail: String| item(Subject::RootDevice, "/", outcome, detail);
    // The last one covers those before it.
    let Some(root) = mounts(text).rfind(|mount| mount.point == "/") else {
        return made(Outcome::Unknown, "nothing is mounted there".to_owned());
    };
    if root.kind != "erofs" || !root.options.split(',').any(|option| option == "ro") {
        let detail = format!("it is {} with {}, not a read-only erofs", root.kind, root.options);
        return made(Outcome::Differs, detail);
    }
    let name = match read(&devices.join(root.device).join("dm/uuid")) {
        Ok(name) => name,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let detail = format!("device {} is not dm-verity", root.device);
            return made(Outcome::Differs, detail);
        }
        Err(error) => return made(Outcome::Unknown, format!("sysfs: {error}")),
    };
    let found = name.trim().strip_prefix(VERITY_PREFIX);
    let found = found.and_then(|rest| Uuid::try_parse(rest.split('-').next()?).ok());
    match (found, uuid) {
        (None, _) => made(Outcome::Differs, format!("`{}` is not dm-verity", name.trim())),
        (Some(found), Some(uuid)) if found == uuid => {
            made(Outcome::Same, format!("dm-verity over the booted slot, UUID {uuid}"))
        }
        (Some(found), Some(uuid)) => {
            let detail = format!("dm-verity with UUID {found}, but the booted slot has {uuid}");
            made(Outcome::Differs, detail)
        }
        (Some(found), None) => {
            let detail = format!("dm-verity with UUID {found}; that of the slot is not known");
            made(Outcome::Unknown, detail)
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut found = Vec::new();
    File::open(path)?.take(MAX_MOUNTS_BYTES).read_to_end(&mut found)?;
    // Paths of pods are in it.
    Ok(String::from_utf8_lossy(&found).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

    use super::*;

    const ROOT: &str = "21 1 254:0 / / ro,relatime shared:1 - erofs /dev/mapper/root ro\n";
    const OWN: &str = "\
        30 21 0:25 / /etc/cni/net.d rw,nosuid shared:9 - overlay overlay rw\n\
        31 21 8:6 /lib/slipway/machine-id /etc/machine-id rw shared:7 - ext4 /dev/sda6 rw\n\
        32 21 0:26 / /run rw shared:8 - tmpfs tmpfs rw\n\
        33 32 0:27 / /run/containerd/usr rw - overlay overlay rw\n";

    fn outcomes(mounts: &str, name: Option<&str>, uuid: Option<Uuid>) -> Vec<(String, Outcome)> {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("254:0/dm");
        if let Some(name) = name {
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("uuid"), name).unwrap();
        }
        let file = folder.path().join("mountinfo");
        fs::write(&file, mounts).unwrap();
        let places =
            DriftPlaces { mounts: file, devices: folder.path().into(), writable: Vec::new() };
        items(&places, uuid).into_iter().map(|item| (item.name, item.outcome)).collect()
    }

    #[test]
    fn the_images_own_mounts_are_no_drift() {
        let uuid = Uuid::from_bytes([0xab; 16]);
        let name = format!("CRYPT-VERITY-{}-root\n", uuid.simple());
        let found = outcomes(&(ROOT.to_owned() + OWN), Some(&name), Some(uuid));
        assert_eq!(found, [("/".to_owned(), Outcome::Same)]);
    }

    #[test]
    fn a_root_that_is_not_the_verified_one_is_found() {
        let uuid = Uuid::from_bytes([0xab; 16]);
        let name = format!("CRYPT-VERITY-{}-root", uuid.simple());
        let other = Some(Uuid::from_bytes([1; 16]));
        let covered = ROOT.to_owned() + "40 21 0:9 / / rw - tmpfs tmpfs rw\n";
        for (mounts, name, uuid, outcome) in [
            (ROOT, Some(&*name), other, Outcome::Differs),
            (ROOT, Some(&*name), None, Outcome::Unknown),
            (ROOT, Some("LVM-abc"), other, Outcome::Differs),
            (ROOT, None, other, Outcome::Differs),
            (&covered, Some(&*name), Some(uuid), Outcome::Differs),
            ("", None, None, Outcome::Unknown),
            ("garbage - \n\n - x\n1 2 3\n", None, None, Outcome::Unknown),
        ] {
            let found = outcomes(mounts, name, uuid);
            assert_eq!(found, [("/".to_owned(), outcome)], "{mounts}");
        }
    }

    #[test]
    fn a_mount_over_the_image_is_found() {
        let uuid = Uuid::from_bytes([0xab; 16]);
        let name = format!("CRYPT-VERITY-{}-root", uuid.simple());
        let mounts = ROOT.to_owned()
            + "40 21 0:9 / /usr/bin rw - tmpfs tmpfs rw\n41 21 0:9 / /etcetera rw - tmpfs t rw\n";
        let found = outcomes(&mounts, Some(&name), Some(uuid));
        assert_eq!(found[1..], [("/usr/bin".to_owned(), Outcome::Differs)]);
    }

    /// As the unit confines the service: root without capabilities.
    #[test]
    fn the_mounts_of_pid_1_are_shown_to_a_service_without_capabilities() {
        let confined = std::thread::spawn(|| {
            let none = CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            };
            // Of this thread alone.
            set_capabilities(None, none).unwrap();
            read(&DriftPlaces::default().mounts)
        });
        let text = confined.join().unwrap().unwrap();
        assert!(mounts(&text).any(|mount| mount.point == "/"), "{text}");
    }
}
