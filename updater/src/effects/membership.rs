//! This machine as its cluster knows it: its name, its boot, and kubelet's certificate.
//!
//! In: what kernel and kubelet keep. Out: names and bytes. **Invariant:** nothing is written, and
//! the key that is read beside the certificate goes into no message.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Membership;

/// Client certificate and key, as kubelet keeps them.
const CERTIFICATE: &str = "var/lib/kubelet/pki/kubelet-client-current.pem";
/// What kubelet writes for itself at each start; it names the certificate that it uses.
const KUBECONFIG: &str = "run/kubelet/kubeconfig";
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";

/// Kernel and kubelet of this machine.
pub struct Kubelet {
    certificate: PathBuf,
    kubeconfig: PathBuf,
    boot_id: PathBuf,
}

impl Kubelet {
    /// `system` is `/`, or a folder like it in tests.
    pub fn new(system: &Path) -> Self {
        Self {
            certificate: system.join(CERTIFICATE),
            kubeconfig: system.join(KUBECONFIG),
            boot_id: system.join(BOOT_ID),
        }
    }
}

fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Membership for Kubelet {
    fn host_name(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    fn boot_id(&self) -> io::Result<String> {
        let text = fs::read_to_string(&self.boot_id).map_err(named(&self.boot_id))?;
        Ok(text.trim().to_owned())
    }

    fn has_joined(&self) -> io::Result<bool> {
        self.certificate.try_exists().map_err(named(&self.certificate))
    }

    fn certificate(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.certificate) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(named(&self.certificate)(error)),
        }
    }

    fn has_credentials(&self) -> io::Result<bool> {
        let text = match fs::read_to_string(&self.kubeconfig) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(named(&self.kubeconfig)(error)),
        };
        let mut lines = text.lines().map(str::trim);
        match lines.find_map(|line| line.strip_prefix("client-certificate: ")).map(Path::new) {
            Some(path) => path.try_exists().map_err(named(path)),
            None => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelet_has_credentials_once_the_certificate_that_it_names_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let kubelet = Kubelet::new(folder.path());
        assert!(!kubelet.has_credentials().unwrap());
        let own = folder.path().join("own.pem");
        fs::create_dir_all(folder.path().join("run/kubelet")).unwrap();
        let text = format!("users:\n- user:\n    client-certificate: {}\n", own.display());
        fs::write(folder.path().join(KUBECONFIG), text).unwrap();
        assert!(!kubelet.has_credentials().unwrap());
        fs::write(&own, "").unwrap();
        assert!(kubelet.has_credentials().unwrap());
        // What cannot be read is not absent.
        fs::remove_file(folder.path().join(KUBECONFIG)).unwrap();
        fs::create_dir(folder.path().join(KUBECONFIG)).unwrap();
        let error = kubelet.has_credentials().unwrap_err().to_string();
        assert!(error.contains("kubeconfig"), "{error}");
    }

    #[test]
    fn a_node_has_joined_once_kubelet_has_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let kubelet = Kubelet::new(folder.path());
        assert!(!kubelet.has_joined().unwrap());
        assert_eq!(kubelet.certificate().unwrap(), None);
        let path = folder.path().join(CERTIFICATE);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "PEM").unwrap();
        assert!(kubelet.has_joined().unwrap());
        assert_eq!(kubelet.certificate().unwrap().as_deref(), Some(&b"PEM"[..]));
        assert!(kubelet.boot_id().unwrap_err().to_string().contains("boot_id"));
    }
}
