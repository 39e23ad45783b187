//! Names of errors, so that a test's failure can be read.

use std::io;

use rustix::io::Errno;

/// `EROFS` and the like; `errno N` for one that no test expects.
pub fn name(error: &io::Error) -> String {
    let known = [
        (Errno::PERM, "EPERM"),
        (Errno::NOENT, "ENOENT"),
        (Errno::IO, "EIO"),
        (Errno::NOEXEC, "ENOEXEC"),
        (Errno::ACCESS, "EACCES"),
        (Errno::BUSY, "EBUSY"),
        (Errno::EXIST, "EEXIST"),
        (Errno::NOTDIR, "ENOTDIR"),
        (Errno::INVAL, "EINVAL"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::ROFS, "EROFS"),
        (Errno::NOSYS, "ENOSYS"),
        (Errno::BADMSG, "EBADMSG"),
        (Errno::NOKEY, "ENOKEY"),
        (Errno::KEYREJECTED, "EKEYREJECTED"),
    ];
    let number = error.raw_os_error();
    let found = known.iter().find(|(errno, _)| Some(errno.raw_os_error()) == number);
    match (found, number) {
        (Some((_, name)), _) => (*name).to_owned(),
        (None, Some(number)) => format!("errno {number}"),
        (None, None) => error.to_string(),
    }
}
