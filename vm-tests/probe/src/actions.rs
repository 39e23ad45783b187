//! What a scenario does to a node from the inside, as root: power, a changed block, a full
//! partition, a request to the outside.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// Where the filler of a partition lies, below the folder that is filled.
const FILLER: &str = "probe-filler";
const MAX_ANSWER: u64 = 1 << 20;

/// Starts `poweroff`, `reboot`, or a job of a unit (`stop`, `restart`), and does not wait.
pub fn systemctl(verb: &str, unit: Option<&str>) -> Result<Vec<u8>, String> {
    if !["poweroff", "reboot", "stop", "start", "restart"].contains(&verb) {
        return Err(format!("`{verb}` is not for tests"));
    }
    run(Command::new(SYSTEMCTL).arg("--no-block").arg(verb).args(unit))
}

/// Every property of a unit, as `systemctl show` words them.
pub fn unit(name: &str) -> Result<Vec<u8>, String> {
    run(Command::new(SYSTEMCTL).args(["show", "--", name]))
}

fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Flips one bit of a file or partition, on the device.
pub fn flip(path: &str, offset: u64) -> Result<Vec<u8>, String> {
    let flip = || -> std::io::Result<()> {
        let mut file = File::options().read(true).write(true).open(path)?;
        let mut byte = [0];
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut byte)?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(&[byte[0] ^ 1])?;
        file.sync_all()
    };
    flip().map_err(|error| format!("cannot flip a bit of {path}: {error}"))?;
    Ok(b"flipped".to_vec())
}

/// Fills the file system of `folder` until at most `leave` bytes are free, 1 MiB exact; to the
/// last block when that is 0.
pub fn fill(folder: &str, leave: u64) -> Result<Vec<u8>, String> {
    let filler = Path::new(folder).join(FILLER);
    let fill = || -> std::io::Result<u64> {
        let mut file = File::create(&filler)?;
        let mut written = 0;
        for block in [vec![0x5a; 1 << 20], vec![0x5a; 512]] {
            while leave == 0 || free(folder)? > leave.max(1 << 20) {
                match file.write(&block) {
                    Ok(count) => written += count as u64,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        file.sync_all()?;
        Ok(written)
    };
    let written = fill().map_err(|error| format!("cannot fill {folder}: {error}"))?;
    Ok(written.to_string().into_bytes())
}

/// Removes what [`fill`] wrote, for good.
pub fn unfill(folder: &str) -> Result<Vec<u8>, String> {
    let filler = Path::new(folder).join(FILLER);
    fs::remove_file(&filler)
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|error| format!("cannot remove {filler:?}: {error}"))?;
    Ok(b"removed".to_vec())
}

fn free(folder: &str) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail * found.f_frsize)
}

/// GETs `path` from `address` (`10.0.2.2:8000`): the whole answer, head and body.
pub fn fetch(address: &str, path: &str) -> Result<Vec<u8>, String> {
    let fetch = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        Ok(answer)
    };
    fetch().map_err(|error| format!("cannot fetch {path} from {address}: {error}"))
}

/// Each watchdog by name, with what the kernel says of it.
pub fn watchdogs() -> Value {
    let mut found = serde_json::Map::new();
    for entry in fs::read_dir("/sys/class/watchdog").into_iter().flatten().flatten() {
        let value = |name: &str| {
            fs::read_to_string(entry.path().join(name)).map(|text| text.trim().to_owned()).ok()
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        let facts = ["identity", "state", "timeout", "timeleft"].map(|key| (key, value(key)));
        found.insert(name, json!(std::collections::BTreeMap::from(facts)));
    }
    Value::Object(found)
}

/// Names of a folder, sorted.
pub fn list(folder: &str) -> Result<Vec<u8>, String> {
    let failed = |error| format!("cannot list {folder}: {error}");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(json!(names).to_string().into_bytes())
}
