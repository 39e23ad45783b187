//! A channel made by the `slipway` binary, as its operators would.
//!
//! **Invariant:** nothing here writes into a channel but that program; a scenario that forges
//! metadata does so itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::slipway::{DEVELOPMENT_KEYS, slipway};
use crate::times::{self, Phase};

/// Compression level: tests want speed.
const LEVEL: &str = "1";

/// A folder that a web server can serve.
#[derive(Debug)]
pub struct Channel {
    folder: PathBuf,
    keys: PathBuf,
}

impl Channel {
    /// A new channel in `folder`, signed by the development keys.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn init(folder: &Path) -> Result<Self> {
        Self::init_with(folder, Path::new(DEVELOPMENT_KEYS))
    }

    /// A new channel in `folder`, signed by the keys of the folder `keys`.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn init_with(folder: &Path, keys: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let channel = Self { folder: folder.to_owned(), keys: keys.to_owned() };
        channel.run(&["channel", "init"], &[])?;
        Ok(channel)
    }

    /// The channel that is in `folder`, signed by the development keys.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), keys: DEVELOPMENT_KEYS.into() }
    }

    /// The same channel, for somebody who has the keys of the folder `keys`.
    pub fn with_keys(&self, keys: &Path) -> Self {
        Self { folder: self.folder.clone(), keys: keys.to_owned() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The root of trust that a node's settings carry.
    ///
    /// # Errors
    /// When it is missing.
    pub fn root(&self) -> Result<Value> {
        let file = self.folder.join("root.json");
        let bytes = fs::read(&file).with_context(|| format!("{}", file.display()))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Publishes a release folder, fast.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn publish(&self, release: &Path) -> Result<()> {
        self.publish_with(release, &["--level", LEVEL])
    }

    /// Publishes a release folder; `more` are further arguments.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn publish_with(&self, release: &Path, more: &[&str]) -> Result<()> {
        let release = release.canonicalize()?.display().to_string();
        self.run(&["publish"], &[&[release.as_str()], more].concat())
    }

    /// Points the channel `name` at a release; `more` are further arguments.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn point(&self, name: &str, version: &str, more: &[&str]) -> Result<()> {
        self.run(&["channel", "set"], &[&[name, version], more].concat())
    }

    /// Puts a node group, whose specification is `spec` as YAML, into the channel.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn group(&self, name: &str, spec: &str) -> Result<()> {
        let file = self.folder.with_extension(format!("{name}.yaml"));
        let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
        let text = format!(
            "apiVersion: slipway.dev/v1alpha1\nkind: NodeGroup\nmetadata:\n  name: {name}\n\
             spec:\n{indented}"
        );
        fs::write(&file, text)?;
        self.run(&["group", "set"], &[name, "-f", &file.display().to_string()])
    }

    /// Signs what would expire anew; `more` are further arguments.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn refresh(&self, more: &[&str]) -> Result<()> {
        self.run(&["channel", "refresh"], more)
    }

    /// Renews the root, or replaces keys; `more` are further arguments.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn rotate(&self, more: &[&str]) -> Result<()> {
        self.run(&["keys", "rotate"], more)
    }

    /// Makes keys in the new folder `keys` that no channel knows.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn make_keys(keys: &Path) -> Result<()> {
        let status = slipway()?.args(["--quiet", "keys", "new"]).arg(keys).status()?;
        ensure!(status.success(), "`slipway keys new` failed; see above");
        Ok(())
    }

    /// `slipway VERB… FOLDER MORE… --keys KEYS`.
    fn run(&self, verbs: &[&str], more: &[&str]) -> Result<()> {
        let mut command = slipway()?;
        command.arg("--quiet").args(verbs).arg(&self.folder).args(more);
        command.arg("--keys").arg(&self.keys);
        let status = times::during(Phase::Publishing, || command.stdout(Stdio::null()).status())?;
        ensure!(status.success(), "`slipway {}` failed; see above", verbs.join(" "));
        Ok(())
    }
}
