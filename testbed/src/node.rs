//! A node as its operator sees it: asked through `slipway node`, over mutual TLS.
//!
//! **Invariant:** a certificate that this module makes is for loopback, and for one scenario.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use contract::node::api::{Boot, Fallback, Status};
use serde_json::Value;

use crate::addresses::API_PORT;
use crate::console::Console;
use crate::slipway::slipway;
use crate::times::{self, Phase};

/// An operator's access to the node of a scenario.
#[derive(Debug)]
pub struct NodeAccess {
    folder: PathBuf,
    /// Where the node's API is.
    address: Ipv4Addr,
}

impl NodeAccess {
    /// Makes an authority, and certificates of a node, an operator and a reader, in `folder`.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn create(folder: &Path) -> Result<Self> {
        Self::create_for(folder, Ipv4Addr::LOCALHOST)
    }

    /// As [`NodeAccess::create`], for a node at another address of loopback.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn create_for(folder: &Path, address: Ipv4Addr) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let access = Self { folder: fs::canonicalize(folder)?, address };
        let keys = |arguments: &[&str], out: &str| -> Result<()> {
            let mut command = slipway()?;
            command.args(["--quiet", "keys", "access"]).args(arguments);
            if !out.is_empty() {
                command.arg("--out").arg(access.folder.join(out));
            }
            let output = command.output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "`slipway keys access` failed: {said}");
            Ok(())
        };
        let authority = access.folder.join("authority").display().to_string();
        keys(&["new", &authority], "")?;
        let address = address.to_string();
        keys(&["issue", &authority, "--node", "node", "--address", &address], "node")?;
        keys(&["issue", &authority, "--operator", "operator"], "operator")?;
        keys(&["issue", &authority, "--reader", "reader"], "reader")?;
        Ok(access)
    }

    /// Makes access that another authority signed, for somebody who knows this node: its own
    /// authority vouches for it, so that only the node can end the conversation.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn stranger(&self, folder: &Path) -> Result<Self> {
        let stranger = Self::create(folder)?;
        for who in ["operator", "reader"] {
            let authority = Path::new(who).join("ca.pem");
            fs::copy(self.folder.join(&authority), stranger.folder.join(&authority))?;
        }
        Ok(stranger)
    }

    /// What the node's settings say of the API.
    ///
    /// # Errors
    /// When the node's folder is incomplete.
    pub fn api_settings(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.folder.join("node/api.json"))?)?)
    }

    /// Runs `slipway node ARGUMENTS --format json` as the operator.
    ///
    /// # Errors
    /// With what `slipway` says, when it fails.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        self.ask_as("operator", arguments)
    }

    /// As [`NodeAccess::ask`], as `operator` or `reader`.
    ///
    /// # Errors
    /// As [`NodeAccess::ask`].
    pub fn ask_as(&self, who: &str, arguments: &[&str]) -> Result<Value> {
        let printed = self.run_as(who, arguments)?;
        serde_json::from_slice(&printed).context("`slipway node` printed no JSON")
    }

    /// The newest `lines` entries of the node's journal, one in JSON per line.
    ///
    /// # Errors
    /// As [`NodeAccess::ask`].
    pub fn logs(&self, lines: u32) -> Result<String> {
        let printed = self.run_as("operator", &["logs", "--lines", &lines.to_string()])?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    fn run_as(&self, who: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = slipway()?;
        command.args(["--quiet", "--format", "json", "node"]);
        command.arg("--address").arg(format!("https://{}:{API_PORT}", self.address));
        command.arg("--access").arg(self.folder.join(who)).args(arguments);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`slipway node {arguments:?}`: {}", said.trim());
        Ok(output.stdout)
    }

    /// Asks for an update. The node may restart before its answer arrives, so a lost answer is
    /// only told; what follows shows whether it was heard.
    pub fn update(&self) {
        if let Err(error) = self.ask(&["update"]) {
            println!("{error:#}");
        }
    }

    /// The node's status.
    ///
    /// # Errors
    /// As [`NodeAccess::ask`].
    pub fn status(&self) -> Result<Status> {
        Ok(serde_json::from_value(self.ask(&["status"])?)?)
    }

    /// Waits until the node runs `version` and has found it good.
    ///
    /// # Errors
    /// As [`NodeAccess::wait_for`].
    pub fn runs(&self, machine: &dyn Console, version: &str, seconds: u64) -> Result<Status> {
        let there = |status: &Status| {
            status.running.version == version.parse().ok() && status.running.boot == Boot::Blessed
        };
        self.wait_for(machine, version, seconds, there)
    }

    /// Waits until the node has come back from the bad release `bad`, and gives what it tells of that.
    ///
    /// # Errors
    /// After `seconds`, with the last answer and the console's tail.
    pub fn falls_back(&self, machine: &dyn Console, bad: &str, seconds: u64) -> Result<Fallback> {
        let is_back = |status: &Status| {
            status.fallback.as_ref().is_some_and(|fallback| fallback.version == bad.parse().ok())
        };
        let status = self.wait_for(machine, "back", seconds, is_back)?;
        let fallback = status.fallback.context("no fallback")?;
        println!("{:.0} s: back: {}", machine.seconds(), fallback.cause);
        Ok(fallback)
    }

    /// Asks for the status until `wanted` says yes, and gives that status.
    ///
    /// # Errors
    /// After `seconds`, with the last answer and the console's tail.
    pub fn wait_for(
        &self,
        machine: &dyn Console,
        what: &str,
        seconds: u64,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        times::during(Phase::Waiting, || {
            let until = Instant::now() + Duration::from_secs(seconds);
            loop {
                match self.status() {
                    Ok(status) if wanted(&status) => return Ok(status),
                    answer if Instant::now() > until => {
                        let last = answer.map_or_else(|e| format!("{e:#}"), |s| format!("{s:#?}"));
                        bail!("not {what} after {seconds} s; last: {last}\n{}", machine.tail());
                    }
                    _ => sleep(Duration::from_secs(1)),
                }
            }
        })
    }
}
