//! A node in a real cluster.

mod api_server_outage_is_forgiven;
mod certificates_are_renewed;
mod gvisor_runs_a_pod;
mod minor_update_up_and_back;
mod network_add_on_takes_over;
mod node_drains_itself;
mod node_joins_a_cluster;
mod pod_comes_from_a_mirror;
mod pods_have_what_they_need;
mod tenants_share_a_cluster;
mod wrong_token_is_named;
