//! Tests of staging: real HTTP to a server that misbehaves on demand, and a machine in memory
//! whose disks fail, lie and lose power.

mod devices;
mod firmware;
mod machine;
mod network;
mod nginx;
mod property;
pub(crate) mod release;
mod resume;
mod server;
mod ways;

use std::time::Duration;

use contract::Slot;
use contract::node::settings::NetworkSettings;
use reqwest::Url;
use tokio::sync::watch;

use crate::effects::http::Internet;
use crate::effects::{Http, Network};

use super::{Delivery, Job, Limits, Progress, StageError, Stager};
use machine::{Machine, Place, uki_name};
use release::{Published, noise, publish};
use std::sync::Arc;

/// Bounds that end a test soon; only a server that is silent on purpose meets them.
fn limits() -> Limits {
    Limits {
        connections: 3,
        failures: 4,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
        stall: Duration::from_secs(5),
        window: Duration::from_secs(5),
        window_bytes: 1 << 10,
    }
}

/// For servers that are silent or slow: they are given up soon.
fn impatient() -> Limits {
    let (stall, window) = (Duration::from_millis(150), Duration::from_millis(150));
    Limits { stall, window, failures: 2, ..limits() }
}

fn client() -> Arc<dyn Http> {
    Internet.mirrors(&NetworkSettings::default()).unwrap()
}

async fn stage_within(
    machine: &Arc<Machine>,
    release: &Published,
    mirrors: &[Url],
    limits: Limits,
) -> Result<Delivery, StageError> {
    let stager = Stager::new(machine.effects(), limits);
    let (progress, _) = watch::channel(Progress::default());
    let job = Job {
        offer: &release.offer,
        booted: Some(uki_name()),
        disarmed: machine.disarm(),
        client: client(),
        mirrors,
        progress: &progress,
    };
    stager.stage(job).await
}

async fn stage(
    machine: &Arc<Machine>,
    release: &Published,
    mirrors: &[Url],
) -> Result<Delivery, StageError> {
    stage_within(machine, release, mirrors, limits()).await
}

/// Every byte of the release is on the devices, and lasts.
fn assert_installed(machine: &Machine, release: &Published) {
    let root = machine.durable(Place::TargetRoot);
    assert!(root[..release.root.len()] == release.root, "root");
    let (tree, wanted) = (machine.durable(Place::TargetVerity), release.tree());
    assert!(tree[..wanted.len()] == wanted, "hash tree");
    assert!(machine.durable(Place::Temporary) == release.ukis[&Slot::B], "UKI");
}

/// The error and its causes on one line, as `why` shows them.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// An old release of 2 MiB.
fn old_release() -> Published {
    publish(noise(1, 2 << 20), 1, b"salt")
}

/// The old release with three blocks changed, in two frames, and one block longer.
fn new_release() -> Published {
    let mut root = noise(1, 2 << 20);
    for block in [3, 4, 100] {
        root[block * 4096..][..4096].copy_from_slice(&noise(block as u64, 4096));
    }
    root.extend(noise(77, 4096));
    publish(root, 1, b"salt")
}
