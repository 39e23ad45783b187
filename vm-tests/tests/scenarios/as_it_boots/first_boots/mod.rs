//! The first two boots of the image's disk, and all that they show of what was built: one file for
//! each promise. What only looks comes before what tries to change something.
//!
//! The disk after the first boot is the one that other scenarios start from, see
//! [`vm_tests::ready`].

mod another_disk_takes_no_part;
mod first_boot_makes_slot_b_and_state;
mod foreign_words_have_no_effect;
mod kernel_is_hardened;
mod node_has_what_updates_need;
mod pod_answers_without_a_registry;
mod root_cannot_be_written;
mod running_files_equal_the_report;
mod secure_boot_is_enforced;
mod unsigned_module_does_not_load;

use anyhow::Result;
use vm_tests::machine::{Hardware, Machine};
use vm_tests::{BLESSED, BOOT_SECONDS, artefacts, image, isolation, ready};

const NAME: &str = "first_boots_show_what_was_built";

#[test]
fn first_boots_show_what_was_built() {
    isolation::isolated(NAME, scenario);
}

fn scenario() -> Result<()> {
    let release = image::test_image()?;
    let mut machine = Machine::start(NAME, &release.join("disk.raw"))?;
    secure_boot_is_enforced::shows(&mut machine, &release)?;
    pod_answers_without_a_registry::shows(&mut machine)?;
    let first = first_boot_makes_slot_b_and_state::first(&mut machine)?;
    running_files_equal_the_report::shows(&mut machine, &release)?;
    kernel_is_hardened::shows(&mut machine)?;
    unsigned_module_does_not_load::shows(&mut machine, &release)?;
    root_cannot_be_written::shows(&mut machine)?;
    machine.wait_for(BLESSED, BOOT_SECONDS)?;
    println!("{:.0} s: blessed", machine.seconds());

    ready::keep(&machine.power_off(BOOT_SECONDS)?, &release)?;
    let hostile = artefacts().join(format!("{NAME}-hostile.raw"));
    another_disk_takes_no_part::make(&hostile)?;
    let hardware = Hardware {
        other_disks: vec![hostile],
        smbios: foreign_words_have_no_effect::smbios(),
        fw_cfg: foreign_words_have_no_effect::fw_cfg(),
        ..node_has_what_updates_need::hardware()
    };
    let mut machine = ready::start_with_esp(NAME, &release, hardware, |esp| {
        foreign_words_have_no_effect::plant(esp, &release)
    })?;
    first_boot_makes_slot_b_and_state::second(&mut machine, &first)?;
    node_has_what_updates_need::shows(&mut machine)?;
    another_disk_takes_no_part::shows(&mut machine)?;
    foreign_words_have_no_effect::shows(&mut machine)
}
