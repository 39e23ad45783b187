//! The first boot adds slot B and the state partition; a second boot adds nothing and keeps
//! machine id and state.

use anyhow::{Result, ensure};
use contract::release::layout::{ROOT_BYTES, VERITY_BYTES};
use serde_json::Value;
use vm_tests::machine::Machine;

/// What the first boot has made; leaves a marker in the state.
pub fn first(machine: &mut Machine) -> Result<Value> {
    let first = machine.ask("/facts")?;
    let partitions = &first["partitions"];
    ensure!(partitions["root-b"] == ROOT_BYTES, "partitions: {partitions}");
    ensure!(partitions["verity-b"] == VERITY_BYTES, "partitions: {partitions}");
    ensure!(partitions["state"].as_u64() > Some(ROOT_BYTES), "partitions: {partitions}");
    let machine_id = first["machine_id"].as_str().unwrap_or_default();
    ensure!(machine_id.len() == 32, "machine id: {machine_id:?}");
    machine.ask("/state?key=marker&write=42")?;
    Ok(first)
}

/// The second boot has kept it.
pub fn second(machine: &mut Machine, first: &Value) -> Result<()> {
    let second = machine.ask("/facts")?;
    ensure!(second["boot_id"] != first["boot_id"], "the machine did not boot again");
    ensure!(second["machine_id"] == first["machine_id"], "{} is new", second["machine_id"]);
    ensure!(
        second["partitions"] == first["partitions"],
        "partitions changed: {}",
        second["partitions"]
    );
    ensure!(machine.ask("/state?key=marker")? == 42, "the state is gone");
    Ok(())
}
