//! A real control plane on the host's loopback: etcd, kube-apiserver, kube-controller-manager
//! and kube-scheduler, built from the Go modules that `testbed/control-plane/` pins.
//!
//! Nodes reach it at [`HOST`](crate::addresses::HOST); it reaches a node's kubelet under the
//! node's own address, which the scenario's loopback has too, and which QEMU forwards.
//! **Invariant:** it kills its own processes and nothing else, and listens on loopback alone.

mod approval;
mod credentials;
mod processes;
mod programs;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::addresses::HOST;
use crate::console::Console;
use crate::loopback;
use crate::times::{self, Phase};
use credentials::Credentials;
use processes::Processes;
use programs::{API_SERVER, CONTROLLER_MANAGER, Generation, SCHEDULER};

pub use programs::{build, build_with_older};

/// Port of the API server.
pub const API_SERVER_PORT: u16 = 6443;
/// Address of a node in its own network, and on the scenario's loopback.
pub const NODE_ADDRESS: &str = "10.0.2.15";
/// Addresses that the cluster divides among its nodes, for their pods.
const POD_ADDRESSES: &str = "10.244.0.0/16";
/// Name of the node of a scenario that has one.
pub const NODE: &str = "node-a";
/// A token with which a node may join.
pub const TOKEN: &str = "abcdef.0123456789abcdef";
/// How long the certificates that it signs are valid.
const LIFETIME: &str = "8760h";
/// What the cluster has before a node joins.
const OBJECTS: [&str; 2] = [
    include_str!("../../control-plane/token.yaml"),
    include_str!("../../../docs/cluster/bindings.yaml"),
];
/// Who asks for the certificate that a kubelet serves with.
const SERVING: &str = "kubernetes.io/kubelet-serving";

/// A running control plane, and an administrator's access to it.
#[derive(Debug)]
pub struct Cluster {
    credentials: Credentials,
    processes: Processes,
}

