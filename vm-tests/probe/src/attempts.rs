//! Things that a node must not allow, tried as root; the answer is the kernel's.

use std::fs::{self, File};
use std::io;

use rustix::mount::{MountFlags, mount_remount};
use rustix::system::finit_module;
use serde_json::{Value, json};

/// Tries to write to the root and to make it writable.
pub fn writes() -> Value {
    json!({
        "create /usr/probe": outcome(File::create("/usr/probe").map(drop)),
        "create /etc/probe": outcome(File::create("/etc/probe").map(drop)),
        "overwrite /usr/bin/kubelet":
            outcome(File::options().write(true).open("/usr/bin/kubelet").map(drop)),
        "create folder /probe": outcome(fs::create_dir("/probe")),
        "remount / writable": outcome(remount()),
        "create /usr/probe after that": outcome(File::create("/usr/probe").map(drop)),
        "write /etc/cni/net.d": outcome(fs::write("/etc/cni/net.d/probe", b"x")),
        "write /opt/cni/bin": outcome(fs::write("/opt/cni/bin/probe", b"x")),
        "open /dev/mem": outcome(File::options().write(true).open("/dev/mem").map(drop)),
    })
}

fn remount() -> io::Result<()> {
    Ok(mount_remount("/", MountFlags::empty(), "")?)
}

/// Copies a kernel module to memory, removes its signature, and tries to load it; then
/// the module as it is.
pub fn load_module(path: &str) -> Value {
    let unsigned = || -> io::Result<()> {
        const MARK: &[u8] = b"~Module signature appended~\n";
        let bytes = fs::read(path)?;
        let end = bytes.windows(MARK.len()).rposition(|window| window == MARK);
        let end = end.ok_or_else(|| io::Error::other("the module is not signed"))?;
        fs::write("/run/probe-unsigned.ko", &bytes[..end])?;
        load("/run/probe-unsigned.ko")
    };
    json!({ "unsigned": outcome(unsigned()), "signed": outcome(load(path)) })
}

fn load(path: &str) -> io::Result<()> {
    Ok(finit_module(File::open(path)?, c"", 0)?)
}

/// `done`, or the error's name as the system words it.
fn outcome(result: io::Result<()>) -> String {
    match result {
        Ok(()) => "done".into(),
        Err(error) => error.to_string(),
    }
}
