//! A release whose kubelet cannot authenticate: it does not find the node's certificate, and the
//! token with which the node joined has ended. The node comes back on the release before, with
//! that cause, and is Ready again.

use anyhow::{Result, ensure};
use testbed::cluster::{self, NODE, is_ready};
use vm_tests::member::Member;
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, isolation, settings};

const NAME: &str = "kubelet_without_credentials_falls_back";
const BAD: &str = "0.1.1";

#[test]
#[ignore = "takes four minutes: run `make soak`"]
fn kubelet_without_credentials_falls_back() {
    let prepare = || {
        cluster::build()?;
        Site::prepare_bad(NAME, "kubelet-without-credentials", BAD)
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let Member { site, cluster, machine, .. } =
        Member::start(NAME, |settings| settings["health"]["deadline"] = "150s".into())?;
    site.access.runs(&machine, "0.1.0", BOOT_SECONDS)?;
    // Every good cluster ends its tokens soon.
    cluster.kubectl(&["delete", "secret", "--namespace", "kube-system", "--all"])?;

    site.channel.point(settings::CHANNEL, BAD, &[])?;
    site.access.update();
    let cause = site.access.falls_back(&machine, BAD, 3 * BOOT_SECONDS)?.cause;
    ensure!(cause.contains("node-ready"), "the cause is {cause}");
    ensure!(cause.contains("cannot authenticate"), "the cause is {cause}");
    site.access.runs(&machine, "0.1.0", BOOT_SECONDS)?;
    cluster.wait_for(&machine, &["node", NODE], BOOT_SECONDS, is_ready)?;
    Ok(())
}
