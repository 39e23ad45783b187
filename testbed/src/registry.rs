//! A real registry of container images on loopback, with TLS and a password, and what a scenario
//! pushes there; everything of it is in a folder of the scenario's.
//!
//! **Invariant:** it kills its own process and nothing else, and listens on loopback alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use reqwest::{Certificate, Client, RequestBuilder, Response};
use serde_json::Value;

use crate::addresses::HOST;

/// Port on loopback.
pub const PORT: u16 = 5443;
/// Who may push and pull.
pub const USERNAME: &str = "node";
/// With which password.
pub const PASSWORD: &str = "correct horse";
/// The same for the registry: `htpasswd -nbB node 'correct horse'`.
const HTPASSWD: &str = "node:$2b$05$aRl/KHDvjG6MY4RRfOkD/uuoP9vdwGYnjsW7FP2GfJULdVKfY4Iym\n";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    authority: String,
}

impl Registry {
    /// Starts an empty registry.
    ///
    /// # Errors
    /// When the program is missing or does not start.
    pub fn start(folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder.join("data"))?;
        let folder = folder.canonicalize()?;
        let authority = certificates(&folder)?;
        fs::write(folder.join("htpasswd"), HTPASSWD)?;
        fs::write(folder.join("config.yml"), configuration(&folder))?;
        let log = File::create(folder.join("registry.log"))?;
        // It goes with its test, even when that is killed and cannot clean up.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(folder.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run docker-registry: run setup/install-dependencies")?;
        Ok(Self { child, authority })
    }

    /// The authority of its certificate, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Puts the image of an OCI layout into `repository` as `tag`, and gives the digest of its
    /// manifest.
    ///
    /// # Errors
    /// When the layout is not one, or the registry refuses.
    pub fn push(&mut self, layout: &[u8], repository: &str, tag: &str) -> Result<String> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(layout).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            files.insert(path, bytes);
        }
        let index = files.remove("index.json").context("a layout without index.json")?;
        let index: Value = serde_json::from_slice(&index)?;
        let digest = index["manifests"][0]["digest"].as_str().context("an index without digest")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.push_files(&files, digest, repository, tag))?;
        Ok(digest.to_owned())
    }

    async fn push_files(
        &mut self,
        files: &BTreeMap<String, Vec<u8>>,
        manifest: &str,
        repository: &str,
        tag: &str,
    ) -> Result<()> {
        let authority = Certificate::from_pem(self.authority.as_bytes())?;
        let client = Client::builder().no_proxy().tls_certs_only([authority]).build()?;
        let base = format!("https://127.0.0.1:{PORT}/v2/{repository}");
        self.wait_until_it_answers(&client).await?;
        let blobs = files.iter().filter_map(|(path, bytes)| {
            let hex = path.strip_prefix("blobs/sha256/")?;
            Some((format!("sha256:{hex}"), bytes))
        });
        for (digest, bytes) in blobs.filter(|(digest, _)| digest != manifest) {
            let begun = send(client.post(format!("{base}/blobs/uploads/"))).await?;
            let place = begun.headers().get("location").context("no place for a blob")?;
            let place = format!("{}&digest={digest}", place.to_str()?);
            send(client.put(place).body(bytes.clone())).await?;
        }
        let path = manifest.replace(':', "/");
        let bytes = files.get(&format!("blobs/{path}")).context("a layout without its manifest")?;
        let request =
            client.put(format!("{base}/manifests/{tag}")).header("content-type", MANIFEST);
        send(request.body(bytes.clone())).await.map(drop)
    }

    /// It answers, and not to everybody.
    async fn wait_until_it_answers(&mut self, client: &Client) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match client.get(format!("https://127.0.0.1:{PORT}/v2/")).send().await {
                Ok(answer) => {
                    ensure!(answer.status() == 401, "it asks for no password: {answer:?}");
                    return Ok(());
                }
                Err(error) if Instant::now() > until || self.child.try_wait()?.is_some() => {
                    bail!("the registry does not answer: {error:#}");
                }
                Err(_) => sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Gone already is as good as stopped.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("docker-registry could not be stopped: {error}");
        }
    }
}

async fn send(request: RequestBuilder) -> Result<Response> {
    let answer = request.basic_auth(USERNAME, Some(PASSWORD)).send().await?;
    let status = answer.status();
    ensure!(status.is_success(), "{}: {status}: {}", answer.url().clone(), answer.text().await?);
    Ok(answer)
}

/// An authority, and a certificate for the host's loopback as guest and host see it.
fn certificates(folder: &Path) -> Result<String> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let server = CertificateParams::new([HOST.to_owned(), "127.0.0.1".to_owned()])?;
    fs::write(folder.join("registry.crt"), server.signed_by(&key, &issuer)?.pem())?;
    fs::write(folder.join("registry.key"), key.serialize_pem())?;
    Ok(authority)
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "version: 0.1\n\
         storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n\
         http:\n  addr: 127.0.0.1:{PORT}\n  secret: of-a-test\n  tls:\n    \
         certificate: {folder}/registry.crt\n    key: {folder}/registry.key\n\
         auth: {{htpasswd: {{realm: registry, path: {folder}/htpasswd}}}}\n"
    )
}
