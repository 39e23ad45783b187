//! Stages a release into files and says what it cost; and the floors to compare with. The
//! benchmarks start it as a process of its own, so that its memory is that of staging alone.
//!
//! ```text
//! apply stage OFFER.json URL DIR    # into DIR/dev/{root,verity}-b and DIR/temporary.efi
//! apply floor INPUT FILE            # write and SHA-256 of the same bytes, on one core
//! apply floor-read-back INPUT FILE  # the same, then read and SHA-256 of what was written
//! ```
//!
//! The running slot is `DIR/dev/{root,verity}-a` and `DIR/booted.efi`, where they are there.
//! The result is one line of JSON.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use contract::release::layout::{MIB, ROOT_BYTES, VERITY_BYTES};
use contract::{Offer, RootHash, Slot, UkiName};
use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use updater::effects::boot::BootFacts;
use updater::effects::firmware::EfiVariables;
use updater::effects::slots::DiskSlots;
use updater::effects::{Disarmed, Effects, Esp};
use updater::staging::{Job, Limits, Progress, Stager};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let mut line = match words[..] {
        ["stage", offer, url, folder] => stage(Path::new(offer), url, Path::new(folder))?,
        ["floor", input, file] => floor(Path::new(input), Path::new(file), Floor::Write)?,
        ["floor-read-back", input, file] => {
            floor(Path::new(input), Path::new(file), Floor::ReadBack)?
        }
        _ => bail!("usage: apply stage OFFER URL DIR | apply floor[-read-back] INPUT FILE"),
    };
    line["seconds"] = begun.elapsed().as_secs_f64().into();
    line["peak_bytes"] = peak_bytes()?.into();
    println!("{line}");
    Ok(())
}

fn stage(offer: &Path, url: &str, folder: &Path) -> anyhow::Result<serde_json::Value> {
    let offer = Offer::from_json(&fs::read(offer)?)?;
    let machine = Arc::new(Files::open(folder)?);
    let booted = machine.facts.slot;
    let effects = Effects {
        slots: machine.slots.clone(),
        esp: machine.clone(),
        // No Secure Boot: nothing of this is booted.
        firmware: Arc::new(EfiVariables::new(&folder.join("efivars"))),
        ..Effects::of_this_machine(&machine.facts, folder, folder)
    };
    let (progress, _) = watch::channel(Progress::default());
    let job = Job {
        offer: &offer,
        booted: machine.list()?.first().copied(),
        disarmed: Disarmed::disarm(&*machine, booted.target())?,
        // The mirror speaks HTTP: there are no authorities to load.
        client: Arc::new(reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?),
        mirrors: &[url.parse()?],
        progress: &progress,
    };
    let stager = Stager::new(effects, Limits::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let delivery = runtime.block_on(stager.stage(job))?;
    Ok(serde_json::json!({
        "root_way": delivery.root_way,
        "uki_way": delivery.uki_way,
        "bytes_moved": delivery.bytes_moved,
    }))
}

/// What cannot be left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Floor {
    Write,
    ReadBack,
}

fn floor(from: &Path, to: &Path, what: Floor) -> anyhow::Result<serde_json::Value> {
    let mut from = File::open(from)?;
    let to = writable(to, from.metadata()?.len())?;
    let (mut buffer, mut hasher, mut offset) = (vec![0; MIB as usize], Sha256::new(), 0);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        to.write_all_at(&buffer[..count], offset)?;
        offset += count as u64;
    }
    to.sync_data()?;
    let digest = hasher.finalize();
    if what == Floor::ReadBack {
        fadvise(&to, 0, None, Advice::DontNeed)?;
        let mut hasher = Sha256::new();
        for at in (0..offset).step_by(buffer.len()) {
            let piece = &mut buffer[..(offset - at).min(MIB) as usize];
            to.read_exact_at(piece, at)?;
            hasher.update(piece);
        }
        ensure!(hasher.finalize() == digest, "other bytes come back");
    }
    let digest = contract::Digest::from(<[u8; 32]>::from(digest));
    Ok(serde_json::json!({ "bytes": offset, "sha256": digest }))
}

/// The most memory that this process had, in bytes.
fn peak_bytes() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 =
        line.and_then(|line| line.trim().strip_suffix(" kB")).context("VmHWM")?.parse()?;
    Ok(kib << 10)
}

