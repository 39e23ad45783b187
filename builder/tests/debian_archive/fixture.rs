//! An archive made here: packages, indexes, a signed Release file, keys, and a loopback web
//! server that notes what it is asked and can cut a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use builder::inputs::cache::Cache;
use builder::inputs::debian::ExpirationEnforcement;
use builder::inputs::fetch::Mirrors;
use builder::lock::LockRequest;
use contract::{Architecture, Digest};
use openpgp::Cert;
use openpgp::cert::CertBuilder;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::SerializeInto;
use openpgp::serialize::stream::{Message, Signer};
use sequoia_openpgp as openpgp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The fixture's time: Tue, 24 Nov 2026 12:00:00 UTC.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_521_600)
}

pub const DAY: Duration = Duration::from_secs(86_400);

/// A signing key, made 100 days ago and valid for `days`.
pub fn signing_key(days: u32) -> Cert {
    CertBuilder::new()
        .add_userid("Fixture archive")
        .set_creation_time(now() - DAY * 100)
        .set_validity_period(DAY * days)
        .add_signing_subkey()
        .generate()
        .unwrap()
        .0
}

pub fn keyring(key: &Cert) -> Vec<u8> {
    key.to_vec().unwrap()
}

/// Signs a text in the clear, a day before [`now`]; with an expired key, while it was valid.
pub fn sign(key: &Cert, text: &str, age: Duration) -> Vec<u8> {
    let time = now() - age;
    let policy = StandardPolicy::at(time);
    let pair = key
        .keys()
        .secret()
        .with_policy(&policy, time)
        .for_signing()
        .next()
        .unwrap()
        .key()
        .clone()
        .into_keypair()
        .unwrap();
    let mut signed = Vec::new();
    let message = Message::new(&mut signed);
    let mut signer =
        Signer::new(message, pair).unwrap().cleartext().creation_time(time).build().unwrap();
    signer.write_all(text.as_bytes()).unwrap();
    signer.finalize().unwrap();
    signed
}

