//! One node that joins a cluster, with what its seed disk says, and moves to another release with
//! its workload, one file for each promise.

mod node_drains_itself;
mod node_joins_a_cluster;

use anyhow::Result;
use testbed::cluster;
use vm_tests::isolation;
use vm_tests::member::Member;
use vm_tests::site::Site;

const NAME: &str = "node_moves_in_its_cluster";

#[test]
fn node_moves_in_its_cluster() {
    let prepare = || {
        cluster::build()?;
        Site::prepare(NAME, node_drains_itself::fill)
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let mut member = Member::start_from_seed_disk(NAME, node_joins_a_cluster::settings)?;
    let joined = node_joins_a_cluster::shows(&mut member)?;
    node_drains_itself::shows(&member)?;
    node_joins_a_cluster::is_the_same(&member, &joined)
}
