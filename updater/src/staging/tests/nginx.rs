//! The same against a real nginx, which a channel is usually served by.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::machine::Machine;
use super::release::{Blobs, Published, noise, publish};
use super::{assert_installed, new_release, old_release, stage};

/// A running nginx; it ends with this value.
struct Nginx {
    url: Url,
    _child: Child,
    _folder: TempDir,
}

impl Nginx {
    /// Serves blobs; `rules` are further lines of its `server` block.
    async fn start(blobs: &Blobs, rules: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("blobs")).unwrap();
        for (digest, content) in blobs {
            fs::write(folder.path().join(format!("blobs/{digest}")), content).unwrap();
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let text = configuration(folder.path(), port, rules);
        fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let child = Command::new("nginx")
            .args(["-e", "stderr", "-c"])
            .arg(folder.path().join("nginx.conf"))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .kill_on_drop(true)
            .spawn()
            .expect("this test needs nginx: run setup/install-dependencies");
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                let url = Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
                return Self { url, _child: child, _folder: folder };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nginx does not listen");
    }
}

fn configuration(folder: &Path, port: u16, rules: &str) -> String {
    let folder = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr;\n\
         events {{}}\n\
         http {{ access_log off; {temporary}\n\
         server {{ listen 127.0.0.1:{port}; root {folder}; {rules} }} }}\n"
    )
}

/// Nothing of it is in the old release.
fn different() -> Published {
    publish(noise(2, 2 << 20), 2, b"salt")
}

#[tokio::test]
async fn nginx_serves_every_way() {
    for new in [new_release(), different(), different().keep_ways(|way| way.blob().is_none())] {
        let machine = Machine::running(&old_release());
        let nginx = Nginx::start(&new.blobs, "").await;
        let _delivery = stage(&machine, &new, std::slice::from_ref(&nginx.url)).await.unwrap();
        assert_installed(&machine, &new);
    }
}

#[tokio::test]
async fn nginx_without_ranges_serves_as_well() {
    let new = different();
    let machine = Machine::running(&old_release());
    let nginx = Nginx::start(&new.blobs, "max_ranges 0;").await;
    let delivery = stage(&machine, &new, std::slice::from_ref(&nginx.url)).await.unwrap();
    assert_installed(&machine, &new);
    assert!(delivery.bytes_moved >= new.full_bytes());
}
