//! The first boot adds slot B and the state partition; a second boot adds nothing and keeps
//! machine id and state.

use anyhow::{Result, ensure};
use contract::release::layout::{ROOT_BYTES, VERITY_BYTES};
use vm_tests::machine::{Machine, OnReset};
use vm_tests::{image, isolation};

#[test]
fn first_boot_makes_slot_b_and_state() {
    isolation::isolated("first_boot_makes_slot_b_and_state", scenario);
}

fn scenario() -> Result<()> {
    let release = image::test_image()?;
    let mut machine =
        Machine::start("first_boot_makes_slot_b_and_state", &release.join("disk.raw"))?;
    let first = machine.ask("/facts")?;
    let partitions = &first["partitions"];
    ensure!(partitions["root-b"] == ROOT_BYTES, "partitions: {partitions}");
    ensure!(partitions["verity-b"] == VERITY_BYTES, "partitions: {partitions}");
    ensure!(partitions["state"].as_u64() > Some(ROOT_BYTES), "partitions: {partitions}");
    let machine_id = first["machine_id"].as_str().unwrap_or_default().to_owned();
    ensure!(machine_id.len() == 32, "machine id: {machine_id:?}");
    machine.ask("/state?key=marker&write=42")?;

    let folder = machine.cut_power()?;
    let mut machine = Machine::power_on(&folder, OnReset::Boot)?;
    let second = machine.ask("/facts")?;
    ensure!(second["boot_id"] != first["boot_id"], "the machine did not boot again");
    ensure!(second["machine_id"] == machine_id.as_str(), "{} is new", second["machine_id"]);
    ensure!(second["partitions"] == *partitions, "partitions changed: {}", second["partitions"]);
    ensure!(machine.ask("/state?key=marker")? == 42, "the state is gone");
    Ok(())
}
