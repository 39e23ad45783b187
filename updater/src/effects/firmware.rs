//! The firmware's variables, as the kernel shows them in efivarfs.
//!
//! In: the folder that efivarfs is mounted at. Out: what a variable holds. **Invariant:** files
//! are opened to be read: no variable is ever written.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Firmware, Variable};

/// Largest variable that is read, in bytes: several times what firmware has room for.
const MAX_BYTES: u64 = 1 << 20;
/// What efivarfs puts before the value: the variable's attributes.
const ATTRIBUTES: usize = 4;

/// The machine's firmware.
pub struct EfiVariables {
    folder: PathBuf,
}

impl EfiVariables {
    /// Those below `folder`, such as `/sys/firmware/efi/efivars`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }
}

/// Name and vendor (UEFI 2.10, sections 3.3 and 32.6.1).
fn file(variable: Variable) -> &'static str {
    match variable {
        Variable::SecureBoot => "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
        Variable::Db => "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f",
        Variable::Dbx => "dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f",
    }
}

impl Firmware for EfiVariables {
    fn variable(&self, variable: Variable) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.folder.join(file(variable))) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
        }
        // The kernel shows a variable that was deleted since as an empty file.
        if bytes.is_empty() {
            return Ok(None);
        }
        match bytes.get(ATTRIBUTES..) {
            Some(value) => Ok(Some(value.to_vec())),
            None => Err(io::Error::other("it is cut short")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_variable_is_what_follows_its_attributes() {
        let folder = tempfile::tempdir().unwrap();
        let firmware = EfiVariables::new(folder.path());
        let write = |bytes: &[u8]| {
            let name = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
            fs::write(folder.path().join(name), bytes).unwrap();
            firmware.variable(Variable::SecureBoot)
        };
        assert_eq!(write(&[6, 0, 0, 0, 1]).unwrap(), Some(vec![1]));
        assert_eq!(write(&[6, 0, 0, 0]).unwrap(), Some(vec![]));
        assert_eq!(write(&[]).unwrap(), None);
        assert!(write(&[6, 0, 0]).is_err());
        assert!(write(&vec![0; (MAX_BYTES + 1) as usize]).is_err());
    }

    #[test]
    fn a_machine_without_the_variable_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let firmware = EfiVariables::new(&folder.path().join("efivars"));
        assert_eq!(firmware.variable(Variable::Db).unwrap(), None);
        // What cannot be read is not absent.
        let name = "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f";
        fs::create_dir_all(folder.path().join("efivars").join(name)).unwrap();
        assert!(firmware.variable(Variable::Db).is_err());
    }
}
