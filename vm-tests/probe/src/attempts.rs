//! What an intruder with root would try. Each attempt answers with the error's name, or
//! says that it went through; what went through is taken back as far as it can be.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount_remount};
use serde_json::{Value, json};

use crate::errno;
use crate::http::Answer;

/// What an attempt that should have failed answers.
const WENT_THROUGH: &str = "done";

/// Tries to write to the root in every way there is.
pub fn writes() -> Value {
    json!({
        "create in /usr": create(Path::new("/usr/slipway-probe")),
        "create in /etc": create(Path::new("/etc/slipway-probe")),
        "mkdir in /": attempt(make_folder(Path::new("/slipway-probe"))),
        "remount / rw": attempt(remount()),
    })
}

fn attempt(result: io::Result<()>) -> String {
    match result {
        Ok(()) => WENT_THROUGH.to_owned(),
        Err(error) => errno::name(&error),
    }
}

fn create(path: &Path) -> String {
    attempt(File::create(path).and_then(|_| fs::remove_file(path)))
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::remove_dir(path)
}

/// Asks for a writable root; a kernel that grants it still has a read-only device below.
fn remount() -> io::Result<()> {
    mount_remount("/", MountFlags::empty(), c"")?;
    let created = make_folder(Path::new("/slipway-probe-remount"));
    mount_remount("/", MountFlags::RDONLY, c"")?;
    created
}

/// Tries to load a kernel module from a file.
pub fn load_module(path: Option<&str>) -> Answer {
    let Some(path) = path else { return Answer::error(400, "path is missing") };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return Answer::error(404, &errno::name(&error)),
    };
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) => Answer::text("loaded\n"),
        Err(error) => Answer::text(&format!("{}\n", errno::name(&error.into()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_tells_its_error_or_that_it_went_through() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(create(&folder.path().join("file")), WENT_THROUGH);
        assert_eq!(create(&folder.path().join("missing/file")), "ENOENT");
        assert_eq!(attempt(make_folder(folder.path())), "EEXIST");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
