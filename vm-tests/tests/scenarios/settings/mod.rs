//! Where a node's settings come from.

mod clouds_give_settings;
mod seed_disk_gives_settings;
