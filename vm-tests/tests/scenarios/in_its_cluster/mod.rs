//! A node in a real cluster.

mod api_server_outage_is_forgiven;
mod certificates_are_renewed;
mod gvisor_runs_a_pod;
mod minor_update_up_and_back;
mod moves;
mod serves;
mod tenants_share_a_cluster;
