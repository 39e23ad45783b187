//! What surrounds the node of a scenario: a channel behind nginx, with a proxy that can
//! misbehave in front, and an operator's access.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use crate::machine::{Hardware, Machine};
use crate::{artefacts, image, published, ready, settings, workspace};
use testbed::channel::Channel;
use testbed::faulty::{self, FaultyProxy};
use testbed::nginx::{self, Nginx};
use testbed::node::NodeAccess;

/// A channel, its web server, and access to the node.
#[derive(Debug)]
pub struct Site {
    name: String,
    /// The channel.
    pub channel: Channel,
    /// The web server; its log says what the node fetched.
    pub nginx: Nginx,
    /// The proxy that the node fetches through.
    pub proxy: FaultyProxy,
    /// The operator's access.
    pub access: NodeAccess,
}

impl Site {
    /// Makes the channel that [`Site::open`] serves, with the test image and what `fill` puts
    /// into it: on the host as it is, because images are built there.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn prepare(name: &str, fill: impl FnOnce(&Channel) -> Result<()>) -> Result<()> {
        let folder = empty_folder(name)?;
        fill(&published::copy_to(&folder.join("channel"), 0)?)
    }

    /// As [`Site::prepare`], with the test image's next versions, 0.1.1 to 0.1.`newer`, and the
    /// channel pointing at `version`.
    ///
    /// # Errors
    /// When an image cannot be built, or `slipway` fails.
    pub fn prepare_versions(name: &str, newer: u32, version: &str) -> Result<()> {
        let folder = empty_folder(name)?;
        let channel = published::copy_to(&folder.join("channel"), newer)?;
        channel.point(settings::CHANNEL, version, &[])
    }

    /// As [`Site::prepare`], with the bad release `manifests/images/bad/RELEASE.toml` as `version`,
    /// and the channel pointing at the test image still.
    ///
    /// # Errors
    /// As [`Site::prepare_versions`].
    pub fn prepare_bad(name: &str, release: &str, version: &str) -> Result<()> {
        Self::prepare(name, |channel| {
            let manifest = workspace().join(format!("manifests/images/bad/{release}.toml"));
            let out = artefacts().join(format!("{name}-release"));
            channel.publish(&image::build_as(&manifest, &out, Some(version))?)?;
            fs::remove_dir_all(out)?;
            channel.point(settings::CHANNEL, "0.1.0", &[])
        })
    }

    /// Makes an empty channel that [`Site::open`] serves.
    ///
    /// # Errors
    /// When `slipway` fails.
    pub fn make_channel(name: &str) -> Result<Channel> {
        Channel::init(&empty_folder(name)?.join("channel"))
    }

    /// Serves what was prepared.
    ///
    /// # Errors
    /// When a part cannot be made.
    pub fn open(name: &str) -> Result<Self> {
        let folder = folder(name);
        let channel = Channel::at(&folder.join("channel"));
        let nginx = Nginx::serve(&folder.join("nginx"), channel.folder(), nginx::PORT)?;
        let proxy = FaultyProxy::start(faulty::PORT, nginx::PORT)?;
        let access = NodeAccess::create(&folder.join("access"))?;
        Ok(Self { name: name.to_owned(), channel, nginx, proxy, access })
    }

    /// Settings of a node of this site; it does nothing without being told.
    ///
    /// # Errors
    /// When channel or access are incomplete.
    pub fn settings(&self) -> Result<Value> {
        settings::following(&self.channel, faulty::PORT, &self.access)
    }

    /// Starts the node from the ready disk of `release`, with these settings.
    ///
    /// # Errors
    /// When the node would refuse the settings, or the machine does not start.
    pub fn start(&self, release: &Path, settings: &Value, hardware: Hardware) -> Result<Machine> {
        let settings = Some(settings::text(settings)?);
        ready::start(&self.name, release, Hardware { settings, ..hardware })
    }
}

fn empty_folder(name: &str) -> Result<PathBuf> {
    let folder = folder(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Where a site's files are.
fn folder(name: &str) -> PathBuf {
    artefacts().join(format!("{name}-site"))
}
