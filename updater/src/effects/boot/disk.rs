//! Is all that this boot uses on one disk?
//!
//! In: mounts as PID 1 sees them, udev's marks of disks. Out: nothing, or a reason not to go on. udev
//! gives our names to the partitions of the disk whose EFI system partition has the UUID that the
//! loader left in the firmware's variables (ADR 21). A copy of a disk has the same UUID: which of both
//! it was nobody can tell, so a node with two such disks is refused.

use std::path::Path;

use super::{BootFactsError, disk_of, names, text, text_up_to};

/// What must be on the disk of the root.
const MOUNTS: [&str; 2] = ["/var", "/efi"];
/// A full node has some thousand mounts.
const MAX_MOUNTS_BYTES: u64 = 4 << 20;
/// udev's mark of a disk with the EFI system partition that the loader came from.
const MARK: &str = "E:ID_PART_GPT_AUTO_ROOT_UUID=";

/// Checks the mounts and the marks. `system` is `/`, or a folder like it; `disk` is the root's.
///
/// # Errors
/// [`BootFactsError::SeveralDisks`], [`BootFactsError::OtherDisk`], or when the kernel does not tell.
pub fn check(system: &Path, disk: &str) -> Result<(), BootFactsError> {
    let marked = marked(system)?;
    if marked.len() > 1 {
        return Err(BootFactsError::SeveralDisks(marked.join(" and ")));
    }
    let other = |mount, found: &str| BootFactsError::OtherDisk {
        mount,
        found: found.to_owned(),
        disk: disk.to_owned(),
    };
    if let Some(found) = marked.first().filter(|found| *found != disk) {
        return Err(other("the loader", found));
    }
    let mounts = text_up_to(&system.join("proc/1/mountinfo"), MAX_MOUNTS_BYTES)?;
    for mount in MOUNTS {
        // The ESP may be damaged and not mounted: that is for others to say.
        let Some(device) = device_at(&mounts, mount) else { continue };
        let found = disk_of(&system.join("sys/dev/block").join(device))?;
        if found != disk {
            return Err(other(mount, &found));
        }
    }
    Ok(())
}

/// Disks that udev marked.
fn marked(system: &Path) -> Result<Vec<String>, BootFactsError> {
    let mut marked = Vec::new();
    for name in names(&system.join("sys/block"))? {
        let number = match text(&system.join("sys/block").join(&name).join("dev")) {
            Ok(number) => number,
            Err(error) if error.is_absence() => continue,
            Err(error) => return Err(error),
        };
        match text(&system.join("run/udev/data").join(format!("b{}", number.trim()))) {
            Ok(said) if said.lines().any(|line| line.starts_with(MARK)) => marked.push(name),
            Ok(_) => {}
            // A device that udev has not seen yet.
            Err(error) if error.is_absence() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(marked)
}

/// `major:minor` of what is mounted at `point`; the last one covers those before (proc(5)).
fn device_at<'a>(mounts: &'a str, point: &str) -> Option<&'a str> {
    mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let (device, _root, found) = (fields.next()?, fields.next()?, fields.next()?);
        (found == point).then_some(device)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Two disks of one layout; `marked` of them carry the loader's ESP.
    fn machine(marked: &[&str], mounts: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let system = folder.path();
        for (major, disk) in [(8, "sda"), (9, "sdb")] {
            write(&system.join(format!("sys/block/{disk}/dev")), &format!("{major}:0\n"));
            let data = match marked.contains(&disk) {
                true => "N:x\nE:ID_PART_GPT_AUTO_ROOT_UUID=4f68\n",
                false => "N:x\n",
            };
            write(&system.join(format!("run/udev/data/b{major}:0")), data);
            let partition = system.join("sys/devices/block").join(disk).join(format!("{disk}6"));
            fs::create_dir_all(&partition).unwrap();
            fs::create_dir_all(system.join("sys/dev/block")).unwrap();
            symlink(&partition, system.join(format!("sys/dev/block/{major}:6"))).unwrap();
        }
        fs::create_dir_all(system.join("sys/block/loop0")).unwrap();
        write(&system.join("proc/1/mountinfo"), mounts);
        folder
    }

    const OWN: &str = "31 21 8:6 / /var rw - ext4 /dev/sda6 rw\n32 21 8:6 / /efi rw - vfat x rw\n";

    #[test]
    fn a_node_on_one_disk_goes_on() {
        for mounts in [OWN, "", "31 21 8:6 / /var rw - ext4 /dev/sda6 rw\n"] {
            check(machine(&["sda"], mounts).path(), "sda").unwrap();
        }
        check(machine(&[], OWN).path(), "sda").unwrap();
    }

    #[test]
    fn mounts_of_a_full_node_are_read_to_their_end() {
        let pods =
            "50 21 0:50 / /var/lib/kubelet/pods/x/volumes/y rw - tmpfs tmpfs rw\n".repeat(5000);
        let mounts = format!("{pods}40 21 9:6 / /var rw - ext4 /dev/sdb6 rw\n");
        let node = machine(&["sda"], &mounts);
        assert!(check(node.path(), "sda").is_err(), "the last mount was not seen");
        let odd = [OWN.as_bytes(), b"51 21 0:51 /\xff /x rw - tmpfs tmpfs rw\n"].concat();
        fs::write(node.path().join("proc/1/mountinfo"), odd).unwrap();
        check(node.path(), "sda").unwrap();
    }

    #[test]
    fn a_mount_of_another_disk_is_refused() {
        for mount in ["/var", "/efi"] {
            let mounts = format!("{OWN}40 21 9:6 / {mount} rw - ext4 /dev/sdb6 rw\n");
            let error = check(machine(&["sda"], &mounts).path(), "sda").unwrap_err().to_string();
            assert!(error.contains(mount) && error.contains("sdb"), "{error}");
        }
    }

    #[test]
    fn a_copy_of_the_disk_and_a_root_of_another_are_refused() {
        let error = check(machine(&["sda", "sdb"], OWN).path(), "sda").unwrap_err();
        assert!(matches!(error, BootFactsError::SeveralDisks(_)), "{error}");
        let error = check(machine(&["sdb"], OWN).path(), "sda").unwrap_err();
        assert!(matches!(error, BootFactsError::OtherDisk { mount: "the loader", .. }), "{error}");
    }
}
