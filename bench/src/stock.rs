//! The peer of the boot: a stock Debian root, with the node image's own containerd, kubelet,
//! plugins, configuration and units in it.
//!
//! What goes in: mkosi's root of the node image's Debian packages and initramfs-tools, and the
//! node image's `root.erofs`. What comes out: a GPT disk with systemd-boot, Debian's kernel
//! and initrd on the ESP, and an ext4 root. Wants root, for mkosi and chroot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::measure::run;
use crate::mkosi::{Mkosi, Product, Start, requested};

/// Packages that a Debian system boots with besides those of the node image.
const OWN_PACKAGES: [&str; 3] = ["initramfs-tools", "systemd-sysv", "dbus"];

/// The unit that both disks have for the benchmark: it tells the console when containerd and
/// kubelet are well.
pub const HEALTH: &str = "slipway-bench.service";

/// Files of the node image that the peer runs unchanged.
const SAME: [&str; 15] = [
    "usr/bin/bench-healthy",
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/bin/kubelet",
    "usr/bin/slipwayd",
    "opt/cni/bin",
    "etc/cni",
    "etc/containerd",
    "etc/kubernetes",
    "etc/modules-load.d",
    "etc/sysctl.d",
    "etc/systemd/network",
    "usr/lib/tmpfiles.d/slipway.conf",
    "usr/lib/slipway",
    "usr/share/slipway",
];

/// Units of the node image that the peer enables.
const UNITS: [&str; 4] =
    ["containerd.service", "kubelet.service", "slipway-images.service", HEALTH];

/// Units of Debian that the node image enables too.
const NETWORK_UNITS: [&str; 3] =
    ["systemd-networkd.service", "systemd-resolved.service", "systemd-timesyncd.service"];

/// What kubelet's unit asks for on a node, where slipwayd writes what the settings say; here there
/// are none.
const NO_SETTINGS: (&str, &str) = (
    "usr/lib/systemd/system/slipway-kubelet.service",
    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
);

const ESP_MIB: u64 = 256;
const ROOT_MIB: u64 = 3072;
const MIB: u64 = 1 << 20;

/// Makes the disk in `folder`, from the node image in `release`; `options` are appended to
/// the kernel's command line.
///
/// # Errors
/// When it cannot be made here.
pub fn disk(folder: &Path, release: &Path, options: &str) -> Result<PathBuf> {
    let mut packages = requested()?;
    packages.extend(OWN_PACKAGES.map(str::to_owned));
    let mkosi =
        Mkosi::new(&folder.join("mkosi-stock"), &packages, Start::FromPackages, Product::Folder)?;
    run(&mkosi.command(), &folder.join("mkosi-stock.log"))?;
    let root = mkosi.output();
    ensure!(root.join("usr/lib/systemd").is_dir(), "mkosi left no root in {}", root.display());
    add_node_parts(folder, release, &root)?;
    let initrd = make_initrd(folder, &root)?;
    let esp = make_esp(folder, &root, &initrd, options)?;
    assemble(folder, &root, &esp)
}

