//! A node with nothing in its settings but a cluster, which it has joined.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use testbed::cluster::{Cluster, NODE, NODE_ADDRESS, is_ready};

use crate::machine::{Hardware, Machine};
use crate::{BOOT_SECONDS, artefacts, settings};

/// Starts a control plane, and from `disk` a machine `name` with nothing in its settings but
/// the cluster: joined, Ready, and with a certificate to serve logs with.
///
/// # Errors
/// When one of the two does not start, or the node does not join.
pub fn node(name: &str, disk: &Path) -> Result<(Cluster, Machine)> {
    join(start(name)?, name, disk)
}

/// As [`node`], with certificates of the node that end after `lifetime`.
///
/// # Errors
/// As [`node`].
pub fn node_signed_for(name: &str, disk: &Path, lifetime: Duration) -> Result<(Cluster, Machine)> {
    let mut cluster = start(name)?;
    cluster.sign_for(lifetime)?;
    join(cluster, name, disk)
}

fn start(name: &str) -> Result<Cluster> {
    Cluster::start(&artefacts().join(format!("{name}-cluster")))
}

fn join(cluster: Cluster, name: &str, disk: &Path) -> Result<(Cluster, Machine)> {
    let document = json!({
        "schema": contract::node::settings::SCHEMA,
        "hostname": NODE,
        "kubernetes": cluster.settings(),
    });
    let hardware = Hardware {
        settings: Some(settings::text(&document)?),
        kubelet_address: Some(NODE_ADDRESS.to_owned()),
        ..Hardware::default()
    };
    let machine = Machine::start_with(name, disk, hardware)?;
    cluster.wait_for(&machine, &["node", NODE], BOOT_SECONDS, is_ready)?;
    cluster.approve_serving(BOOT_SECONDS)?;
    Ok((cluster, machine))
}
