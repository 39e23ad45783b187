//! containerd is ready, kubelet is healthy, and a static pod from a preloaded image answers
//! through a forwarded port, on a machine that has no way to any registry.

use anyhow::{Result, ensure};
use vm_tests::machine::{Machine, POD_PORT};
use vm_tests::{BOOT_SECONDS, HEALTHY};

pub fn shows(machine: &mut Machine) -> Result<()> {
    let healthy = machine.wait_for(HEALTHY, BOOT_SECONDS)?;
    let answer = machine.get(POD_PORT, "/", BOOT_SECONDS)?;
    ensure!(answer == b"pod is up\n", "the pod says {:?}", String::from_utf8_lossy(&answer));
    println!("healthy {healthy:.0} s and pod up {:.0} s after power-on", machine.seconds());
    Ok(())
}