fn writable(path: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() < bytes {
        file.set_len(bytes)?;
    }
    Ok(file)
}

/// A machine of files: the node's own code for slots, on a disk whose partitions are files.
struct Files {
    folder: PathBuf,
    facts: BootFacts,
    slots: Arc<DiskSlots>,
}

impl Files {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        let folder = &folder.canonicalize()?;
        const DISK: &str = "sys/devices/disk";
        let write = |path: String, text: &str| {
            let path = folder.join(path);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, text)
        };
        for slot in Slot::ALL {
            for label in [slot.root_label(), slot.verity_label()] {
                write(format!("{DISK}/{label}/partition"), "")?;
                write(format!("{DISK}/{label}/uevent"), &format!("PARTNAME={label}\n"))?;
                link(
                    &folder.join(DISK).join(&label),
                    &folder.join("sys/class/block").join(&label),
                )?;
            }
        }
        link(&folder.join(DISK), &folder.join("sys/class/block/disk"))?;
        // What a kernel shows that was booted from slot A.
        for label in [Slot::A.root_label(), Slot::A.verity_label()] {
            write(format!("sys/block/dm-0/slaves/{label}"), "")?;
        }
        write("sys/block/dm-0/dm/name".into(), "root\n")?;
        write("sys/block/dm-0/dm/uuid".into(), "CRYPT-VERITY-\n")?;
        let (hash, label) = (RootHash::from([0; 32]), Slot::A.root_label());
        let words = format!("roothash={hash} systemd.verity_root_data=/dev/disk/slipway/{label}\n");
        write("proc/cmdline".into(), &words)?;
        let boot_id = "00000000-0000-0000-0000-000000000000\n";
        write("proc/sys/kernel/random/boot_id".into(), boot_id)?;
        write("usr/lib/os-release".into(), "IMAGE_VERSION=0.0.0\n")?;
        let facts = BootFacts::read(folder)?;
        let (devices, target) = (folder.join("dev"), facts.slot.target().slot());
        fs::create_dir_all(&devices)?;
        writable(&devices.join(target.root_label()), ROOT_BYTES)?;
        writable(&devices.join(target.verity_label()), VERITY_BYTES)?;
        let slots = Arc::new(DiskSlots::new(folder, &facts));
        Ok(Self { folder: folder.to_owned(), facts, slots })
    }

    fn temporary(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.folder.join("temporary.efi"))
    }
}

/// An earlier run may have made it.
fn link(original: &Path, link: &Path) -> io::Result<()> {
    link.parent().map_or(Ok(()), fs::create_dir_all)?;
    match std::os::unix::fs::symlink(original, link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// What was read leaves the cache again, as on a node.
fn read_uncached(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    file.read_exact_at(buffer, offset)?;
    let length = std::num::NonZero::new(buffer.len() as u64);
    Ok(fadvise(file, offset, length, Advice::DontNeed)?)
}

impl Esp for Files {
    fn mount(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<UkiName>> {
        let there = self.folder.join("booted.efi").exists();
        Ok(there.then(UkiName::first).into_iter().collect())
    }

    fn uki_bytes(&self, _: &UkiName) -> io::Result<u64> {
        Ok(fs::metadata(self.folder.join("booted.efi"))?.len())
    }

    fn read(&self, _: &UkiName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        File::open(self.folder.join("booted.efi"))?.read_exact_at(buffer, offset)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(512 * MIB)
    }

    fn create_temporary(&self, bytes: u64) -> io::Result<()> {
        File::create(self.folder.join("temporary.efi"))?.set_len(bytes)
    }

    fn temporary_bytes(&self) -> io::Result<Option<u64>> {
        Ok(self.temporary().ok().map(|file| file.metadata()).transpose()?.map(|data| data.len()))
    }

    fn write_temporary(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.temporary()?.write_all_at(bytes, offset)
    }

    fn read_temporary(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        read_uncached(&self.temporary()?, offset, buffer)
    }

    fn rename_temporary(&self, _: &UkiName) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&self, _: &UkiName, _: &UkiName) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, _: &UkiName) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        match self.temporary() {
            Ok(file) => file.sync_data(),
            Err(_) => Ok(()),
        }
    }
}