fn add_node_parts(folder: &Path, release: &Path, root: &Path) -> Result<()> {
    let node = folder.join("node-root");
    if node.exists() {
        fs::remove_dir_all(&node)?;
    }
    let extract = format!("--extract={}", node.display());
    call(folder, "fsck.erofs", &[&extract, &text(&release.join("root.erofs"))])?;
    let units = UNITS.map(|unit| format!("usr/lib/systemd/system/{unit}"));
    for path in SAME.iter().copied().chain(units.iter().map(String::as_str)) {
        let (from, to) = (node.join(path), root.join(path));
        fs::create_dir_all(to.parent().context("no folder")?)?;
        let target = if from.is_dir() { to.parent().context("no folder")? } else { &to };
        call(folder, "cp", &["-a", "--no-preserve=ownership", &text(&from), &text(target)])?;
    }
    fs::write(root.join(NO_SETTINGS.0), NO_SETTINGS.1)?;
    let systemctl = format!("--root={}", root.display());
    let enabled = UNITS.into_iter().chain(NETWORK_UNITS);
    for unit in enabled {
        call(folder, "systemctl", &[&systemctl, "enable", unit])?;
    }
    let link = root.join("etc/resolv.conf");
    if link.symlink_metadata().is_ok() {
        fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink("../run/systemd/resolve/stub-resolv.conf", &link)?;
    fs::write(root.join("etc/machine-id"), "")?;
    fs::write(root.join("etc/fstab"), "PARTLABEL=root / ext4 defaults 0 1\n")?;
    Ok(())
}

/// Debian's own initrd, made by Debian's own tool in the root.
fn make_initrd(folder: &Path, root: &Path) -> Result<PathBuf> {
    let modules = root.join("usr/lib/modules");
    let kernel = fs::read_dir(&modules)?.next().context("the root has no kernel modules")??;
    let kernel = kernel.file_name().to_string_lossy().into_owned();
    let made = format!("/boot/initrd.img-{kernel}");
    let script = "mount -t proc proc \"$1/proc\" && mount -t devtmpfs dev \"$1/dev\" && \
                  chroot \"$1\" /usr/sbin/mkinitramfs -o \"$3\" \"$2\"";
    // The mounts go with the namespace.
    let arguments = ["--mount", "--", "sh", "-c", script, "sh", &text(root), &kernel, &made];
    call(folder, "unshare", &arguments)?;
    let initrd = folder.join("stock-initrd");
    fs::rename(root.join(made.trim_start_matches('/')), &initrd)
        .context("Debian's mkinitramfs left no initrd")?;
    Ok(initrd)
}

fn make_esp(folder: &Path, root: &Path, initrd: &Path, options: &str) -> Result<PathBuf> {
    let esp = folder.join("stock-esp");
    fs::File::create(&esp)?.set_len(ESP_MIB * MIB)?;
    call(folder, "mkfs.vfat", &["-F", "32", &text(&esp)])?;
    let entry = format!(
        "title Debian\nlinux /vmlinuz\ninitrd /initrd\noptions root=PARTLABEL=root rootfstype=ext4 ro {options}\n"
    );
    fs::write(folder.join("stock.conf"), entry)?;
    fs::write(folder.join("loader.conf"), "timeout 0\n")?;
    let image = text(&esp);
    call(
        folder,
        "mmd",
        &["-i", &image, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries"],
    )?;
    let loader = root.join("usr/lib/systemd/boot/efi/systemd-bootx64.efi");
    let files = [
        (loader, "::/EFI/BOOT/BOOTX64.EFI"),
        (kernel_image(root)?, "::/vmlinuz"),
        (initrd.to_owned(), "::/initrd"),
        (folder.join("stock.conf"), "::/loader/entries/debian.conf"),
        (folder.join("loader.conf"), "::/loader/loader.conf"),
    ];
    for (from, to) in files {
        call(folder, "mcopy", &["-i", &image, &text(&from), to])?;
    }
    Ok(esp)
}

fn kernel_image(root: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(root.join("boot"))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")) {
            return Ok(path);
        }
    }
    bail!("{}/boot has no kernel", root.display())
}

/// One disk of ESP and root.
fn assemble(folder: &Path, root: &Path, esp: &Path) -> Result<PathBuf> {
    let system = folder.join("stock-root");
    fs::File::create(&system)?.set_len(ROOT_MIB * MIB)?;
    call(folder, "mke2fs", &["-q", "-F", "-t", "ext4", "-d", &text(root), &text(&system)])?;
    let disk = folder.join("stock.raw");
    fs::File::create(&disk)?.set_len((ESP_MIB + ROOT_MIB + 2) * MIB)?;
    let esp_range = format!("1:1M:+{ESP_MIB}M");
    let root_range = format!("2:{}M:+{ROOT_MIB}M", ESP_MIB + 1);
    call(
        folder,
        "sgdisk",
        &[
            "-n",
            &esp_range,
            "-t",
            "1:ef00",
            "-n",
            &root_range,
            "-t",
            "2:8304",
            "-c",
            "2:root",
            &text(&disk),
        ],
    )?;
    for (from, at) in [(esp, 1), (&system, ESP_MIB + 1)] {
        let arguments = [
            format!("if={}", from.display()),
            format!("of={}", disk.display()),
            format!("seek={at}"),
            "bs=1M".to_owned(),
            "conv=notrunc,sparse".to_owned(),
        ];
        call(folder, "dd", &arguments.each_ref().map(String::as_str))?;
    }
    Ok(disk)
}

/// Runs a tool to its end.
fn call(folder: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments);
    run(&command, &folder.join("stock.log")).map(|_| ())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