/// A small package with one file.
pub fn deb(name: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(liblzma::write::XzEncoder::new(Vec::new(), 1));
    let content: Vec<u8> =
        (0..60_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, format!("./usr/bin/{name}"), &content[..]).unwrap();
    let data = tar.into_inner().unwrap().finish().unwrap();
    let mut deb = b"!<arch>\n".to_vec();
    for (member, bytes) in
        [("debian-binary", &b"2.0\n"[..]), ("control.tar", b""), ("data.tar.xz", &data)]
    {
        writeln!(deb, "{member:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100644, bytes.len())
            .unwrap();
        deb.extend(bytes);
        deb.resize(deb.len().next_multiple_of(2), b'\n');
    }
    deb
}

/// The archive's files by path, and what signs them.
pub struct Archive {
    pub files: BTreeMap<String, Vec<u8>>,
    pub key: Cert,
    pub release: String,
}

pub const INRELEASE: &str = "debian/dists/trixie/InRelease";

impl Archive {
    /// `kmod`, which needs `libkmod2 | other`, and `broken`, which needs what nobody has.
    pub fn new() -> Self {
        let mut files = BTreeMap::new();
        let mut index = String::new();
        for (name, relations) in [
            ("kmod", "Depends: libkmod2 (>= 2) | other\n"),
            ("libkmod2", "Provides: libkmod\n"),
            ("broken", "Depends: missing-library (>= 3)\n"),
            ("rival", "Conflicts: libkmod\n"),
        ] {
            let bytes = deb(name);
            let path = format!("pool/main/k/kmod/{name}_34.2-2_amd64.deb");
            index += &format!(
                "Package: {name}\nVersion: 34.2-2\nArchitecture: amd64\n{relations}Filename: \
                 {path}\nSize: {}\nSHA256: {}\n\n",
                bytes.len(),
                Digest::of(&bytes)
            );
            files.insert(format!("debian/{path}"), bytes);
        }
        let mut packages = liblzma::write::XzEncoder::new(Vec::new(), 1);
        packages.write_all(index.as_bytes()).unwrap();
        let packages = packages.finish().unwrap();
        let release = format!(
            "Origin: Fixture\nSuite: stable\nCodename: trixie\nDate: Sat, 21 Nov 2026 09:15:44 \
             UTC\nValid-Until: Sat, 28 Nov 2026 09:15:44 UTC\nSHA256:\n {} {} \
             main/binary-amd64/Packages.xz\n",
            Digest::of(&packages),
            packages.len()
        );
        files.insert("debian/dists/trixie/main/binary-amd64/Packages.xz".into(), packages);
        let key = signing_key(1000);
        let mut archive = Self { files, key, release };
        archive.publish(archive.release.clone());
        archive
    }

    /// Signs and puts up another Release text.
    pub fn publish(&mut self, release: String) {
        self.files.insert(INRELEASE.into(), sign(&self.key, &release, DAY));
    }

    pub fn request(&self, folder: &Path, packages: &[&str]) -> LockRequest {
        let path = folder.join("keyring.gpg");
        std::fs::write(&path, keyring(&self.key)).unwrap();
        LockRequest {
            suites: vec!["trixie".into()],
            components: vec!["main".into()],
            packages: packages.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
            architecture: Architecture::X86_64,
            keyring: path,
            now: now(),
            expiration: ExpirationEnforcement::Enforce,
        }
    }
}

pub fn cache(folder: &Path) -> Cache {
    Cache::open(&folder.join("cache")).unwrap()
}

/// How the server misbehaves, and what it was asked.
#[derive(Default)]
pub struct Behaviour {
    /// Body bytes after which the next response to a matching path is cut.
    pub cut: Option<(String, usize)>,
    /// Sent as ETag.
    pub etag: String,
    /// `path range if-range` of each request.
    pub requests: Vec<String>,
}

pub struct Server {
    pub base: String,
    pub behaviour: Arc<Mutex<Behaviour>>,
}

impl Server {
    pub async fn start(archive: &Archive) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let behaviour =
            Arc::new(Mutex::new(Behaviour { etag: "\"one\"".into(), ..Behaviour::default() }));
        let (files, shared) = (archive.files.clone(), Arc::clone(&behaviour));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                answer(stream, &files, &shared).await;
            }
        });
        Self { base, behaviour }
    }

    pub fn mirrors(&self) -> Mirrors {
        Mirrors::parse(&self.base).unwrap()
    }

    pub fn requests(&self) -> Vec<String> {
        self.behaviour.lock().unwrap().requests.clone()
    }

    pub fn cut(&self, path: &str, after: usize) {
        self.behaviour.lock().unwrap().cut = Some((path.to_owned(), after));
    }
}

/// One request, one response, then the connection is closed.
async fn answer(
    mut stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    behaviour: &Mutex<Behaviour>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
    let field = |name: &str| {
        let found = head.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_default().trim().to_owned()
    };
    let (range, if_range) = (field("range:"), field("if-range:"));
    let (etag, cut) = {
        let mut behaviour = behaviour.lock().unwrap();
        behaviour.requests.push(format!("{path} {range} {if_range}").trim().to_owned());
        let cut = behaviour.cut.take_if(|(wanted, _)| path.ends_with(wanted.as_str()));
        (behaviour.etag.clone(), cut)
    };
    let start = range.strip_prefix("bytes=").and_then(|text| text.strip_suffix('-'));
    let start = start.filter(|_| if_range == etag).map_or(0, |start| start.parse().unwrap());
    let response = match files.get(&path) {
        None => {
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec()
        }
        Some(bytes) => respond(bytes, start, &etag, cut.map(|(_, after)| after)),
    };
    if stream.write_all(&response).await.is_ok() {
        // The client may be gone already, which is its right.
        drop(stream.shutdown().await);
    }
}

/// The whole file, or what lies behind `start`; only `cut` bytes of it where that is given.
fn respond(bytes: &[u8], start: usize, etag: &str, cut: Option<usize>) -> Vec<u8> {
    let (last, total) = (bytes.len() - 1, bytes.len());
    let status = match start {
        0 => "200 OK".to_owned(),
        start => format!("206 Partial Content\r\ncontent-range: bytes {start}-{last}/{total}"),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\netag: {etag}\r\nconnection: close\r\n\r\n",
        total - start
    );
    let rest = &bytes[start..];
    [head.as_bytes(), &rest[..cut.unwrap_or(rest.len())]].concat()
}
