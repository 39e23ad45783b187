//! The kernel's host name.
//!
//! In: a name. Out: nothing; it holds until the next restart. **Invariant:** no file is written.

use std::io;

use super::HostName;

/// The kernel of this machine.
pub struct Kernel;

impl HostName for Kernel {
    fn name(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    fn rename(&self, name: &str) -> io::Result<()> {
        Ok(rustix::system::sethostname(name.as_bytes())?)
    }
}
