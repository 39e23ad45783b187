//! A node that follows a channel and is a member of a cluster: what scenarios of both begin with.

use anyhow::Result;
use serde_json::Value;

use crate::machine::{Hardware, Machine};
use crate::site::Site;
use crate::{BOOT_SECONDS, artefacts, image};
use testbed::cluster::{Cluster, NODE, NODE_ADDRESS, is_ready};

/// A node, and what surrounds it.
#[derive(Debug)]
pub struct Member {
    /// Its channel, and an operator's access to it.
    pub site: Site,
    /// Its control plane, which reaches its kubelet.
    pub cluster: Cluster,
    /// The machine.
    pub machine: Machine,
    /// The settings that it started with.
    pub settings: Value,
}

impl Member {
    /// Serves what [`Site::prepare`] has made for the scenario `name`, starts a control plane, and
    /// from the test image a machine with the settings of both, as `change` leaves them. Its Node
    /// is [`NODE`], and Ready.
    ///
    /// # Errors
    /// When a part does not start, or the node does not join.
    pub fn start(name: &str, change: impl FnOnce(&mut Value)) -> Result<Self> {
        let site = Site::open(name)?;
        let cluster = Cluster::start(&artefacts().join(format!("{name}-cluster")))?;
        let mut settings = site.settings()?;
        settings["hostname"] = NODE.into();
        settings["kubernetes"] = cluster.settings();
        change(&mut settings);
        let hardware =
            Hardware { kubelet_address: Some(NODE_ADDRESS.to_owned()), ..Hardware::default() };
        let machine = site.start(&image::test_image()?, &settings, hardware)?;
        cluster.wait_for(&machine, &["node", NODE], BOOT_SECONDS, is_ready)?;
        Ok(Self { site, cluster, machine, settings })
    }
}
