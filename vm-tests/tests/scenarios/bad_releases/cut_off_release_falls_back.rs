//! A release that cuts the node off from its API server, which answers everybody else. The node
//! comes back on the release before, which does hear it, and so the bad one is not forgiven.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::cluster::{self, NODE, is_ready};
use vm_tests::member::Member;
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, isolation, settings};

const NAME: &str = "cut_off_release_falls_back";
const BAD: &str = "0.1.1";
/// Longer than an API server must be silent to be down for everybody.
const OUTAGE: Duration = Duration::from_secs(150);

#[test]
#[ignore = "takes eight minutes: run `make soak`"]
fn cut_off_release_falls_back() {
    let prepare = || {
        cluster::build()?;
        Site::prepare_bad(NAME, "cut-off", BAD)
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let Member { site, cluster, machine, .. } = Member::start(NAME, |settings| {
        settings["health"]["deadline"] = "100s".into();
        settings["health"]["apiServerGrace"] = "20s".into();
    })?;
    site.access.runs(&machine, "0.1.0", BOOT_SECONDS)?;

    site.channel.point(settings::CHANNEL, BAD, &[])?;
    site.access.update();
    let cause = site.access.falls_back(&machine, BAD, 3 * BOOT_SECONDS)?.cause;
    ensure!(cause.starts_with("probe api-server"), "the cause is {cause}");
    cluster.wait_for(&machine, &["node", NODE], BOOT_SECONDS, is_ready)?;

    sleep(OUTAGE);
    let status = site.access.status()?;
    ensure!(status.refused.len() == 1, "it is forgiven: {:?}", status.refused);
    site.access.runs(&machine, "0.1.0", BOOT_SECONDS)?;
    Ok(())
}
