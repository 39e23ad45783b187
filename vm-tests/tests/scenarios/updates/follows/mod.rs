//! One node that follows its channel by itself, and then does what its operators say, one file for
//! each.

mod node_follows_its_channel;
mod operators_move_a_node;

use anyhow::Result;
use vm_tests::isolation;
use vm_tests::machine::Hardware;
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, image};

const NAME: &str = "node_follows_and_obeys";

#[test]
fn node_follows_and_obeys() {
    let prepare = || Site::prepare_versions(NAME, 2, "0.1.1");
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let settings = site.settings()?;
    let hardware = Hardware { durable: true, ..Hardware::default() };
    let machine = site.start(&image::test_image()?, &settings, hardware.clone())?;
    site.access.wait_for(&machine, "up", BOOT_SECONDS, |_| true)?;
    operators_move_a_node::only_operators_may_touch(NAME, &site.access)?;
    let machine = node_follows_its_channel::shows(&site, machine, &hardware, &settings)?;
    operators_move_a_node::shows(&site, &machine)
}
