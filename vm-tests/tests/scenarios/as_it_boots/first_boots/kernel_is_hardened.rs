//! Every line of the image's table of kernel parameters is in force on the running node, and so is every
//! word of the command line that is there to harden it; docs/hardening.md names each. Nobody but those who
//! must listens.

use anyhow::{Context, Result, ensure};
use vm_tests::machine::{Machine, PROBE_PORT};
use vm_tests::{BOOT_SECONDS, listening};

const PARAMETERS: &str =
    include_str!("../../../../../manifests/files/base/etc/sysctl.d/60-hardening.conf");
const DOCUMENT: &str = include_str!("../../../../../docs/hardening.md");
const WORDS: [&str; 9] = [
    "lockdown=integrity",
    "slab_nomerge",
    "init_on_alloc=1",
    "init_on_free=1",
    "page_alloc.shuffle=1",
    "randomize_kstack_offset=on",
    "vsyscall=none",
    "iommu.passthrough=0",
    "iommu.strict=1",
];
/// One of those that a pattern stands for.
const INTERFACES: [&str; 2] = ["default", "lo"];

/// On a node without settings.
pub fn shows(machine: &mut Machine) -> Result<()> {
    let lines = PARAMETERS.lines().filter(|line| !line.starts_with('#'));
    let rows: Vec<_> = lines.filter_map(|line| line.split_once(" = ")).collect();
    ensure!(rows.len() > 25, "only {} parameters", rows.len());
    for (name, wanted) in &rows {
        ensure!(DOCUMENT.contains(&format!("`{name}`")), "docs/hardening.md does not name {name}");
        for name in INTERFACES.map(|interface| name.replace('*', interface)) {
            let path = format!("/read?path=/proc/sys/{}", name.replace('.', "/"));
            let is = String::from_utf8(machine.get(PROBE_PORT, &path, BOOT_SECONDS)?)?;
            ensure!(is.trim() == *wanted, "{name} is {}, not {wanted}", is.trim());
        }
    }
    println!("{} kernel parameters are in force", rows.len());
    let facts = machine.ask("/facts")?;
    let words: Vec<_> = facts["cmdline"].as_str().context("no command line")?.split(' ').collect();
    for word in WORDS {
        ensure!(words.contains(&word), "the command line has no {word}: {words:?}");
        ensure!(DOCUMENT.contains(&format!("`{word}`")), "docs/hardening.md does not name {word}");
    }
    let open = listening::beyond_loopback(machine)?;
    println!("listening: {}", open.iter().cloned().collect::<Vec<_>>().join(", "));
    listening::are_known(&open, &[])
}
