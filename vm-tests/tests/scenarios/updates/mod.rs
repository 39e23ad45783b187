//! Updates, and what goes wrong around them.

mod disk_faults_only_delay;
mod network_faults_only_delay;
mod node_follows_its_channel;
mod operators_move_a_node;
mod power_cuts_only_delay;
mod wrong_clock_only_delays;
