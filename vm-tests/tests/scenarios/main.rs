//! What a booted image does, one scenario per file, each named for what it shows.
//!
//! Every scenario has a network of its own that holds only loopback, and boots images in QEMU;
//! one runs at a time. `make vm` runs all, `make soak` the long forms.

// The image as it boots.
mod first_boot_makes_slot_b_and_state;
mod flipped_byte_is_never_read;
mod node_has_what_updates_need;
mod pod_answers_without_a_registry;
mod root_cannot_be_written;
mod running_files_equal_the_report;
mod secure_boot_is_enforced;
mod unsigned_module_does_not_load;
mod unsigned_or_tampered_boot_files_do_not_boot;

// Updates, and whatever goes wrong with them.
mod bad_releases;
mod disk_faults_only_delay;
mod hostile_channels;
mod network_faults_only_delay;
mod node_follows_its_channel;
mod operators_move_a_node;
mod power_cuts_only_delay;
mod uki_of_another_key_is_not_armed;
mod wrong_clock_only_delays;

// Settings.
mod clouds_give_settings;
mod seed_disk_gives_settings;

// A real cluster.
mod api_server_outage_is_forgiven;
mod broken_workload_falls_back;
mod certificates_are_renewed;
mod cut_off_release_falls_back;
mod gvisor_runs_a_pod;
mod kubelet_without_credentials_falls_back;
mod minor_update_up_and_back;
mod network_add_on_takes_over;
mod node_drains_itself;
mod node_joins_a_cluster;
mod pod_comes_from_a_mirror;
mod pods_have_what_they_need;
mod tenants_share_a_cluster;
mod wrong_token_is_named;
