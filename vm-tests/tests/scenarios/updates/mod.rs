//! Updates, and what goes wrong around them.

mod every_boot_is_counted;
pub mod faults;
mod follows;
mod power_cuts_only_delay;
mod wrong_clock_only_delays;
