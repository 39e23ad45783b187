//! What a booted image does, one scenario per file, each named for what it shows.
//!
//! Every scenario has a network of its own that holds only loopback, and boots images in QEMU;
//! one runs at a time. `make vm` runs all, `make soak` the long forms.

mod as_it_boots;
mod bad_releases;
mod hostile_channels;
mod in_its_cluster;
mod settings;
mod updates;
