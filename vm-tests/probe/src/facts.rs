//! What the kernel, the firmware and systemd say of the running node.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const STATE_FOLDER: &str = "/var/lib/slipway-probe";

/// Everything that scenarios ask for; what cannot be read is `null`.
pub fn facts() -> Value {
    json!({
        "boot_id": text("/proc/sys/kernel/random/boot_id"),
        "machine_id": text("/etc/machine-id"),
        "cmdline": text("/proc/cmdline"),
        "lockdown": text("/sys/kernel/security/lockdown"),
        "secure_boot": secure_boot(),
        "os_release": text("/etc/os-release"),
        "mounts": text("/proc/self/mounts"),
        "uptime_seconds": uptime(),
        "clock_seconds": seconds(SystemTime::now()),
        "image_seconds": fs::metadata("/usr/lib/os-release").and_then(|found| found.modified())
            .ok().and_then(seconds),
        "partitions": partitions(),
        "routes": text("/proc/net/route"),
    })
}

fn text(path: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).trim().to_owned())
}

/// The variable's value follows four bytes of attributes.
fn secure_boot() -> Option<bool> {
    Some(fs::read(SECURE_BOOT).ok()?.get(4)? == &1)
}

fn uptime() -> Option<f64> {
    text("/proc/uptime")?.split(' ').next()?.parse().ok()
}

/// Since 1970.
fn seconds(time: SystemTime) -> Option<u64> {
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Size in bytes of each partition of the node's disk by its label.
fn partitions() -> Value {
    let mut found = serde_json::Map::new();
    for entry in fs::read_dir("/dev/disk/slipway").into_iter().flatten().flatten() {
        if entry.file_name() == "disk" {
            continue;
        }
        let device = fs::canonicalize(entry.path()).unwrap_or_default();
        let device = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sectors = text(&format!("/sys/class/block/{device}/size"));
        let bytes = sectors.and_then(|sectors| sectors.parse::<u64>().ok()).map(|n| n * 512);
        found.insert(entry.file_name().to_string_lossy().into_owned(), json!(bytes));
    }
    Value::Object(found)
}

/// Reads a marker on the state partition, after writing it if `write` is given.
pub fn state(key: &str, write: Option<&str>) -> Result<Vec<u8>, String> {
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric());
    if !plain {
        return Err("a key has only letters and digits".into());
    }
    let path = Path::new(STATE_FOLDER).join(key);
    let failed = |error: std::io::Error| format!("cannot use {}: {error}", path.display());
    if let Some(value) = write {
        fs::create_dir_all(STATE_FOLDER).map_err(failed)?;
        let mut file = fs::File::create(&path).map_err(failed)?;
        std::io::Write::write_all(&mut file, value.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
    }
    fs::read(&path).map_err(failed)
}
