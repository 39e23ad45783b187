//! Even root can neither write to the root file system nor make it writable; only the two
//! CNI folders take files, and only until the next boot.

use anyhow::{Context, Result, ensure};
use vm_tests::machine::Machine;

pub fn shows(machine: &mut Machine) -> Result<()> {
    let outcome = machine.ask("/write-probe")?;
    let attempts = outcome.as_object().context("no attempts")?;
    ensure!(attempts.len() == 9, "attempts: {outcome}");
    for (attempt, result) in attempts {
        let allowed = attempt.contains("/etc/cni/net.d") || attempt.contains("/opt/cni/bin");
        ensure!((*result == "done") == allowed, "{attempt}: {result}");
    }
    Ok(())
}