impl Cluster {
    /// Starts a control plane with an empty store; everything of it is in `folder`.
    ///
    /// # Errors
    /// When a program does not start, or the API server is not ready in time.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, Generation::Current)
    }

    /// As [`Cluster::start`], of the minor version before, until [`Cluster::update`].
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_older(folder: &Path) -> Result<Self> {
        Self::start_with(folder, Generation::Older)
    }

    fn start_with(folder: &Path, generation: Generation) -> Result<Self> {
        times::during(Phase::ControlPlane, || {
            loopback::own_address(NODE_ADDRESS)?;
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
            fs::create_dir_all(folder)?;
            let folder = folder.canonicalize()?;
            let credentials = Credentials::create(&folder.join("pki"))?;
            let processes = Processes::new(&folder, generation)?;
            let mut cluster = Self { credentials, processes };
            cluster.start_api_server()?;
            cluster.processes.start_controllers(&cluster.credentials, LIFETIME)?;
            cluster.processes.start_scheduler(&cluster.credentials)?;
            OBJECTS.iter().try_for_each(|objects| cluster.apply(objects))?;
            Ok(cluster)
        })
    }

    /// Signs certificates of nodes that end after `lifetime`, from now on.
    ///
    /// # Errors
    /// When the controller manager does not start again.
    pub fn sign_for(&mut self, lifetime: Duration) -> Result<()> {
        self.processes.stop(CONTROLLER_MANAGER)?;
        let lifetime = format!("{}s", lifetime.as_secs());
        self.processes.start_controllers(&self.credentials, &lifetime)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(180);
        while let Err(error) = self.run(&["get", "--raw", "/readyz"], "") {
            self.processes.check()?;
            ensure!(Instant::now() < until, "the API server is not ready: {error:#}");
            sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Stops the API server, as an outage does. Its store stays.
    ///
    /// # Errors
    /// When it cannot be stopped.
    pub fn stop_api_server(&mut self) -> Result<()> {
        self.processes.stop(API_SERVER)
    }

    /// Replaces an older control plane by the current one, over the same store.
    ///
    /// # Errors
    /// When a program of the one cannot be stopped, or one of the other does not start.
    pub fn update(&mut self) -> Result<()> {
        for program in [SCHEDULER, CONTROLLER_MANAGER, API_SERVER] {
            self.processes.stop(program)?;
        }
        self.processes.generation = Generation::Current;
        self.start_api_server()?;
        self.processes.start_controllers(&self.credentials, LIFETIME)?;
        self.processes.start_scheduler(&self.credentials)
    }

    /// Starts the API server again, with its store.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn start_api_server(&mut self) -> Result<()> {
        self.processes.start_api_server(&self.credentials)?;
        self.wait_until_ready()
    }

    /// The part `kubernetes` of a node's settings, with a good token.
    pub fn settings(&self) -> Value {
        json!({
            "server": format!("https://{HOST}:{API_SERVER_PORT}"),
            "certificateAuthority": self.credentials.authority(),
            "bootstrap": {"token": TOKEN},
            "clusterDns": ["10.96.0.10"],
        })
    }

    /// As [`Cluster::settings`], with another token, in the words of schema 1 of settings.
    pub fn settings_of_schema_1(&self, token: &str) -> Value {
        let mut settings = self.settings();
        if let Some(fields) = settings.as_object_mut() {
            fields.remove("bootstrap");
        }
        settings["bootstrapToken"] = token.into();
        settings
    }

    /// As [`Cluster::settings`], with a client certificate in the place of the token.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn settings_with_certificate(&self) -> Result<Value> {
        let read = |name: &str| fs::read_to_string(self.credentials.file(name));
        let own = json!({"certificate": read("bootstrap.crt")?, "key": read("bootstrap.key")?});
        let mut settings = self.settings();
        settings["bootstrap"] = json!({"clientCertificate": own});
        Ok(settings)
    }

    /// Runs `kubectl ARGUMENTS` and gives what it prints.
    ///
    /// # Errors
    /// With what kubectl says, when it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run(arguments, "")
    }

    /// As [`Cluster::kubectl`], again and again while kubelet has no certificate to answer with.
    ///
    /// # Errors
    /// With what kubectl said last, after `seconds`.
    pub fn kubectl_within(&self, seconds: u64, arguments: &[&str]) -> Result<String> {
        times::during(Phase::Waiting, || {
            let until = Instant::now() + Duration::from_secs(seconds);
            loop {
                match self.kubectl(arguments) {
                    Err(_) if Instant::now() < until => sleep(Duration::from_secs(1)),
                    answer => return answer,
                }
            }
        })
    }

    /// An object, or a list of them, such as `["node", "node-a"]`.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn get(&self, what: &[&str]) -> Result<Value> {
        let text = self.run(&[&["get"], what, &["-o", "json"]].concat(), "")?;
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    /// Applies objects in YAML.
    ///
    /// # Errors
    /// As [`Cluster::kubectl`].
    pub fn apply(&self, objects: &str) -> Result<()> {
        self.run(&["apply", "-f", "-"], objects).map(drop)
    }

    /// Asks until `wanted` says yes to the object, and gives it.
    ///
    /// # Errors
    /// After `seconds`, with the last answer and the console's tail.
    pub fn wait_for(
        &self,
        machine: &dyn Console,
        what: &[&str],
        seconds: u64,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        times::during(Phase::Waiting, || {
            let until = Instant::now() + Duration::from_secs(seconds);
            loop {
                match self.get(what) {
                    Ok(object) if wanted(&object) => return Ok(object),
                    last if Instant::now() > until => {
                        let last =
                            last.map_or_else(|e| format!("{e:#}"), |o| o["status"].to_string());
                        bail!(
                            "{what:?} is not there after {seconds} s: {last}\n{}",
                            machine.tail()
                        );
                    }
                    _ => sleep(Duration::from_millis(500)),
                }
            }
        })
    }

    /// Approves what kubelets serve with, once each has asked in its own name, for that name and
    /// its own addresses: the control plane itself never does.
    ///
    /// # Errors
    /// When there is no request after `seconds`, or one for more than a node may have.
    pub fn approve_serving(&self, seconds: u64) -> Result<()> {
        times::during(Phase::Waiting, || {
            let until = Instant::now() + Duration::from_secs(seconds);
            loop {
                let requests = self.get(&["certificatesigningrequests"])?;
                let requests = requests["items"].as_array().cloned().unwrap_or_default();
                let serving =
                    requests.iter().filter(|found| found["spec"]["signerName"] == SERVING);
                let waiting: Vec<&Value> =
                    serving.filter(|found| found["status"]["conditions"].is_null()).collect();
                for request in &waiting {
                    let node = self.get(&["node", approval::asker(request)?])?;
                    approval::check(request, &node)?;
                    let name =
                        request["metadata"]["name"].as_str().context("a request without a name")?;
                    self.kubectl(&["certificate", "approve", name])?;
                }
                if !waiting.is_empty() {
                    return Ok(());
                }
                ensure!(Instant::now() < until, "no kubelet asked for a serving certificate");
                sleep(Duration::from_millis(500));
            }
        })
    }

    /// `kubectl ARGUMENTS` as the administrator, not yet running.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs::folder().join("kubectl"));
        command.arg("--kubeconfig").arg(self.credentials.kubeconfig("admin")).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut kubectl = self
            .kubectl_command(&[&["--request-timeout", "20s"], arguments].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kubectl")?;
        // It may end before it has read all; then its own message says why.
        let sent = kubectl.stdin.take().context("no input")?.write_all(input.as_bytes());
        let output = kubectl.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`kubectl {}`: {}", arguments.join(" "), said.trim());
        sent?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// True when a Node or a Pod is Ready by its conditions.
pub fn is_ready(object: &Value) -> bool {
    has_condition(object, "Ready")
}

/// True when an object has a condition of this type.
pub fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|found| found["type"] == kind && found["status"] == "True")
}
