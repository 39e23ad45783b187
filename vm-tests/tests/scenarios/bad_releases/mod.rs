//! Bad releases, each really built by the builder and published: the node comes back on the
//! old slot without hands, within the tries that the loader counts, knows how far the new one
//! got and why it failed, does not try it again, and takes a good newer one.
//!
//! One file for each release says what is wrong with it. Those that die, and those that nobody
//! judges, are tried three times by the loader; those that are judged, once. Each kind has a machine
//! of its own, and `make test` offers some to another.

mod broken_workload_falls_back;
mod chain;
mod containerd_broken;
mod cut_off_release_falls_back;
mod flipped_block;
mod hangs;
mod healthy_for_a_moment;
mod initrd_hangs;
mod initrd_without_root_module;
mod kernel_panics;
mod kubelet_crash_loops;
mod kubelet_never_healthy;
mod kubelet_without_credentials_falls_back;
mod pid_1_dies;
mod probe_fails;
mod root_hangs;
mod uki_of_another_key_is_not_armed;
mod updater_does_not_start;
mod wrong_root_hash;

use chain::BadRelease;
use vm_tests::isolation;

use crate::updates::faults;

/// One that dies, and one that is judged; then the good one, which network and disk delay. That a
/// deadline ends a boot that does not settle, slipwayd's own tests show.
#[test]
fn bad_releases_and_faults_are_survived() {
    const NAME: &str = "bad_releases_and_faults_are_survived";
    let releases = [kernel_panics::RELEASE, healthy_for_a_moment::RELEASE];
    let scenario = || {
        let (site, mut machine) = chain::survive(NAME, &releases)?;
        faults::only_delay(&site, &mut machine, &chain::good())
    };
    isolation::prepared(NAME, || chain::prepare(NAME, &releases), scenario);
}

#[test]
#[ignore = "takes half an hour: run `make soak`"]
fn releases_that_die_before_a_verdict() {
    chain(
        "releases_that_die_before_a_verdict",
        &[
            kernel_panics::RELEASE,
            hangs::RELEASE,
            flipped_block::RELEASE,
            wrong_root_hash::RELEASE,
            initrd_without_root_module::RELEASE,
            pid_1_dies::RELEASE,
        ],
    );
}

#[test]
#[ignore = "takes half an hour: run `make soak`"]
fn releases_that_are_judged_bad() {
    chain(
        "releases_that_are_judged_bad",
        &[
            containerd_broken::RELEASE,
            healthy_for_a_moment::RELEASE,
            kubelet_crash_loops::RELEASE,
            kubelet_never_healthy::RELEASE,
            probe_fails::RELEASE,
        ],
    );
}

#[test]
#[ignore = "takes half an hour: run `make soak`"]
fn release_that_nobody_judges() {
    chain("release_that_nobody_judges", &[updater_does_not_start::RELEASE]);
}

#[test]
#[ignore = "takes half an hour: run `make soak`"]
fn releases_that_never_come_to_slipwayd() {
    chain("releases_that_never_come_to_slipwayd", &[initrd_hangs::RELEASE, root_hangs::RELEASE]);
}

fn chain(test: &str, releases: &[BadRelease]) {
    let scenario = || {
        let (site, machine) = chain::survive(test, releases)?;
        chain::takes_the_good_one(&site, &machine)
    };
    isolation::prepared(test, || chain::prepare(test, releases), scenario);
}
