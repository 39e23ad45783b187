//! The image as it boots.

mod first_boot_makes_slot_b_and_state;
mod flipped_byte_is_never_read;
mod node_has_what_updates_need;
mod pod_answers_without_a_registry;
mod root_cannot_be_written;
mod running_files_equal_the_report;
mod secure_boot_is_enforced;
mod unsigned_module_does_not_load;
mod unsigned_or_tampered_boot_files_do_not_boot;
