//! A node that follows a channel and is a member of a cluster: what scenarios of both begin with.

use anyhow::Result;
use serde_json::Value;

use crate::machine::{Hardware, Machine};
use crate::site::Site;
use crate::{BOOT_SECONDS, artefacts, image, ready, seed, settings};
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
        Self::start_by(name, change, |site, settings, hardware| {
            site.start(&image::test_image()?, settings, hardware)
        })
    }

    /// As [`Member::start`], with the settings on a seed disk.
    ///
    /// # Errors
    /// As [`Member::start`], and when the seed disk cannot be made.
    pub fn start_from_seed_disk(name: &str, change: impl FnOnce(&mut Value)) -> Result<Self> {
        Self::start_by(name, change, |_, settings, hardware| {
            let disk = artefacts().join(format!("{name}-seed.raw"));
            seed::make(&disk, &settings::text(settings)?)?;
            ready::start(name, &image::test_image()?, Hardware { seed: Some(disk), ..hardware })
        })
    }

    fn start_by(
        name: &str,
        change: impl FnOnce(&mut Value),
        power_on: impl FnOnce(&Site, &Value, Hardware) -> Result<Machine>,
    ) -> Result<Self> {
        let site = Site::open(name)?;
        let cluster = Cluster::start(&artefacts().join(format!("{name}-cluster")))?;
        let mut settings = site.settings()?;
        settings["hostname"] = NODE.into();
        settings["kubernetes"] = cluster.settings();
        change(&mut settings);
        let hardware =
            Hardware { kubelet_address: Some(NODE_ADDRESS.to_owned()), ..Hardware::default() };
        let machine = power_on(&site, &settings, hardware)?;
        cluster.wait_for(&machine, &["node", NODE], BOOT_SECONDS, is_ready)?;
        Ok(Self { site, cluster, machine, settings })
    }
}
