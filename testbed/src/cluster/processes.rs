//! The processes of a control plane, each with its log in one folder.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::credentials::Credentials;
use super::programs::{API_SERVER, CONTROLLER_MANAGER, Generation, SCHEDULER};
use super::{API_SERVER_PORT, POD_ADDRESSES, programs};
use crate::addresses::HOST;

const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEERS: &str = "http://127.0.0.1:2380";
/// Lines of a log that a failure shows.
const SHOWN_LINES: usize = 20;

/// Running programs.
#[derive(Debug)]
pub struct Processes {
    folder: PathBuf,
    /// Of what is started from now on.
    pub generation: Generation,
    running: Vec<(&'static str, Child)>,
}

impl Processes {
    /// None yet; logs go to `folder`.
    ///
    /// # Errors
    /// When the programs were not built.
    pub fn new(folder: &Path, generation: Generation) -> Result<Self> {
        programs::check(generation)?;
        Ok(Self { folder: folder.to_owned(), generation, running: Vec::new() })
    }

    /// Starts etcd and kube-apiserver, with the authorisation of a production cluster.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start_api_server(&mut self, credentials: &Credentials) -> Result<()> {
        if !self.running.iter().any(|(name, _)| *name == "etcd") {
            let data = format!("--data-dir={}", self.folder.join("etcd").display());
            self.start(
                "etcd",
                &programs::folder().join("etcd"),
                &[
                    data,
                    format!("--listen-client-urls={ETCD}"),
                    format!("--advertise-client-urls={ETCD}"),
                    format!("--listen-peer-urls={ETCD_PEERS}"),
                    format!("--initial-advertise-peer-urls={ETCD_PEERS}"),
                    format!("--initial-cluster=default={ETCD_PEERS}"),
                    "--unsafe-no-fsync".to_owned(),
                    "--log-level=warn".to_owned(),
                ],
            )?;
        }
        let file = |name: &str| credentials.file(name).display().to_string();
        self.start(
            API_SERVER,
            &self.generation.program(API_SERVER),
            &[
                format!("--etcd-servers={ETCD}"),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--secure-port={API_SERVER_PORT}"),
                format!("--advertise-address={HOST}"),
                format!("--tls-cert-file={}", file("kube-apiserver.crt")),
                format!("--tls-private-key-file={}", file("kube-apiserver.key")),
                format!("--client-ca-file={}", file("ca.crt")),
                format!("--service-account-key-file={}", file("service-accounts.pub")),
                format!("--service-account-signing-key-file={}", file("service-accounts.key")),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
                "--authorization-mode=Node,RBAC".to_owned(),
                "--enable-admission-plugins=NodeRestriction".to_owned(),
                "--enable-bootstrap-token-auth".to_owned(),
                format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
                format!("--kubelet-client-key={}", file("kubelet-client.key")),
                format!("--kubelet-certificate-authority={}", file("ca.crt")),
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
            ],
        )
    }

    /// Starts kube-controller-manager, once the API server is ready; what it signs ends after
    /// `lifetime`, such as `8760h`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_controllers(&mut self, credentials: &Credentials, lifetime: &str) -> Result<()> {
        let file = |name: &str| credentials.file(name).display().to_string();
        let manager = [
            format!("--cluster-signing-duration={lifetime}"),
            format!("--cluster-signing-cert-file={}", file("ca.crt")),
            format!("--cluster-signing-key-file={}", file("ca.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--service-account-private-key-file={}", file("service-accounts.key")),
            "--use-service-account-credentials=true".to_owned(),
            "--secure-port=10257".to_owned(),
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={POD_ADDRESSES}"),
        ];
        self.start_client(CONTROLLER_MANAGER, credentials, &manager)
    }

    /// Starts kube-scheduler, once the API server is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_scheduler(&mut self, credentials: &Credentials) -> Result<()> {
        self.start_client(SCHEDULER, credentials, &["--secure-port=10259".to_owned()])
    }

    fn start_client(
        &mut self,
        program: &'static str,
        credentials: &Credentials,
        more: &[String],
    ) -> Result<()> {
        let common = [
            format!("--kubeconfig={}", credentials.kubeconfig(program).display()),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
        ];
        self.start(program, &self.generation.program(program), &[&common[..], more].concat())
    }

    fn start(&mut self, name: &'static str, program: &Path, arguments: &[String]) -> Result<()> {
        // One that is started again goes on where it ended.
        let log = OpenOptions::new().create(true).append(true).open(self.log(name))?;
        // It goes with its test, even when that is killed and cannot clean up.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        self.running.push((name, child));
        Ok(())
    }

    /// Stops one.
    ///
    /// # Errors
    /// When it does not run, or cannot be stopped.
    pub fn stop(&mut self, program: &str) -> Result<()> {
        let found = self.running.iter().position(|(name, _)| *name == program);
        let (_, mut child) =
            self.running.remove(found.with_context(|| format!("{program} does not run"))?);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// All of them run.
    ///
    /// # Errors
    /// With the last lines of one that has ended.
    pub fn check(&mut self) -> Result<()> {
        for (program, child) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                let log = self.folder.join(format!("{program}.log"));
                let text = fs::read_to_string(&log)?;
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
                bail!("{program} ended ({status}):\n{last}\n(all of it: {})", log.display());
            }
        }
        Ok(())
    }

    fn log(&self, program: &str) -> PathBuf {
        self.folder.join(format!("{program}.log"))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // Those that need the others first.
        for (program, child) in self.running.iter_mut().rev() {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                eprintln!("{program} could not be stopped: {error}");
            }
        }
    }
}
