//! A real nginx that serves a folder on loopback, with its configuration and logs in a folder
//! of the scenario's.
//!
//! **Invariant:** it kills its own process and nothing else, and listens on loopback alone.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Port on loopback that scenarios serve a channel on.
pub const PORT: u16 = 8000;

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    folder: PathBuf,
}

/// One line of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// HTTP status.
    pub status: u16,
    /// Bytes of the body that were sent.
    pub bytes: u64,
    /// The path that was asked for.
    pub path: String,
}

impl Nginx {
    /// Serves `root` on `127.0.0.1:port`; configuration and logs go to `folder`.
    ///
    /// # Errors
    /// When nginx is missing, or does not listen in time.
    pub fn serve(folder: &Path, root: &Path, port: u16) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = fs::canonicalize(folder)?;
        let root = fs::canonicalize(root).with_context(|| format!("{}", root.display()))?;
        fs::write(folder.join("nginx.conf"), configuration(&folder, &root, port))?;
        // It goes with its test, even when that is killed and cannot clean up.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "nginx", "-e", "stderr", "-p"])
            .arg(&folder)
            .args(["-c", "nginx.conf"])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("nginx.err"))?)
            .spawn()
            .context("cannot run nginx: run setup/install-dependencies")?;
        let mut nginx = Self { child, folder };
        nginx.wait_until_it_listens(port)?;
        Ok(nginx)
    }

    fn wait_until_it_listens(&mut self, port: u16) -> Result<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if self.child.try_wait()?.is_some() || Instant::now() > until {
                let said = fs::read_to_string(self.folder.join("nginx.err")).unwrap_or_default();
                bail!("nginx does not listen on {address}: {said}");
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Everything that was asked for so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn requests(&self) -> Result<Vec<Request>> {
        let text = fs::read_to_string(self.folder.join("access.log"))?;
        text.lines().map(|line| parse(line).with_context(|| line.to_owned())).collect()
    }

    /// Bytes of bodies sent so far for paths that hold `part`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn bytes_sent(&self, part: &str) -> Result<u64> {
        let requests = self.requests()?;
        Ok(requests.iter().filter(|found| found.path.contains(part)).map(|found| found.bytes).sum())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Gone already is as good as stopped.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("nginx could not be stopped: {error}");
        }
    }
}

fn configuration(folder: &Path, root: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nmaster_process off;\nuser root;\npid {folder}/nginx.pid;\n\
         events {{}}\n\
         http {{\n\
           log_format short '$status $body_bytes_sent $request_uri';\n\
           access_log {folder}/access.log short;\n\
           default_type application/octet-stream;\n\
           client_body_temp_path {folder}/tmp;\n proxy_temp_path {folder}/tmp;\n\
           fastcgi_temp_path {folder}/tmp;\n uwsgi_temp_path {folder}/tmp;\n\
           scgi_temp_path {folder}/tmp;\n\
           server {{ listen 127.0.0.1:{port}; root \"{}\"; }}\n\
         }}\n",
        root.display()
    )
}

fn parse(line: &str) -> Option<Request> {
    let mut words = line.splitn(3, ' ');
    Some(Request {
        status: words.next()?.parse().ok()?,
        bytes: words.next()?.parse().ok()?,
        path: words.next()?.to_owned(),
    })
}
